
#include "ngx_http_webtorch_stream_pump.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_failure.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_request.h"
#include "ngx_http_webtorch_stream_chunk.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_table.h"
#include "ngx_webtorch_runner.h"


/* ms between two pings to a client that is waited for */
#define NGX_HTTP_WEBTORCH_STREAM_PING  20000


static ngx_int_t ngx_http_webtorch_stream_open(ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_open_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_stream_add_headers(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_read_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_stream_write_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_stream_next(ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_wait_read(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_ping(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_flush(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_wait_write(ngx_http_request_t *r);
static void ngx_http_webtorch_stream_chunk_handler(
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_stream_chunk_answer(
    ngx_http_webtorch_stream_t *st, webtorch_job_t *job);


void
ngx_http_webtorch_stream_begin(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = st->request;

    r->read_event_handler = ngx_http_webtorch_stream_read_handler;
    r->write_event_handler = ngx_http_webtorch_stream_write_handler;

    if (r->connection->read->timer_set) {
        ngx_del_timer(r->connection->read);
    }

    if (!(st->handler->schema.stream & WEBTORCH_STREAM_OPEN)) {
        st->opened = 1;
        st->start(st);
        return;
    }

    rc = ngx_http_webtorch_stream_open(st);

    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);
    }
}


ngx_int_t
ngx_http_webtorch_stream_send_head(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t                  rc;
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = st->request;
    c = r->connection;

    if (ngx_http_webtorch_stream_add_headers(st) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return NGX_DONE;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_http_finalize_request(r, rc);
        return NGX_DONE;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->http_version < NGX_HTTP_VERSION_20
        && clcf->tcp_nodelay
        && ngx_tcp_nodelay(c) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_ERROR);
        return NGX_DONE;
    }

    if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR
        || ngx_http_webtorch_stream_wait_write(r) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_ERROR);
        return NGX_DONE;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_add_headers(ngx_http_webtorch_stream_t *st)
{
    ngx_uint_t  i;
    ngx_str_t   id;

    static struct {
        ngx_str_t   name;
        ngx_str_t   value;
    } headers[] = {
        { ngx_string("Stream-Offset"), ngx_string("0") },
        { ngx_string("Cache-Control"), ngx_string("no-store") },
        { ngx_string("X-Accel-Buffering"), ngx_string("no") },
    };

    static ngx_str_t  name = ngx_string("Stream-Id");

    id.data = st->id;
    id.len = NGX_HTTP_WEBTORCH_ID_LEN;

    if (ngx_http_webtorch_add_header(st->request, &name, &id) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        if (ngx_http_webtorch_add_header(st->request, &headers[i].name,
                                         &headers[i].value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_open(ngx_http_webtorch_stream_t *st)
{
    ngx_str_t               body;
    webtorch_job_t         *job;
    webtorch_request_t     *request;
    ngx_webtorch_sink_t     sink;
    ngx_webtorch_runner_t  *runner;

    runner = st->handler->life->runner;

    if (ngx_webtorch_runner_full(runner, 0)) {
        return ngx_http_webtorch_busy(st->request);
    }

    ngx_str_set(&body, "");

    request = ngx_http_webtorch_copy_request(st->request,
                                             &st->handler->life->schema, &body);
    if (request == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    request->place = st->places[0];

    st->layout.rows = 1;

    if (ngx_webtorch_runner_reserve(runner, &st->layout, &sink) != NGX_OK) {
        ngx_free(request);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    st->waiter.done = ngx_http_webtorch_stream_open_done;
    st->waiter.data = st;

    job = ngx_webtorch_runner_add(runner, &st->layout, &st->waiter);
    ngx_webtorch_batch_set_request(&st->waiter, request);

    job->owner = &st->owner;
    st->njobs++;
    st->opening = 1;

    return NGX_AGAIN;
}


static void
ngx_http_webtorch_stream_open_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_connection_t            *c;
    ngx_http_request_t          *r;
    ngx_http_webtorch_ctx_t     *ctx;
    ngx_http_webtorch_stream_t  *st;

    st = waiter->data;
    r = st->request;

    st->opening = 0;

    if (job && job->status == 0) {
        ngx_http_webtorch_stream_opened(st);
    }

    /* the client has gone: what was opened is closed */

    if (r == NULL) {
        return;
    }

    c = r->connection;
    ngx_http_set_log_request(c->log, r);

    if (st->opened) {
        st->start(st);

    } else {
        ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
        ctx->waiter.deadline = waiter->deadline;

        ngx_http_finalize_request(r,
                                  ngx_http_webtorch_failed(r, job, NULL));
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_webtorch_stream_read_handler(ngx_http_request_t *r)
{
    ngx_event_t                 *rev;
    ngx_http_webtorch_ctx_t     *ctx;
    ngx_http_webtorch_stream_t  *st;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
    st = ctx->stream;
    rev = r->connection->read;

    if (r->connection->error) {
        ngx_http_finalize_request(r, NGX_HTTP_CLIENT_CLOSED_REQUEST);
        return;
    }

    if (rev->timedout) {
        rev->timedout = 0;

        if (!st->ended && !st->in_call && !st->opening
            && ngx_http_webtorch_stream_ping(st) != NGX_OK)
        {
            (void) ngx_webtorch_error(&st->err, NGX_HTTP_REQUEST_TIME_OUT,
                       "idle", "no chunk came for as long as \"idle\" allows");
            st->fail(st);
        }
    }

    if (st->in_call || st->opening || st->ended) {

        /* the bytes are read later */

        if ((ngx_event_flags & NGX_USE_LEVEL_EVENT)
            && rev->active
            && ngx_del_event(rev, NGX_READ_EVENT, 0) != NGX_OK)
        {
            ngx_http_finalize_request(r, NGX_ERROR);
            return;
        }

        if (!st->ended) {
            return;
        }
    }

    ngx_http_webtorch_stream_pump(st);
}


static void
ngx_http_webtorch_stream_write_handler(ngx_http_request_t *r)
{
    ngx_event_t                 *wev;
    ngx_connection_t            *c;
    ngx_http_webtorch_ctx_t     *ctx;
    ngx_http_webtorch_stream_t  *st;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
    st = ctx->stream;
    c = r->connection;
    wev = c->write;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_ERR, c->log, NGX_ETIMEDOUT,
                      "client has not read the answers of its stream for "
                      "\"send_timeout\", it may be one that reads nothing "
                      "until it has sent all");
        c->timedout = 1;

        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (!r->header_sent) {
        /* a call of open is waited for */
        return;
    }

    if (!wev->delayed && ngx_http_output_filter(r, NULL) == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    if (ngx_http_webtorch_stream_wait_write(r) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    ngx_http_webtorch_stream_pump(st);
}


/*
 * Sends what can be sent, and takes the next chunk if there is one.  The
 * request may be finalized, and the stream freed, when this returns.
 */

void
ngx_http_webtorch_stream_pump(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t  rc;

    st->budget = NGX_HTTP_WEBTORCH_BUDGET;

    do {
        if (ngx_http_webtorch_stream_flush(st) != NGX_OK
            || st->in_call || st->opening || st->ended)
        {
            return;
        }

        st->more = 0;

        rc = ngx_http_webtorch_stream_next(st);

        /* answers to pings, which are no chunks */

        if (rc == NGX_AGAIN) {

            if (ngx_http_webtorch_stream_flush(st) != NGX_OK) {
                return;
            }

            if (st->more && !st->sending) {
                rc = NGX_OK;
            }
        }

    } while (rc == NGX_OK);
}


/* NGX_OK: there is something to do; NGX_AGAIN: events are waited for */

static ngx_int_t
ngx_http_webtorch_stream_next(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t            rc;
    ngx_event_t         *rev;
    ngx_http_request_t  *r;

    r = st->request;
    rev = r->connection->read;

    if (ngx_http_webtorch_stream_full(st)) {

        /* the write event handler continues */

        st->since = ngx_current_msec;

        if (rev->timer_set) {
            ngx_del_timer(rev);
        }

        return NGX_AGAIN;
    }

    rc = st->read_chunk(st);

    if (st->websocket == NULL
        && !r->reading_body
        && r->read_event_handler == ngx_http_webtorch_stream_read_handler)
    {
        ngx_http_webtorch_watch_client(r);
    }

    if (rc == NGX_AGAIN) {
        ngx_http_webtorch_stream_wait_read(st);
        return NGX_AGAIN;
    }

    st->since = ngx_current_msec;

    if (rev->timer_set) {
        ngx_del_timer(rev);
    }

    switch (rc) {

    case NGX_OK:
        if (ngx_http_webtorch_stream_add_chunk(st,
                                       ngx_http_webtorch_stream_chunk_handler)
            == NGX_OK)
        {
            return NGX_AGAIN;
        }

        break;

    case NGX_DONE:
        st->ended = 1;
        return NGX_OK;

    case NGX_ERROR:
        break;

    default:
        if (r->connection->error || rc == NGX_HTTP_INTERNAL_SERVER_ERROR) {
            ngx_http_finalize_request(r, NGX_ERROR);
            return NGX_DONE;
        }

        (void) ngx_webtorch_error(&st->err, (int) rc, "bad_request",
                                  "the body is malformed");
        break;
    }

    st->fail(st);

    return NGX_OK;
}


/* until the client has sent nothing for so long that it is pinged, or "idle" */

static void
ngx_http_webtorch_stream_wait_read(ngx_http_webtorch_stream_t *st)
{
    ngx_msec_t  passed, left;

    passed = ngx_current_msec - st->since;
    left = (passed < st->handler->idle) ? st->handler->idle - passed : 1;

    if (st->ping) {
        left = ngx_min(left, NGX_HTTP_WEBTORCH_STREAM_PING);
    }

    ngx_add_timer(st->request->connection->read, left);
}


/* NGX_DECLINED: the stream has been idle for too long */

static ngx_int_t
ngx_http_webtorch_stream_ping(ngx_http_webtorch_stream_t *st)
{
    if (ngx_current_msec - st->since >= st->handler->idle) {
        return NGX_DECLINED;
    }

    if (st->ping
        && !ngx_http_webtorch_stream_full(st)
        && st->ping(st) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/*
 * Sends the answers that wait, and the end of the answer if the stream has
 * ended.  NGX_OK: the stream continues; otherwise the request is finalized.
 */

static ngx_int_t
ngx_http_webtorch_stream_flush(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t                    rc;
    ngx_uint_t                   last;
    ngx_http_request_t          *r;
    ngx_http_webtorch_answer_t  *answer;

    r = st->request;
    answer = &st->answers[st->filling ^ 1];

    if (st->sending && answer->buf.pos == answer->buf.last) {
        ngx_http_webtorch_stream_sent(st);
    }

    if (st->sending) {
        return NGX_OK;
    }

    last = st->ended && !st->in_call;
    answer = ngx_http_webtorch_stream_take_answer(st);

    if (last && st->lingering) {
        r->lingering_close = 1;
    }

    if (answer == NULL) {

        if (last) {
            ngx_http_finalize_request(r,
                                      ngx_http_send_special(r, NGX_HTTP_LAST));
            return NGX_DONE;
        }

        return NGX_OK;
    }

    answer->buf.last_buf = last;
    answer->buf.last_in_chain = last;

    st->chain.buf = &answer->buf;
    st->chain.next = NULL;

    rc = ngx_http_output_filter(r, &st->chain);

    if (rc == NGX_ERROR || last) {
        ngx_http_finalize_request(r, rc);
        return NGX_DONE;
    }

    if (ngx_http_webtorch_stream_wait_write(r) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return NGX_DONE;
    }

    if (answer->buf.pos == answer->buf.last) {
        ngx_http_webtorch_stream_sent(st);
    }

    return NGX_OK;
}


/* sets the timer and the event of a client that reads more slowly */

static ngx_int_t
ngx_http_webtorch_stream_wait_write(ngx_http_request_t *r)
{
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    wev = r->connection->write;

    if (!r->buffered && !r->connection->buffered) {

        if (wev->timer_set && !wev->delayed) {
            ngx_del_timer(wev);
        }

        return NGX_OK;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    /* the client has read something, or this is the first time */

    if (!wev->delayed) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    return ngx_handle_write_event(wev, clcf->send_lowat);
}


static void
ngx_http_webtorch_stream_chunk_handler(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_connection_t            *c;
    ngx_http_webtorch_stream_t  *st;

    st = waiter->data;
    c = st->request->connection;

    ngx_http_set_log_request(c->log, st->request);

    st->in_call = 0;
    st->since = ngx_current_msec;

    if (ngx_http_webtorch_stream_chunk_answer(st, job) != NGX_OK) {
        st->fail(st);
        st->failure = NULL;
    }

    ngx_http_webtorch_stream_pump(st);

    ngx_http_run_posted_requests(c);
}


/* NGX_ERROR: st->err is set */

static ngx_int_t
ngx_http_webtorch_stream_chunk_answer(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job)
{
    uint32_t     i;
    const void  *data[WEBTORCH_MAX_TENSORS];

    if (job == NULL) {

        if ((ngx_msec_int_t) (st->waiter.deadline - ngx_current_msec) > 0) {
            return ngx_webtorch_error(&st->err, NGX_HTTP_SERVICE_UNAVAILABLE,
                                      "queue_full",
                                      "too many requests wait for the handler");
        }

        return ngx_webtorch_error(&st->err, NGX_HTTP_GATEWAY_TIME_OUT,
                                  "timeout",
                                  "the handler did not answer in time");
    }

    if (job->status != 0) {
        return ngx_http_webtorch_stream_chunk_failed(st, job);
    }

    for (i = 0; i < st->conf->wire.noutputs; i++) {
        data[i] = ngx_webtorch_batch_output(&st->waiter, job, i);
    }

    if (ngx_http_webtorch_stream_answer(st,
                                        ngx_webtorch_batch_specs(&st->waiter),
                                        data)
        != NGX_OK)
    {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    if (ngx_http_webtorch_stream_chunk_done(st, job)) {
        st->ended = 1;

        if (st->end) {
            st->end(st);
        }
    }

    return NGX_OK;
}
