
/* The formats of a body and of its answer, by the headers of the request. */


#ifndef _NGX_HTTP_WEBTORCH_NEGOTIATE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_NEGOTIATE_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/*
 * Sets ctx->in, ctx->out, ctx->wire and the shape that a header has.
 * NGX_DECLINED: both formats are known; a @webtorch.handler also gets other
 * bodies, and its ctx->out may be NULL.
 */
ngx_int_t ngx_http_webtorch_negotiate(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);


#endif /* _NGX_HTTP_WEBTORCH_NEGOTIATE_H_INCLUDED_ */
