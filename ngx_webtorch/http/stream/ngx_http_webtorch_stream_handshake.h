
/* The handshake of a WebSocket, RFC 6455. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_H_INCLUDED_


#include <ngx_http.h>


typedef struct {
    ngx_str_t   key;
    ngx_str_t   protocol;                 /* that was chosen; or empty */
    ngx_uint_t  window;                   /* bits, of answers with permessage-
                                             deflate; 0: it is not used */
    ngx_uint_t  named;                    /* the client has named the bits */
} ngx_http_webtorch_stream_handshake_t;


/* NULL: the request is a handshake, and the key is set; or why it is none */
const char *ngx_http_webtorch_stream_handshake_check(ngx_http_request_t *r,
    ngx_http_webtorch_stream_handshake_t *handshake);

/*
 * Whether pages of its origin may connect: of the list, or if that is empty, of
 * the same host and port.  A client that is no browser sends no origin.
 */
ngx_uint_t ngx_http_webtorch_stream_handshake_allowed(ngx_http_request_t *r,
    ngx_str_t *origins);

/* chooses the first of the client's subprotocols that is one of the server's */
void ngx_http_webtorch_stream_handshake_choose(ngx_http_request_t *r,
    ngx_str_t *protocols, ngx_str_t *chosen);

/* accepts the client's first offer of permessage-deflate, RFC 7692, if any */
ngx_int_t ngx_http_webtorch_stream_handshake_extend(ngx_http_request_t *r,
    ngx_http_webtorch_stream_handshake_t *handshake);

/* adds the headers of the answer */
ngx_int_t ngx_http_webtorch_stream_handshake_accept(ngx_http_request_t *r,
    ngx_http_webtorch_stream_handshake_t *handshake);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_H_INCLUDED_ */
