
/* The content handler of locations whose handler is one of streams. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_CONTENT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_CONTENT_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_stream.h"


ngx_int_t ngx_http_webtorch_stream_handler(ngx_http_request_t *r);

/*
 * Creates ctx->stream, which is released with the request; or returns what the
 * request's handler returns.
 */
ngx_int_t ngx_http_webtorch_stream_new(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_CONTENT_H_INCLUDED_ */
