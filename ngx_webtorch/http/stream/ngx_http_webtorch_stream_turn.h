
/*
 * Streams without chunks: the next call of each begins before the answers to
 * the calls before are sent, so that a thread computes meanwhile, and those of
 * a generate function are one call.
 */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_TURN_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_TURN_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/* calls st->produce() and sends in the next iteration of the event loop */
void ngx_http_webtorch_stream_turn(ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_TURN_H_INCLUDED_ */
