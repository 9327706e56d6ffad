
/* A stream whose chunks are messages of a WebSocket. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_WEBSOCKET_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_WEBSOCKET_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/*
 * A GET by its headers: NGX_DECLINED: it is a handshake; otherwise it is
 * refused, the request's handler returns the same.
 */
ngx_int_t ngx_http_webtorch_stream_websocket_check(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st);

/* after that; returns what the request's handler returns */
ngx_int_t ngx_http_webtorch_stream_websocket(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_WEBSOCKET_H_INCLUDED_ */
