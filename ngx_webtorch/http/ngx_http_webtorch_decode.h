
/*
 * Large bodies are inflated and decoded in a thread.
 */


#ifndef _NGX_HTTP_WEBTORCH_DECODE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_DECODE_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/*
 * A large body, in a thread: it is inflated, decoded or both.  NGX_AGAIN: the
 * request waits; NGX_DECLINED: the event loop is to do it; or an HTTP status.
 */
ngx_int_t ngx_http_webtorch_decode_later(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);

/* the write event handler of a request that waits for the thread */
void ngx_http_webtorch_decoded(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_DECODE_H_INCLUDED_ */
