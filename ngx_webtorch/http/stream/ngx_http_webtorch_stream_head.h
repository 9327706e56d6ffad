
/* The head of a stream's answer. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_HEAD_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_HEAD_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/*
 * From within start(): sends the head, before the first chunk is there.
 * NGX_DONE: the request is finalized.
 */
ngx_int_t ngx_http_webtorch_stream_send_head(ngx_http_webtorch_stream_t *st);

/*
 * The request ends without the stream's own answer, for example with one of
 * another location: "error_page".
 */
void ngx_http_webtorch_stream_finalize(ngx_http_request_t *r, ngx_int_t rc);

/* flushes a head that is sent already; returns the same */
ngx_int_t ngx_http_webtorch_stream_flush_head(ngx_http_webtorch_stream_t *st);

/* adds headers of all streams that the answer does not have */
ngx_int_t ngx_http_webtorch_stream_add_defaults(ngx_http_request_t *r);

/* sets the timer and the event of a client that reads more slowly */
ngx_int_t ngx_http_webtorch_stream_wait_write(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_HEAD_H_INCLUDED_ */
