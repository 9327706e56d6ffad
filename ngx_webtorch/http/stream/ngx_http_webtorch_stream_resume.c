
#include "ngx_http_webtorch_stream_resume.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_webtorch_metrics_handler.h"

#include <sys/random.h>


static ngx_int_t ngx_http_webtorch_stream_set_id(ngx_http_webtorch_stream_t *st,
    ngx_log_t *log);
static ngx_int_t ngx_http_webtorch_stream_add_record(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_take_record(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, ngx_str_t *id);
static ngx_int_t ngx_http_webtorch_stream_parameter(ngx_http_request_t *r,
    const char *header, const char *name, ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_stream_parse_offset(ngx_http_request_t *r,
    uint64_t *offset);
static ngx_int_t ngx_http_webtorch_stream_refuse(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, ngx_uint_t status, const char *code,
    const char *text);
static ngx_uint_t ngx_http_webtorch_stream_kind(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_replay_answers(
    ngx_http_webtorch_stream_t *st);


ngx_int_t
ngx_http_webtorch_stream_join(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    ngx_str_t  id;

    if (ngx_http_webtorch_stream_parameter(r, "stream-id", "stream_id", &id)
        == NGX_OK)
    {
        return ngx_http_webtorch_stream_take_record(r, st, &id);
    }

    if (st->handler->resume) {
        return ngx_http_webtorch_stream_add_record(r, st);
    }

    return (ngx_http_webtorch_stream_set_id(st, r->connection->log) == NGX_OK)
               ? NGX_DECLINED : NGX_HTTP_INTERNAL_SERVER_ERROR;
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
    st->id_len = NGX_HTTP_WEBTORCH_ID_LEN;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_add_record(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    if (st->conf->records == NULL
        || ngx_webtorch_records_add(st->conf->records, st->conf->resume,
                                    &st->claim)
           != NGX_OK)
    {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                   "no_room",
                   "\"webtorch_zone\" has no room for another stream");
    }

    ngx_webtorch_records_id(&st->claim, st->id);
    st->id_len = NGX_WEBTORCH_RECORD_ID;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_webtorch_stream_take_record(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, ngx_str_t *id)
{
    uint64_t   from;
    ngx_int_t  rc;

    if (ngx_http_webtorch_stream_parse_offset(r, &from) != NGX_OK) {
        return ngx_http_webtorch_stream_refuse(r, st, NGX_HTTP_BAD_REQUEST,
                   "bad_offset", "the offset of the stream is not a number");
    }

    rc = NGX_DECLINED;

    if (st->conf->records) {
        rc = ngx_webtorch_records_take(st->conf->records, id, from,
                                       &st->claim);
    }

    switch (rc) {

    case NGX_OK:
        break;

    case NGX_ERROR:
        return ngx_http_webtorch_stream_refuse(r, st, NGX_HTTP_BAD_REQUEST,
                   "bad_offset", "the stream has not answered so many chunks");

    case NGX_ABORT:
        return ngx_http_webtorch_stream_refuse(r, st, 410, "answers_gone",
                   "the answers from this offset on are not kept any more");

    default: /* NGX_DECLINED */
        return ngx_http_webtorch_stream_refuse(r, st, NGX_HTTP_NOT_FOUND,
                   "unknown_stream",
                   "there is no such stream, or it has expired");
    }

    ngx_memcpy(st->id, id->data, id->len);
    st->id_len = id->len;

    if (st->handler->metrics) {
        ngx_webtorch_metrics_add(&st->handler->metrics->resumed, 1);
    }

    st->resumed = 1;
    st->replaying = 1;
    st->opened = 1;
    st->nanswers = from;

    return NGX_DECLINED;
}


/* a header, or an argument where headers cannot be set */

static ngx_int_t
ngx_http_webtorch_stream_parameter(ngx_http_request_t *r, const char *header,
    const char *name, ngx_str_t *value)
{
    ngx_str_t  *found;

    found = ngx_http_webtorch_find_header(r, header);

    if (found) {
        *value = *found;
        return NGX_OK;
    }

    return ngx_http_arg(r, (u_char *) name, ngx_strlen(name), value);
}


/* 0 if there is none */

static ngx_int_t
ngx_http_webtorch_stream_parse_offset(ngx_http_request_t *r, uint64_t *offset)
{
    off_t      n;
    ngx_str_t  value;

    *offset = 0;

    if (ngx_http_webtorch_stream_parameter(r, "stream-offset", "stream_offset",
                                           &value)
        != NGX_OK)
    {
        return NGX_OK;
    }

    n = ngx_atoof(value.data, value.len);

    if (n == NGX_ERROR) {
        return NGX_ERROR;
    }

    *offset = (uint64_t) n;

    return NGX_OK;
}


/* browsers see a close code, but no status of a handshake */

static ngx_int_t
ngx_http_webtorch_stream_refuse(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, ngx_uint_t status, const char *code,
    const char *text)
{
    ngx_webtorch_metrics_refused(st->handler, NGX_WEBTORCH_REFUSED_RESUME);

    if (r->method != NGX_HTTP_GET) {
        return ngx_http_webtorch_refuse(r, status, code, text);
    }

    (void) ngx_webtorch_error(&st->err, (int) status, code, "%s", text);
    st->refused = 1;

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_webtorch_stream_get_states(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink)
{
    u_char                      *row;
    uint32_t                     i;
    ngx_webtorch_record_form_t  *form;

    /* the record may be that of another stream by now */

    if (ngx_webtorch_record_lock(&st->claim) != NGX_OK) {
        return ngx_http_webtorch_stream_taken_over(st);
    }

    form = st->claim.form;
    row = ngx_webtorch_record_row(&st->claim);

    for (i = 0; i < form->nstates; i++) {
        ngx_memcpy(sink->data[st->conf->wire.ninputs + i], row + form->at[i],
                   form->state_size[i]);
    }

    ngx_webtorch_record_unlock(&st->claim);

    return NGX_OK;
}


void
ngx_http_webtorch_stream_new_states(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job, const void **states)
{
    uint32_t  i, first;

    first = st->handler->schema.noutputs - st->claim.form->nstates;

    for (i = 0; i < st->claim.form->nstates; i++) {
        states[i] = ngx_webtorch_batch_output(&st->waiter, job, first + i);
    }
}


ngx_int_t
ngx_http_webtorch_stream_commit(ngx_http_webtorch_stream_t *st,
    const void **states, ngx_uint_t done)
{
    ngx_webtorch_record_chunk_t  chunk;

    chunk.states = states;
    chunk.answer = ngx_http_webtorch_stream_payload(st);
    chunk.len = st->payload_len;
    chunk.kind = ngx_http_webtorch_stream_kind(st);
    chunk.done = done;

    if (ngx_webtorch_record_commit(&st->claim, &chunk) == NGX_OK) {
        return NGX_OK;
    }

    ngx_http_webtorch_stream_drop_answer(st);

    return ngx_http_webtorch_stream_taken_over(st);
}


ngx_int_t
ngx_http_webtorch_stream_taken_over(ngx_http_webtorch_stream_t *st)
{
    return ngx_webtorch_error(&st->err, NGX_HTTP_CONFLICT, "taken_over",
                              "another client continues the stream");
}


static ngx_uint_t
ngx_http_webtorch_stream_kind(ngx_http_webtorch_stream_t *st)
{
    ngx_uint_t  binary;

    switch (st->out_payload) {

    case NGX_HTTP_WEBTORCH_PAYLOAD_RAW:
        binary = 1;
        break;

    case NGX_HTTP_WEBTORCH_PAYLOAD_TEXT:
        binary = (st->conf->wire.outputs[0].dtype == WEBTORCH_BYTES);
        break;

    default: /* NGX_HTTP_WEBTORCH_PAYLOAD_JSON */
        binary = 0;
        break;
    }

    if (st->out_framing == NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET) {
        binary = st->binary;
    }

    return st->out_payload | (binary ? NGX_HTTP_WEBTORCH_KIND_BINARY : 0);
}


uint64_t
ngx_http_webtorch_stream_offset(ngx_http_webtorch_stream_t *st)
{
    return st->claim.record ? ngx_webtorch_record_offset(&st->claim) : 0;
}


ngx_int_t
ngx_http_webtorch_stream_replay(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t   rc;
    ngx_uint_t  done, window;

    /* another worker may take the stream over, and write other answers */

    if (ngx_webtorch_record_lock(&st->claim) != NGX_OK) {
        (void) ngx_http_webtorch_stream_taken_over(st);
        st->fail(st);
        return NGX_OK;
    }

    /* not compressed: others wait for the record's mutex */

    window = st->window;
    st->window = 0;

    rc = ngx_http_webtorch_stream_replay_answers(st);

    st->window = window;

    done = ngx_webtorch_record_done(&st->claim) || st->claim.record->closed;

    ngx_webtorch_record_unlock(&st->claim);

    if (rc == NGX_DECLINED) {
        (void) ngx_webtorch_error(&st->err, NGX_HTTP_CONFLICT, "wrong_format",
                   "answers that the client does not have were encoded in "
                   "another format");
        st->fail(st);
        return NGX_OK;
    }

    if (rc == NGX_OK && done) {
        st->ended = 1;

        if (st->end) {
            st->end(st);
        }
    }

    return (rc == NGX_AGAIN) ? NGX_OK : rc;
}


/*
 * NGX_AGAIN: there are others; NGX_DECLINED: the client does not take their
 * format.  Nobody adds answers meanwhile: the stream takes no chunk before.
 */

static ngx_int_t
ngx_http_webtorch_stream_replay_answers(ngx_http_webtorch_stream_t *st)
{
    uint64_t                     offset;
    ngx_uint_t                   kind;
    ngx_http_webtorch_answer_t  *answer;

    offset = ngx_webtorch_record_offset(&st->claim);
    answer = &st->answers[st->filling];

    while (st->nanswers < offset) {

        if (answer->bytes.len >= NGX_HTTP_WEBTORCH_MAX_ANSWER) {
            return NGX_AGAIN;
        }

        (void) ngx_webtorch_record_answer(&st->claim, st->nanswers, &kind);

        if (st->out_framing != NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET
            && (kind & ~NGX_HTTP_WEBTORCH_KIND_BINARY) != st->out_payload)
        {
            return NGX_DECLINED;
        }

        if (ngx_http_webtorch_stream_repeat(st) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    st->replaying = 0;

    return NGX_OK;
}


ngx_uint_t
ngx_http_webtorch_stream_is_fatal(ngx_http_webtorch_stream_t *st)
{
    if (st->failure) {
        /* the function raised it */
        return 1;
    }

    switch (st->err.status) {

    case NGX_HTTP_REQUEST_TIME_OUT:        /* idle */
    case NGX_HTTP_CONFLICT:
    case NGX_HTTP_SERVICE_UNAVAILABLE:
    case NGX_HTTP_GATEWAY_TIME_OUT:
        return 0;

    default:
        return 1;
    }
}


void
ngx_http_webtorch_stream_come_back(ngx_http_webtorch_stream_t *st)
{
    if (ngx_webtorch_record_lost(&st->claim)) {
        (void) ngx_http_webtorch_stream_taken_over(st);

    } else {
        (void) ngx_webtorch_error(&st->err, NGX_HTTP_SERVICE_UNAVAILABLE,
                   "restart",
                   "the worker exits, come back with the id of the stream");
    }

    st->fail(st);
}
