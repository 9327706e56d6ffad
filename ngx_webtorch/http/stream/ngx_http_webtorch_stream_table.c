
#include "ngx_http_webtorch_stream_table.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_runner.h"

#include <sys/random.h>


struct ngx_http_webtorch_streams_s {
    ngx_uint_t    n;                      /* streams, with ended ones whose rows
                                             are still in use */
    uint32_t      next;                   /* a row that was never used */
    uint32_t     *free;                   /* rows that were */
    ngx_uint_t    nfree;
    ngx_uint_t    size;
};


static ngx_http_webtorch_streams_t *ngx_http_webtorch_streams_get(
    ngx_webtorch_handler_t *handler);
static uint32_t ngx_http_webtorch_streams_take(
    ngx_http_webtorch_streams_t *streams);
static ngx_int_t ngx_http_webtorch_stream_set_id(ngx_http_webtorch_stream_t *st,
    ngx_log_t *log);
static void ngx_http_webtorch_stream_released(ngx_webtorch_job_owner_t *owner,
    webtorch_job_t *job);
static void ngx_http_webtorch_stream_over_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_webtorch_stream_close(ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_free(ngx_http_webtorch_stream_t *st);


ngx_int_t
ngx_http_webtorch_stream_create(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_stream_t **stream)
{
    ngx_http_webtorch_stream_t   *st;
    ngx_http_webtorch_streams_t  *streams;

    streams = ngx_http_webtorch_streams_get(handler);
    if (streams == NULL) {
        return NGX_ERROR;
    }

    if (streams->n >= handler->max_streams) {
        return NGX_BUSY;
    }

    st = ngx_calloc(sizeof(ngx_http_webtorch_stream_t), r->connection->log);
    if (st == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_webtorch_stream_set_id(st, r->connection->log) != NGX_OK) {
        ngx_free(st);
        return NGX_ERROR;
    }

    st->request = r;
    st->since = ngx_current_msec;
    st->handler = handler;
    st->conf = handler->data;
    st->streams = streams;
    st->owner.released = ngx_http_webtorch_stream_released;

    /* not that of the connection, which the stream may outlive */

    ngx_webtorch_timer_init(&st->over, ngx_http_webtorch_stream_over_handler,
                            st, ngx_cycle->log);

    st->places[0] = ngx_http_webtorch_streams_take(streams);
    st->places[1] = ngx_http_webtorch_streams_take(streams);
    st->write = st->places[0];

    streams->n++;
    *stream = st;

    if (handler->metrics) {
        ngx_webtorch_metrics_add(&handler->metrics->streams, 1);
        ngx_webtorch_metrics_add(&handler->metrics->open, 1);
    }

    return NGX_OK;
}


static ngx_http_webtorch_streams_t *
ngx_http_webtorch_streams_get(ngx_webtorch_handler_t *handler)
{
    ngx_http_webtorch_streams_t  *streams;

    if (handler->streams == NULL) {

        streams = ngx_calloc(sizeof(ngx_http_webtorch_streams_t),
                             ngx_cycle->log);
        if (streams == NULL) {
            return NULL;
        }

        streams->next = 1;
        streams->size = 2 * handler->max_streams;

        streams->free = ngx_alloc(streams->size * sizeof(uint32_t),
                                  ngx_cycle->log);
        if (streams->free == NULL) {
            ngx_free(streams);
            return NULL;
        }

        handler->streams = streams;
    }

    return handler->streams;
}


/* the row that was freed last is the one that caches have */

static uint32_t
ngx_http_webtorch_streams_take(ngx_http_webtorch_streams_t *streams)
{
    if (streams->nfree) {
        return streams->free[--streams->nfree];
    }

    return streams->next++;
}


static ngx_int_t
ngx_http_webtorch_stream_set_id(ngx_http_webtorch_stream_t *st, ngx_log_t *log)
{
    u_char  random[NGX_HTTP_WEBTORCH_ID_LEN / 2];

    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno, "getrandom() failed");
        return NGX_ERROR;
    }

    (void) ngx_hex_dump(st->id, random, sizeof(random));

    return NGX_OK;
}


void
ngx_http_webtorch_stream_opened(ngx_http_webtorch_stream_t *st)
{
    st->opened = 1;
    st->read = st->places[0];
    st->write = st->places[1];
}


void
ngx_http_webtorch_stream_release(ngx_http_webtorch_stream_t *st)
{
    ngx_uint_t  i;

    st->request = NULL;

    if (st->handler->metrics) {
        ngx_webtorch_metrics_add(&st->handler->metrics->open, (uint64_t) -1);
    }

    ngx_webtorch_message_free(&st->message);

    for (i = 0; i < 2; i++) {
        ngx_webtorch_message_free(&st->answers[i].bytes);
    }

    /*
     * The job stays if it is in a call: it is released when that is over.  A
     * call of open is waited for, as what it has opened is to be closed.
     */

    if (!st->opening) {
        ngx_webtorch_batch_cancel(&st->waiter);
    }

    if (st->njobs == 0 && !st->over.event.posted) {
        ngx_post_event(&st->over.event, &ngx_posted_events);
    }
}


static void
ngx_http_webtorch_stream_released(ngx_webtorch_job_owner_t *owner,
    webtorch_job_t *job)
{
    ngx_http_webtorch_stream_t *st = (ngx_http_webtorch_stream_t *) owner;

    st->njobs--;

    /* open has returned after its time was over */

    if (job->reply && !st->opened) {
        ngx_http_webtorch_stream_opened(st);
    }

    if (st->njobs == 0 && st->request == NULL && !st->over.event.posted) {
        ngx_post_event(&st->over.event, &ngx_posted_events);
    }
}


static void
ngx_http_webtorch_stream_over_handler(ngx_event_t *ev)
{
    ngx_http_webtorch_stream_t  *st;

    st = ngx_webtorch_timer_data(ev);

    if (st->opened
        && (st->handler->schema.stream & WEBTORCH_STREAM_CLOSE)
        && ngx_http_webtorch_stream_close(st) == NGX_OK)
    {
        st->opened = 0;
        return;
    }

    ngx_http_webtorch_stream_free(st);
}


/* a job without a waiter: the rows are free when it is over */

static ngx_int_t
ngx_http_webtorch_stream_close(ngx_http_webtorch_stream_t *st)
{
    webtorch_job_t         *job;
    webtorch_request_t     *request;
    ngx_webtorch_sink_t     sink;
    ngx_webtorch_layout_t   layout;
    ngx_webtorch_runner_t  *runner;

    runner = st->handler->life->runner;

    if (runner == NULL) {
        return NGX_ERROR;
    }

    request = ngx_calloc(sizeof(webtorch_request_t), ngx_cycle->log);
    if (request == NULL) {
        return NGX_ERROR;
    }

    request->size = sizeof(webtorch_request_t);
    request->closing = 1;
    request->place = st->read;
    request->other = (st->read == st->places[0]) ? st->places[1]
                                                 : st->places[0];

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));
    layout.rows = 1;

    if (ngx_webtorch_runner_reserve(runner, &layout, &sink) != NGX_OK) {
        ngx_free(request);
        return NGX_ERROR;
    }

    job = ngx_webtorch_runner_add(runner, &layout, NULL);

    job->request = request;
    job->owner = &st->owner;
    st->njobs++;

    return NGX_OK;
}


static void
ngx_http_webtorch_stream_free(ngx_http_webtorch_stream_t *st)
{
    ngx_uint_t                    i;
    ngx_http_webtorch_streams_t  *streams;

    streams = st->streams;

    for (i = 0; i < 2; i++) {
        streams->free[streams->nfree++] = st->places[i];
    }

    streams->n--;

    ngx_free(st);
}
