
/*
 * webtorch_openapi: a document of the functions of a server.
 */


#ifndef _NGX_HTTP_WEBTORCH_OPENAPI_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_OPENAPI_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_handler.h"


ngx_int_t ngx_http_webtorch_openapi_add_variables(ngx_conf_t *cf);

/* adds the location that is being read to those of its server */
ngx_int_t ngx_http_webtorch_openapi_add(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler);


#endif /* _NGX_HTTP_WEBTORCH_OPENAPI_H_INCLUDED_ */
