
/* Streams with "resume": their records in the zone, and clients that return. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_RESUME_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_RESUME_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/*
 * The record of a new stream, or that of the id in the request.  Returns what
 * the request's handler is to return, or NGX_DECLINED: the stream begins; a
 * WebSocket may have been refused, with st->err.
 */
ngx_int_t ngx_http_webtorch_stream_join(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st);

/* a chunk gets the current states; NGX_ERROR: as for commit */
ngx_int_t ngx_http_webtorch_stream_get_states(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink);

/* from within answered(): the states after a chunk */
void ngx_http_webtorch_stream_new_states(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job, const void **states);

/*
 * Stores the states after a chunk, and its answer, which was added last.
 * NGX_ERROR: another client has the stream, st->err is set.
 */
ngx_int_t ngx_http_webtorch_stream_commit(ngx_http_webtorch_stream_t *st,
    const void **states, ngx_uint_t done);

/* chunks that are done */
uint64_t ngx_http_webtorch_stream_offset(ngx_http_webtorch_stream_t *st);

/* sets st->err; NGX_ERROR */
ngx_int_t ngx_http_webtorch_stream_taken_over(ngx_http_webtorch_stream_t *st);

/* ends a stream that another client has, or whose worker exits */
void ngx_http_webtorch_stream_come_back(ngx_http_webtorch_stream_t *st);

/*
 * Adds answers that the client does not have, as many as are sent at once, and
 * sets replaying to 0 after the last one; the stream has ended if no chunk may
 * follow.  NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_webtorch_stream_replay(ngx_http_webtorch_stream_t *st);

/* whether the stream, which ends with err, is over for its client, too */
ngx_uint_t ngx_http_webtorch_stream_is_fatal(ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_RESUME_H_INCLUDED_ */
