
/*
 * Files of torch.save(): Python converts them to a format of codecs.
 */


#ifndef _NGX_HTTP_WEBTORCH_LOAD_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_LOAD_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/* NGX_DECLINED: files are allowed, and the handler that loads them has room */
ngx_int_t ngx_http_webtorch_load_allowed(ngx_http_request_t *r);

/* NGX_AGAIN: the request waits; or an HTTP status */
ngx_int_t ngx_http_webtorch_load(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);


#endif /* _NGX_HTTP_WEBTORCH_LOAD_H_INCLUDED_ */
