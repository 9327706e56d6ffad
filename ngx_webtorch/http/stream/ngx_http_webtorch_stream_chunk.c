
#include "ngx_http_webtorch_stream_chunk.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_stream_resume.h"
#include "ngx_webtorch_gaps.h"
#include "ngx_webtorch_runner.h"
#include "ngx_webtorch_utf8.h"


typedef struct {
    ngx_webtorch_sink_t          sink;
    ngx_http_webtorch_stream_t  *st;
} ngx_http_webtorch_stream_sink_t;


static int ngx_http_webtorch_stream_decode(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink);
static int ngx_http_webtorch_stream_decode_text(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink);
static int ngx_http_webtorch_stream_decode_raw(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink);
static int ngx_http_webtorch_stream_reserve_row(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);


ngx_int_t
ngx_http_webtorch_stream_add_chunk(ngx_http_webtorch_stream_t *st,
    void (*done)(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job))
{
    int64_t                          *places;
    webtorch_job_t                   *job;
    ngx_webtorch_runner_t            *runner;
    ngx_http_webtorch_stream_sink_t   sink;

    runner = st->handler->runner;

    if (ngx_webtorch_runner_full(runner, 0)) {
        (void) ngx_webtorch_error(&st->err, NGX_HTTP_SERVICE_UNAVAILABLE,
                                  "queue_full",
                                  "too many requests wait for the handler");
        return NGX_ERROR;
    }

    ngx_memzero(&sink, sizeof(ngx_http_webtorch_stream_sink_t));

    sink.sink.reserve = ngx_http_webtorch_stream_reserve_row;
    sink.st = st;

    ngx_memzero(&st->layout, sizeof(ngx_webtorch_layout_t));

    if (ngx_http_webtorch_stream_decode(st, &sink.sink) != 0) {
        return NGX_ERROR;
    }

    /* inputs that are not on the wire are the last ones */

    if (st->claim.record) {
        ngx_http_webtorch_stream_get_states(st, &sink.sink);

    } else {
        places = sink.sink.data[st->conf->wire.ninputs];
        places[0] = st->read;
        places[1] = st->write;
    }

    st->waiter.done = done;
    st->waiter.data = st;

    job = ngx_webtorch_runner_add(runner, &st->layout, &st->waiter);
    ngx_webtorch_job_own(job, &st->owner);
    st->in_call = 1;

    ngx_webtorch_message_reset(&st->message);

    return NGX_OK;
}


static int
ngx_http_webtorch_stream_decode(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink)
{
    switch (st->payload) {

    case NGX_HTTP_WEBTORCH_PAYLOAD_RAW:
        return ngx_http_webtorch_stream_decode_raw(st, sink);

    case NGX_HTTP_WEBTORCH_PAYLOAD_TEXT:
        return ngx_http_webtorch_stream_decode_text(st, sink);

    default: /* NGX_HTTP_WEBTORCH_PAYLOAD_JSON */
        return ngx_webtorch_codec_json.decode(st->message.data,
                                              st->message.len, &st->conf->wire,
                                              sink, &st->layout, &st->err);
    }
}


static int
ngx_http_webtorch_stream_decode_text(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink)
{
    webtorch_text_t      *text;
    ngx_webtorch_utf8_t   utf8;

    ngx_memzero(&utf8, sizeof(ngx_webtorch_utf8_t));

    if (st->conf->wire.inputs[0].dtype == WEBTORCH_STR
        && (ngx_webtorch_utf8_check(&utf8, (uint8_t *) st->message.data,
                                    st->message.len)
            != 0
            || utf8.left))
    {
        return ngx_webtorch_error(&st->err, NGX_HTTP_BAD_REQUEST,
                                  "malformed_body", "the text is not UTF-8");
    }

    st->layout.rows = 1;
    st->layout.single = 1;
    st->layout.text = st->message.len;

    if (ngx_webtorch_gaps_reserve(&st->conf->wire, sink, &st->layout, &st->err)
        != 0)
    {
        return -1;
    }

    text = sink->data[0];
    text->at = sink->at;
    text->len = st->message.len;

    if (st->message.len) {
        ngx_memcpy(sink->text, st->message.data, st->message.len);
    }

    return 0;
}


static int
ngx_http_webtorch_stream_decode_raw(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink)
{
    if (st->message.len != st->row_size) {
        return ngx_webtorch_error(&st->err, 422, "wrong_shape",
                   "a row has %zu bytes, found %zu bytes",
                   st->row_size, st->message.len);
    }

    st->layout.rows = 1;
    st->layout.single = 1;

    if (ngx_webtorch_gaps_reserve(&st->conf->wire, sink, &st->layout, &st->err)
        != 0)
    {
        return -1;
    }

    ngx_memcpy(sink->data[0], st->message.data, st->row_size);

    return 0;
}


static int
ngx_http_webtorch_stream_reserve_row(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    ngx_http_webtorch_stream_t  *st;

    st = ((ngx_http_webtorch_stream_sink_t *) sink)->st;

    if (!layout->single) {
        return ngx_webtorch_error(err, 422, "wrong_shape",
                   "a chunk of a stream is one row without the batch axis, "
                   "found %" PRIu32 " rows", layout->rows);
    }

    if (ngx_webtorch_runner_reserve(st->handler->runner, layout, sink)
        != NGX_OK)
    {
        return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    return 0;
}


ngx_uint_t
ngx_http_webtorch_stream_chunk_done(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job)
{
    const u_char  *done;

    st->read = st->write;
    st->write = (st->read == st->places[0]) ? st->places[1] : st->places[0];

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
        code = ngx_http_webtorch_status_code((ngx_uint_t) job->status);
    }

    st->err.status = job->status;
    st->err.code = code ? code : "handler_error";
    st->err.text[0] = '\0';

    return NGX_ERROR;
}
