
/* Bodies of tensors are decoded into rows, large ones in a thread. */


#ifndef _NGX_HTTP_WEBTORCH_DECODE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_DECODE_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/*
 * Decodes a body that is not compressed and adds its rows to the batch;
 * NGX_AGAIN: the request waits, for the batch or, with r->aio set, for a
 * thread; or an HTTP status.
 */
ngx_int_t ngx_http_webtorch_decode_add(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);

/*
 * Inflates a large body, decodes it or both, in a thread; body NULL: it is
 * copied there first.  NGX_AGAIN: the request waits with r->aio set, and
 * ctx->decoded is called when the thread has finished; NGX_DECLINED: the body
 * is not large, or no thread may be used; or an HTTP status.
 */
ngx_int_t ngx_http_webtorch_decode_post(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);

/*
 * When the thread has finished: adds the rows; NGX_AGAIN: the request waits for
 * the batch; NGX_DECLINED: the body is set, it was only inflated; or an HTTP
 * status.
 */
ngx_int_t ngx_http_webtorch_decode_finish(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);


#endif /* _NGX_HTTP_WEBTORCH_DECODE_H_INCLUDED_ */
