
#include "ngx_http_webtorch_stream_pump.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_failure.h"
#include "ngx_http_webtorch_logged.h"
#include "ngx_http_webtorch_request.h"
#include "ngx_http_webtorch_stream_account.h"
#include "ngx_http_webtorch_stream_chunk.h"
#include "ngx_http_webtorch_stream_head.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_resume.h"
#include "ngx_http_webtorch_stream_table.h"
#include "ngx_webtorch_runner.h"


static ngx_int_t ngx_http_webtorch_stream_open(ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_open_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_stream_read_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_stream_write_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_stream_next(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_next_answers(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_end_with_error(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_wait_read(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_ping(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_flush(ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_chunk_handler(
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job);
static void ngx_http_webtorch_stream_decoded_handler(
    ngx_http_webtorch_stream_t *st, ngx_int_t rc);
static void ngx_http_webtorch_stream_encoded_handler(
    ngx_http_webtorch_stream_t *st, ngx_http_webtorch_result_t *result);
static void ngx_http_webtorch_stream_answered(ngx_http_webtorch_stream_t *st,
    ngx_int_t rc);


void
ngx_http_webtorch_stream_begin(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = st->request;

    r->read_event_handler = ngx_http_webtorch_stream_read_handler;
    r->write_event_handler = ngx_http_webtorch_stream_write_handler;

    st->answered = ngx_http_webtorch_stream_chunk_handler;
    st->decoded = ngx_http_webtorch_stream_decoded_handler;
    st->encoded = ngx_http_webtorch_stream_encoded_handler;

    if (r->connection->read->timer_set) {
        ngx_del_timer(r->connection->read);
    }

    if (st->refused || st->resumed) {
        st->start(st);
        return;
    }

    if (!(st->handler->schema.stream & WEBTORCH_STREAM_OPEN)) {
        st->opened = 1;

        if (st->claim.record) {
            ngx_webtorch_records_opened(&st->claim);
        }

        st->start(st);
        return;
    }

    rc = ngx_http_webtorch_stream_open(st);

    if (rc != NGX_AGAIN) {
        ngx_http_webtorch_stream_finalize(r, rc);
    }
}


void
ngx_http_webtorch_stream_answer_only(ngx_http_webtorch_stream_t *st)
{
    ngx_http_request_t  *r;

    r = st->request;
    r->write_event_handler = ngx_http_webtorch_stream_write_handler;

    ngx_http_webtorch_watch_client(r);
}


static ngx_int_t
ngx_http_webtorch_stream_open(ngx_http_webtorch_stream_t *st)
{
    ngx_str_t               body;
    webtorch_request_t     *request;
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

    request->state_row = st->state_rows[0];

    if (st->claim.record) {
        request->states = (char *) ngx_webtorch_record_row(&st->claim);
        request->states_size = st->claim.form->row;
    }

    if (ngx_http_webtorch_stream_add_request(st, runner, request,
                                           ngx_http_webtorch_stream_open_done)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

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

        ngx_http_webtorch_stream_finalize(r,
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
                       "idle", "no chunk came for as long as \"idle=\" allows");
            ngx_http_webtorch_stream_end_with_error(st);
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
                      "\"send_timeout\"%s",
                      st->produce ? "" : ", it may be one that reads nothing "
                                         "until it has sent all");
        c->timedout = 1;

        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (!r->header_sent) {

        /* a call of open, or the end, is waited for */

        if (st->finish && st->ended && !st->in_call) {
            st->finish(st);
        }

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

    if (st->produce) {

        if (st->produce(st) != NGX_AGAIN) {
            st->fail(st);
            return NGX_OK;
        }

        return NGX_AGAIN;
    }

    if (st->replaying) {
        return ngx_http_webtorch_stream_next_answers(st);
    }

    rc = st->read_chunk(st);

    if ((rc == NGX_OK || rc == NGX_AGAIN)
        && ngx_http_webtorch_stream_count_chunk(st) != NGX_OK)
    {
        rc = NGX_ERROR;
    }

    /* events of the connection continue to parse what has been read */

    if (st->websocket == NULL
        && !r->reading_body
        && (r->request_body == NULL || r->request_body->bufs == NULL)
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
        if (ngx_http_webtorch_stream_add_chunk(st) == NGX_OK) {
            return NGX_AGAIN;
        }

        break;

    case NGX_DONE:
        ngx_http_webtorch_stream_drop_message(st);
        st->ended = 1;

        if (st->websocket == NULL) {
            /* the body is complete */
            st->finished = 1;
        }

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

    ngx_http_webtorch_stream_end_with_error(st);

    return NGX_OK;
}


/* as above; a client that reads fast lets others have their turn */

static ngx_int_t
ngx_http_webtorch_stream_next_answers(ngx_http_webtorch_stream_t *st)
{
    st->since = ngx_current_msec;

    if (st->budget == 0) {
        ngx_post_event(st->request->connection->write,
                       &ngx_posted_next_events);

        /* a worker that exits waits for timers, not for events */
        ngx_http_webtorch_stream_wait_read(st);

        return NGX_AGAIN;
    }

    if (ngx_http_webtorch_stream_replay(st) != NGX_OK) {
        ngx_http_finalize_request(st->request, NGX_ERROR);
        return NGX_DONE;
    }

    st->budget -= ngx_min(st->budget, st->answers[st->filling].bytes.len);

    return NGX_OK;
}


static void
ngx_http_webtorch_stream_end_with_error(ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_stream_drop_message(st);

    st->fatal = ngx_http_webtorch_stream_is_fatal(st);
    st->fail(st);
}


void
ngx_http_webtorch_stream_stop(ngx_http_webtorch_stream_t *st)
{
    ngx_connection_t  *c;

    st->restart = 1;

    if (st->in_call || st->ended) {
        return;
    }

    c = st->request->connection;

    ngx_http_set_log_request(c->log, st->request);

    ngx_http_webtorch_stream_drop_message(st);
    ngx_http_webtorch_stream_come_back(st);
    ngx_http_webtorch_stream_pump(st);

    ngx_http_run_posted_requests(c);
}


/* until the client has sent nothing for so long that it is pinged, or "idle" */

static void
ngx_http_webtorch_stream_wait_read(ngx_http_webtorch_stream_t *st)
{
    ngx_msec_t  passed, left;

    passed = ngx_current_msec - st->since;
    left = (passed < st->conf->idle) ? st->conf->idle - passed : 1;

    if (st->ping) {
        left = ngx_min(left, st->conf->ping);
    }

    ngx_add_timer(st->request->connection->read, left);
}


/* NGX_DECLINED: the stream has been idle for too long */

static ngx_int_t
ngx_http_webtorch_stream_ping(ngx_http_webtorch_stream_t *st)
{
    if (ngx_current_msec - st->since >= st->conf->idle) {
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

    ngx_http_webtorch_stream_count(st);

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


static void
ngx_http_webtorch_stream_chunk_handler(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_int_t                    rc;
    ngx_http_webtorch_stream_t  *st;

    st = waiter->data;

    ngx_http_set_log_request(st->request->connection->log, st->request);

    ngx_http_webtorch_logged_call(st->request, waiter, job);

    rc = ngx_http_webtorch_stream_chunk_answer(st, job);

    if (rc != NGX_AGAIN) {
        ngx_http_webtorch_stream_answered(st, rc);
    }
}


static void
ngx_http_webtorch_stream_encoded_handler(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_result_t *result)
{
    ngx_http_set_log_request(st->request->connection->log, st->request);

    ngx_http_webtorch_stream_answered(st,
                              ngx_http_webtorch_stream_chunk_end(st, result));
}


/* the answer to a chunk was added; NGX_ERROR: st->err is set */

static void
ngx_http_webtorch_stream_answered(ngx_http_webtorch_stream_t *st, ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = st->request->connection;

    st->in_call = 0;
    st->since = ngx_current_msec;

    if (rc != NGX_OK) {
        ngx_http_webtorch_stream_end_with_error(st);
        st->failure = NULL;

    } else if (st->restart && !st->ended) {
        ngx_http_webtorch_stream_come_back(st);
    }

    ngx_http_webtorch_stream_pump(st);

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_webtorch_stream_decoded_handler(ngx_http_webtorch_stream_t *st,
    ngx_int_t rc)
{
    ngx_connection_t  *c;

    c = st->request->connection;

    if (rc == NGX_OK) {
        return;
    }

    ngx_http_set_log_request(c->log, st->request);

    ngx_http_webtorch_stream_end_with_error(st);
    ngx_http_webtorch_stream_pump(st);

    ngx_http_run_posted_requests(c);
}
