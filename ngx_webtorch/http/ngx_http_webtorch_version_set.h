
/* Versions of models that a request's calls use. */


#ifndef _NGX_HTTP_WEBTORCH_VERSION_SET_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_VERSION_SET_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/*
 * By "model=" of the location, and by a version of a function in the inference
 * protocol; NGX_DECLINED: ctx->layout has it, or an HTTP status.
 */
ngx_int_t ngx_http_webtorch_version_set_of_model(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_http_complex_value_t *model);
ngx_int_t ngx_http_webtorch_version_set_of_function(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler,
    ngx_str_t *version);


#endif /* _NGX_HTTP_WEBTORCH_VERSION_SET_H_INCLUDED_ */
