
/* webtorch_handler, and how other protocols are served. */


#ifndef _NGX_HTTP_WEBTORCH_CONTENT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CONTENT_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


ngx_int_t ngx_http_webtorch_content_handler(ngx_http_request_t *r);

/*
 * By the headers, with ctx->handler set; sets ctx->coding.  NGX_DECLINED: the
 * handler takes another request and the body's compression is known.
 */
ngx_int_t ngx_http_webtorch_content_admit(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/* reads the body, decodes it, waits for the handler and answers */
ngx_int_t ngx_http_webtorch_content_serve(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_CONTENT_H_INCLUDED_ */
