
/*
 * The answer of a @webtorch.handler.
 */


#ifndef _NGX_HTTP_WEBTORCH_REPLY_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_REPLY_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/* the reply must live as long as the request */
ngx_int_t ngx_http_webtorch_send_reply(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply);

/* adds the reply's headers to an answer that is not sent yet */
ngx_int_t ngx_http_webtorch_add_reply_headers(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply);


#endif /* _NGX_HTTP_WEBTORCH_REPLY_H_INCLUDED_ */
