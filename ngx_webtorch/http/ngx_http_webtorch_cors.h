
/*
 * webtorch_cors: which pages of other origins may use a location.
 */


#ifndef _NGX_HTTP_WEBTORCH_CORS_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CORS_H_INCLUDED_


#include "ngx_http_webtorch.h"


char *ngx_http_webtorch_conf_cors(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* installs the answer to preflights and the filter of headers */
ngx_int_t ngx_http_webtorch_cors_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_WEBTORCH_CORS_H_INCLUDED_ */
