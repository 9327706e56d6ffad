
/* A chunk of a stream becomes a row of the handler's open batch. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_CHUNK_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_CHUNK_H_INCLUDED_


#include "ngx_http_webtorch_stream_encode.h"


/*
 * Decodes st->message and adds it as a job, which calls st->answered(); a large
 * one is decoded in a thread, and st->decoded() is called when it is added.
 * NGX_ERROR: st->err is set, nothing was added.
 */
ngx_int_t ngx_http_webtorch_stream_add_chunk(ngx_http_webtorch_stream_t *st);

/*
 * From within answered(): adds the answer.  NGX_AGAIN: a thread encodes it, and
 * st->encoded() is called; NGX_ERROR: st->err is set.
 */
ngx_int_t ngx_http_webtorch_stream_chunk_answer(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job);

/* the answer was added; NGX_ERROR: st->err is set */
ngx_int_t ngx_http_webtorch_stream_chunk_end(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_result_t *result);

/*
 * From within answered(), of a chunk that has not failed: the states are those
 * of this chunk from now on.  Returns 1 if it was the stream's last one.
 */
ngx_uint_t ngx_http_webtorch_stream_chunk_done(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job);

/*
 * Of a job that has failed, or NULL if it was not done in time: sets st->err,
 * and st->failure if the function raised an error for the client,
 * and returns NGX_ERROR; both are valid until answered()
 * returns.
 */
ngx_int_t ngx_http_webtorch_stream_chunk_failed(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_CHUNK_H_INCLUDED_ */
