
#include "ngx_http_webtorch_stream_chunk.h"
#include "ngx_http_webtorch_stream_account.h"
#include "ngx_http_webtorch_stream_decode.h"
#include "ngx_http_webtorch_stream_deflate.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_resume.h"
#include "ngx_webtorch_runner.h"
#include "ngx_webtorch_status.h"


static ngx_int_t ngx_http_webtorch_stream_refuse_chunk(
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_set_states(
    ngx_http_webtorch_stream_t *st, ngx_webtorch_sink_t *sink);
static void ngx_http_webtorch_stream_add_row(ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_decoded(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_chunk_t *chunk);
static ngx_int_t ngx_http_webtorch_stream_add_decoded(
    ngx_http_webtorch_stream_t *st, ngx_http_webtorch_chunk_t *chunk);


ngx_int_t
ngx_http_webtorch_stream_add_chunk(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t            rc;
    ngx_webtorch_sink_t  sink;

    if (ngx_webtorch_runner_full(st->handler->runner, st->account.held)) {
        return ngx_http_webtorch_stream_refuse_chunk(st);
    }

    if (st->deflated && ngx_http_webtorch_stream_inflate(st) == NGX_ERROR) {
        return NGX_ERROR;
    }

    rc = ngx_http_webtorch_stream_decode_post(st,
                                             ngx_http_webtorch_stream_decoded);

    if (rc != NGX_DECLINED) {
        st->in_call = (rc == NGX_OK);
        return rc;
    }

    if (ngx_http_webtorch_stream_decode(st, &sink) != 0
        || ngx_http_webtorch_stream_set_states(st, &sink) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_webtorch_stream_add_row(st);

    /* the batch counts the row */

    ngx_webtorch_message_reset(&st->message);
    ngx_http_webtorch_stream_count(st);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_refuse_chunk(ngx_http_webtorch_stream_t *st)
{
    return ngx_webtorch_error(&st->err, NGX_HTTP_SERVICE_UNAVAILABLE,
                              "queue_full",
                              "too many requests wait for the handler");
}


/* inputs that are not on the wire are the last ones */

static ngx_int_t
ngx_http_webtorch_stream_set_states(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink)
{
    int64_t  *rows;

    if (st->claim.record) {
        return ngx_http_webtorch_stream_get_states(st, sink);
    }

    rows = sink->data[st->conf->wire.ninputs];
    rows[0] = st->read;
    rows[1] = st->write;

    return NGX_OK;
}


/* the row that was reserved last */

static void
ngx_http_webtorch_stream_add_row(ngx_http_webtorch_stream_t *st)
{
    webtorch_job_t  *job;

    st->waiter.done = st->answered;
    st->waiter.data = st;

    job = ngx_webtorch_runner_add(st->handler->runner, &st->layout,
                                  &st->waiter);
    ngx_webtorch_job_own(job, &st->owner);

    st->in_call = 1;
}


/* no other chunk of the stream was read meanwhile */

static void
ngx_http_webtorch_stream_decoded(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_chunk_t *chunk)
{
    st->in_call = 0;

    st->decoded(st, ngx_http_webtorch_stream_add_decoded(st, chunk));
}


static ngx_int_t
ngx_http_webtorch_stream_add_decoded(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_chunk_t *chunk)
{
    ngx_webtorch_runner_t  *runner;

    runner = st->handler->runner;

    if (chunk->rc != 0) {
        st->err = chunk->err;
        return NGX_ERROR;
    }

    if (ngx_webtorch_runner_full(runner, st->account.held
                                         + chunk->account.held))
    {
        return ngx_http_webtorch_stream_refuse_chunk(st);
    }

    st->layout = chunk->layout;

    if (ngx_http_webtorch_stream_set_states(st, &chunk->sink) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_webtorch_runner_take(runner, &chunk->layout, &chunk->sink,
                                 &chunk->text, chunk->account.held)
        != NGX_OK)
    {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    ngx_http_webtorch_stream_add_row(st);

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_stream_chunk_answer(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job)
{
    ngx_int_t                   rc;
    ngx_http_webtorch_result_t  result;

    if (job == NULL || job->status != 0) {
        return ngx_http_webtorch_stream_chunk_failed(st, job);
    }

    ngx_http_webtorch_stream_row_init(st, job, &result.row);

    if (st->claim.record) {
        ngx_http_webtorch_stream_new_states(st, job, result.states);
    }

    result.done = ngx_http_webtorch_stream_chunk_done(st, job);

    ngx_http_webtorch_stream_row_measure(&result.row);

    rc = ngx_http_webtorch_stream_encode_post(st, &result);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ngx_http_webtorch_stream_answer(st, &result.row) != NGX_OK) {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    return ngx_http_webtorch_stream_chunk_end(st, &result);
}


ngx_int_t
ngx_http_webtorch_stream_chunk_end(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_result_t *result)
{
    if (st->claim.record
        && ngx_http_webtorch_stream_commit(st, result->states, result->done)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (result->done) {
        st->ended = 1;

        if (st->end) {
            st->end(st);
        }
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_webtorch_stream_chunk_done(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job)
{
    const u_char  *done;

    st->read = st->write;
    st->write = (st->read == st->state_rows[0]) ? st->state_rows[1]
                                                : st->state_rows[0];

    if (!(st->handler->schema.stream & WEBTORCH_STREAM_DONE)) {
        return 0;
    }

    done = ngx_webtorch_batch_output(&st->waiter, job,
                                     st->conf->wire.noutputs);

    return *done != 0;
}


ngx_int_t
ngx_http_webtorch_stream_chunk_failed(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job)
{
    const char          *code;
    webtorch_failure_t  *failure;

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

    failure = job->failure;

    if (failure == NULL) {
        return ngx_webtorch_error(&st->err, job->status, "handler_failed",
                                  "the handler failed, see the error log");
    }

    st->failure = failure;

    if (failure->code.len) {
        code = failure->code.data;

    } else {
        code = ngx_webtorch_status_code(job->status);
    }

    st->err.status = job->status;
    st->err.code = code ? code : "handler_error";
    st->err.text[0] = '\0';

    return NGX_ERROR;
}
