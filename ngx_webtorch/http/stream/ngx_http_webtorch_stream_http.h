
/* A stream whose chunks are in the body of a request. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_HTTP_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_HTTP_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/*
 * NGX_DECLINED: the body can be read, though another location may have begun to
 * read it; otherwise what the request's handler returns.
 */
ngx_int_t ngx_http_webtorch_stream_http_check(ngx_http_request_t *r);

/* of negotiated formats; returns what the request's handler returns */
ngx_int_t ngx_http_webtorch_stream_http(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_HTTP_H_INCLUDED_ */
