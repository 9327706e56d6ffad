
/*
 * Headers of a request, and of its answer.
 */


#ifndef _NGX_HTTP_WEBTORCH_HEADER_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_HEADER_H_INCLUDED_


#include <ngx_http.h>


/* by a name in lower case, the first of several; NULL: none */
ngx_str_t *ngx_http_webtorch_find_header(ngx_http_request_t *r,
    const char *name);

/* name and value are not copied */
ngx_int_t ngx_http_webtorch_add_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value);


#endif /* _NGX_HTTP_WEBTORCH_HEADER_H_INCLUDED_ */
