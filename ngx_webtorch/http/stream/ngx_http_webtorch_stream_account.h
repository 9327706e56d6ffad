
/* The bytes of a stream's chunk and answers count in queue_size=. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_ACCOUNT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_ACCOUNT_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/*
 * Bytes of a message as they are counted: none of a small one, so that streams
 * that wait do not refuse a large request.
 */
size_t ngx_http_webtorch_stream_counted(ngx_webtorch_message_t *m);

/* counts what the stream has now; answers are never refused */
void ngx_http_webtorch_stream_count(ngx_http_webtorch_stream_t *st);

/*
 * The same after a part of a chunk was read; NGX_ERROR: it is one too many for
 * the worker, st->err is set.
 */
ngx_int_t ngx_http_webtorch_stream_count_chunk(ngx_http_webtorch_stream_t *st);

/* no chunk is read any more, and the request may live on for long */
void ngx_http_webtorch_stream_drop_message(ngx_http_webtorch_stream_t *st);

/* frees a message, a large one in a thread */
void ngx_http_webtorch_stream_free_message(ngx_webtorch_message_t *m);

/* the same of a large message alone: a small one's memory is used again */
void ngx_http_webtorch_stream_free_large(ngx_webtorch_message_t *m);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_ACCOUNT_H_INCLUDED_ */
