
/* The content handler of locations whose handler generates. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_GENERATE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_GENERATE_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_stream.h"


ngx_int_t ngx_http_webtorch_stream_generate_handler(ngx_http_request_t *r);

/*
 * For other protocols: creates the stream, whose format is to be set.
 * NGX_DECLINED: it is there, and ctx->handler is the opener; or a status.
 */
ngx_int_t ngx_http_webtorch_stream_generate_create(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler);

/* after the request's tensors are decoded, in any thread; -1: err is set */
int ngx_http_webtorch_stream_generate_decoded(ngx_http_webtorch_ctx_t *ctx,
    ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err);

/* see ngx_webtorch_handler_t */
void ngx_http_webtorch_stream_generate_describe(ngx_webtorch_handler_t *handler,
    webtorch_schema_t *schema);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_GENERATE_H_INCLUDED_ */
