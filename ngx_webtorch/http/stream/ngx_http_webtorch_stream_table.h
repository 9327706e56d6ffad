
/* The streams of a handler in a worker, and the rows of their states. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_TABLE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_TABLE_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/* NGX_BUSY: there are "max_streams" already; NGX_ERROR: no memory */
ngx_int_t ngx_http_webtorch_stream_create(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_stream_t **stream);

/* open has returned: close is to be called */
void ngx_http_webtorch_stream_opened(ngx_http_webtorch_stream_t *st);

/* makes a stream of a record that has expired: close is called */
ngx_int_t ngx_http_webtorch_stream_adopt(ngx_webtorch_handler_t *handler,
    ngx_webtorch_claim_t *claim);

/*
 * Adds a call that is not one of a chunk, and owns the request, which is freed
 * if there is no memory; done may be NULL: no stream waits.
 */
ngx_int_t ngx_http_webtorch_stream_add_request(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_runner_t *runner, webtorch_request_t *request,
    void (*done)(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job));

/*
 * The request has ended: the rows are free again once no call uses them and,
 * if the handler has one, its close function was called.
 */
void ngx_http_webtorch_stream_release(ngx_http_webtorch_stream_t *st);

/* adds a stream with a record, whose head was sent, to those of this worker */
void ngx_http_webtorch_stream_enlist(ngx_http_webtorch_stream_t *st);

/* calls a function for each of them, which may end any of them */
void ngx_http_webtorch_stream_each(
    void (*call)(ngx_http_webtorch_stream_t *st));


#endif /* _NGX_HTTP_WEBTORCH_STREAM_TABLE_H_INCLUDED_ */
