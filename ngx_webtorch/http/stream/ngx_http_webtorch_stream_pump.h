
/* The life of a stream: open, chunk, answer, the next chunk, end. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_PUMP_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_PUMP_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/* takes over the events of the connection, and opens the stream */
void ngx_http_webtorch_stream_begin(ngx_http_webtorch_stream_t *st);

/* takes over the events of a connection whose request has been read */
void ngx_http_webtorch_stream_answer_only(ngx_http_webtorch_stream_t *st);

/*
 * Sends what can be sent, and takes the next chunk if there is one.  The
 * request may be finalized, and the stream freed, when this returns.
 */
void ngx_http_webtorch_stream_pump(ngx_http_webtorch_stream_t *st);

/*
 * The client is to come back to another worker, or its stream has another
 * client: it ends now, or after the answer that is waited for.
 */
void ngx_http_webtorch_stream_stop(ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_PUMP_H_INCLUDED_ */
