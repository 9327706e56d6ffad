
/*
 * The parameters "shadow=", "shadow_rate=" and "shadow_tolerance=" of
 * webtorch_handler.
 */


#ifndef _NGX_HTTP_WEBTORCH_SHADOW_CONF_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_SHADOW_CONF_H_INCLUDED_


#include "ngx_http_webtorch.h"


/* whether a parameter is one of the three */
ngx_uint_t ngx_http_webtorch_shadow_is_option(ngx_str_t *option);

/* parses it; an error is logged */
char *ngx_http_webtorch_shadow_option(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_str_t *option);

/* all parameters of the handler were parsed */
char *ngx_http_webtorch_shadow_finish(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf);

/* a shadow has what is inherited from other levels, as its location has it */
void ngx_http_webtorch_shadow_merge(ngx_http_webtorch_loc_conf_t *wlcf);


#endif /* _NGX_HTTP_WEBTORCH_SHADOW_CONF_H_INCLUDED_ */
