
/* Pings of event streams whose clients send nothing. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_PING_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_PING_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/*
 * Begins when the head is sent.  st->since is to be set with each answer: a
 * timer for each of them would cost more than they do.
 */
void ngx_http_webtorch_stream_ping_start(ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_PING_H_INCLUDED_ */
