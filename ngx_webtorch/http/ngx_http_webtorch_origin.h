
/*
 * Origins of pages, the parameters of webtorch_cors.
 */


#ifndef _NGX_HTTP_WEBTORCH_ORIGIN_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_ORIGIN_H_INCLUDED_


#include "ngx_http_webtorch.h"


typedef struct {
    ngx_str_t      text;                  /* with a "*": what follows it */
    ngx_str_t      prefix;                /* what is in front of the "*" */
#if (NGX_PCRE)
    ngx_regex_t   *regex;                 /* NULL: a text */
#endif
} ngx_http_webtorch_origin_t;


/* returns NGX_CONF_OK, or what is wrong as the handler of a directive does */
char *ngx_http_webtorch_origin_parse(ngx_conf_t *cf,
    ngx_http_webtorch_origin_t *origin, ngx_str_t *text);

/* returns 1 if a header Origin is this origin, or one of these origins */
ngx_uint_t ngx_http_webtorch_origin_fits(ngx_http_webtorch_origin_t *origin,
    ngx_str_t *text);


#endif /* _NGX_HTTP_WEBTORCH_ORIGIN_H_INCLUDED_ */
