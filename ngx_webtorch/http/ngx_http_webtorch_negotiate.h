
/* The formats of a body and of its answer, by the headers of the request. */


#ifndef _NGX_HTTP_WEBTORCH_NEGOTIATE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_NEGOTIATE_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/*
 * Sets ctx->formats, ctx->wire and the shape that a header has.
 * NGX_DECLINED: both formats are known; a @webtorch.handler also gets other
 * bodies, and its ctx->formats.out may be NULL.
 */
ngx_int_t ngx_http_webtorch_negotiate(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/* negotiates the format of the body alone; tensor functions only */
ngx_int_t ngx_http_webtorch_negotiate_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/*
 * Decodes a body of ctx->formats.in with a schema that may have fewer inputs
 * than the handler's; called in any thread.
 */
int ngx_http_webtorch_decode_format(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_error_t *err);


#endif /* _NGX_HTTP_WEBTORCH_NEGOTIATE_H_INCLUDED_ */
