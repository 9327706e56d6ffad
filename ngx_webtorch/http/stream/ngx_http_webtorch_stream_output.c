
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_stream_account.h"
#include "ngx_http_webtorch_stream_deflate.h"
#include "ngx_http_webtorch_logged.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_ws.h"


/* bytes around a payload, at most */
#define NGX_HTTP_WEBTORCH_STREAM_AROUND                                       \
    (sizeof("event: error\nid: \ndata: \n\n") + NGX_INT64_LEN)


static void ngx_http_webtorch_stream_end_answer(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_stream_row_t *row, u_char *start, u_char *last);
static u_char *ngx_http_webtorch_stream_reserve(ngx_http_webtorch_stream_t *st,
    size_t size);
static void ngx_http_webtorch_stream_end_frame(ngx_http_webtorch_stream_t *st,
    u_char *start, u_char *last, ngx_uint_t opcode);
static u_char *ngx_http_webtorch_stream_end_message(
    ngx_http_webtorch_stream_t *st, u_char **payload, size_t len,
    ngx_uint_t opcode);


void
ngx_http_webtorch_stream_row_init(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job, ngx_http_webtorch_stream_row_t *row)
{
    uint32_t  i;

    row->specs = ngx_webtorch_batch_specs(&st->waiter);

    for (i = 0; i < st->conf->wire.noutputs; i++) {
        row->data[i] = ngx_webtorch_batch_output(&st->waiter, job, i);
    }

    row->n = st->conf->wire.noutputs;
    row->payload = st->out_payload;
    row->prefix = st->prefix;
    row->layout = st->layout;

    row->check = (st->websocket
                  && !st->binary
                  && st->out_payload == NGX_HTTP_WEBTORCH_PAYLOAD_TEXT
                  && row->specs[0].dtype == WEBTORCH_BYTES);
    row->binary = 0;
}


ngx_int_t
ngx_http_webtorch_stream_answer(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_stream_row_t *row)
{
    u_char  *p, *start;

    p = ngx_http_webtorch_stream_reserve(st, row->bound);
    if (p == NULL) {
        return NGX_ERROR;
    }

    start = ngx_http_webtorch_stream_begin_frame(st, p, 0);
    p = ngx_http_webtorch_stream_row_encode(row, start);

    ngx_http_webtorch_stream_end_answer(st, row, start, p);

    return NGX_OK;
}


void
ngx_http_webtorch_stream_put_answer(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_stream_row_t *row, ngx_webtorch_message_t *m,
    size_t front, size_t start)
{
    u_char                      *p;
    ngx_webtorch_message_t      *bytes;
    ngx_http_webtorch_answer_t  *answer;

    answer = &st->answers[st->filling];
    bytes = &answer->bytes;
    p = (u_char *) m->data;

    /* the answers that wait go in front, unless they have been taken */

    if (bytes->len) {
        ngx_memcpy(p, bytes->data, bytes->len);

    } else {
        answer->skip = front;
    }

    ngx_webtorch_message_free(bytes);

    bytes->data = m->data;
    bytes->size = m->size;
    bytes->len = front;

    m->data = NULL;

    ngx_http_webtorch_stream_end_answer(st, row, p + start, p + m->len);
}


static void
ngx_http_webtorch_stream_end_answer(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_stream_row_t *row, u_char *start, u_char *last)
{
    if (row->check) {
        st->binary = row->binary;
    }

    ngx_http_webtorch_stream_end_frame(st, start, last,
        st->binary ? NGX_WEBTORCH_WS_BINARY : NGX_WEBTORCH_WS_TEXT);

    st->nanswers++;
}


void
ngx_http_webtorch_stream_drop_answer(ngx_http_webtorch_stream_t *st)
{
    st->answers[st->filling].bytes.len = st->answer_at;
    st->answers[st->filling].n--;
    st->nanswers--;
}


const u_char *
ngx_http_webtorch_stream_payload(ngx_http_webtorch_stream_t *st)
{
    return (u_char *) st->answers[st->filling].bytes.data + st->payload_at;
}


ngx_int_t
ngx_http_webtorch_stream_repeat(ngx_http_webtorch_stream_t *st)
{
    size_t       len;
    u_char      *p, *start;
    uint64_t     n;
    ngx_uint_t   kind;

    n = st->nanswers;
    len = ngx_webtorch_record_answer(&st->claim, n, &kind);

    p = ngx_http_webtorch_stream_reserve(st, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    start = ngx_http_webtorch_stream_begin_frame(st, p, 0);
    p = ngx_webtorch_record_copy(&st->claim, n, start);

    ngx_http_webtorch_stream_end_frame(st, start, p,
        (kind & NGX_HTTP_WEBTORCH_KIND_BINARY) ? NGX_WEBTORCH_WS_BINARY
                                               : NGX_WEBTORCH_WS_TEXT);

    st->nanswers++;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_stream_add_error(ngx_http_webtorch_stream_t *st)
{
    u_char     *p, *start;
    ngx_str_t   text, detail, *json;

    json = NULL;

    if (st->failure) {
        ngx_http_webtorch_get_str(&text, &st->failure->message);
        ngx_http_webtorch_get_str(&detail, &st->failure->detail);

        if (detail.len) {
            json = &detail;
        }

    } else {
        text.data = (u_char *) st->err.text;
        text.len = ngx_strlen(st->err.text);
    }

    ngx_http_webtorch_logged_error(st->request, st->err.code);

    p = ngx_http_webtorch_stream_reserve(st,
            ngx_http_webtorch_error_length(st->err.code, &text, json));
    if (p == NULL) {
        return NGX_ERROR;
    }

    /* rows of a fixed size are followed by it, too */

    start = ngx_http_webtorch_stream_begin_frame(st, p, 1);
    p = ngx_http_webtorch_error_write(start, st->err.code, &text, json);

    if (st->out_framing == NGX_HTTP_WEBTORCH_FRAMING_NONE) {
        *p++ = '\n';
    }

    ngx_http_webtorch_stream_end_frame(st, start, p, NGX_WEBTORCH_WS_TEXT);

    return NGX_OK;
}


void
ngx_http_webtorch_stream_fail(ngx_http_webtorch_stream_t *st)
{
    if (st->document == NULL) {

        if (st->inline_end) {
            (void) ngx_http_webtorch_stream_add_bytes(st, (u_char *) "\n", 1);
        }

        (void) ngx_http_webtorch_stream_add_error(st);
    }

    st->ended = 1;
}


ngx_int_t
ngx_http_webtorch_stream_add_ping(ngx_http_webtorch_stream_t *st)
{
    return ngx_http_webtorch_stream_add_bytes(st, (u_char *) ": ping\n\n",
                                              sizeof(": ping\n\n") - 1);
}


ngx_int_t
ngx_http_webtorch_stream_add_comment(ngx_http_webtorch_stream_t *st)
{
    return ngx_http_webtorch_stream_add_bytes(st, (u_char *) ": ping\n",
                                              sizeof(": ping\n") - 1);
}


ngx_int_t
ngx_http_webtorch_stream_add_item(ngx_http_webtorch_stream_t *st,
    const u_char *data, size_t len)
{
    st->answers[st->filling].n++;
    st->nanswers++;

    return ngx_http_webtorch_stream_add_bytes(st, data, len);
}


ngx_int_t
ngx_http_webtorch_stream_add_bytes(ngx_http_webtorch_stream_t *st,
    const u_char *data, size_t len)
{
    u_char  *p;

    p = ngx_http_webtorch_stream_reserve(st, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, data, len);
    st->answers[st->filling].bytes.len += len;

    return NGX_OK;
}


ngx_uint_t
ngx_http_webtorch_stream_full(ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_answer_t  *answer;

    answer = &st->answers[st->filling];

    return answer->n >= NGX_HTTP_WEBTORCH_MAX_ANSWERS
           || answer->bytes.len >= NGX_HTTP_WEBTORCH_MAX_ANSWER;
}


ngx_http_webtorch_answer_t *
ngx_http_webtorch_stream_take_answer(ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_answer_t  *answer;

    answer = &st->answers[st->filling];

    if (st->sending || answer->bytes.len == answer->skip) {
        return NULL;
    }

    ngx_memzero(&answer->buf, sizeof(ngx_buf_t));

    answer->buf.start = (u_char *) answer->bytes.data;
    answer->buf.pos = answer->buf.start + answer->skip;
    answer->buf.last = answer->buf.start + answer->bytes.len;
    answer->buf.end = answer->buf.last;
    answer->buf.temporary = 1;
    answer->buf.flush = 1;

    st->sending = 1;
    st->filling ^= 1;

    return answer;
}


void
ngx_http_webtorch_stream_sent(ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_answer_t  *answer;

    answer = &st->answers[st->filling ^ 1];

    ngx_http_webtorch_stream_free_large(&answer->bytes);
    ngx_webtorch_message_reset(&answer->bytes);
    answer->skip = 0;
    answer->n = 0;
    st->sending = 0;
}


size_t
ngx_http_webtorch_stream_frame_size(ngx_http_webtorch_stream_t *st, size_t size)
{
    /* a payload that is compressed is there twice */

    if (st->window && size >= NGX_HTTP_WEBTORCH_DEFLATE_MIN) {
        size += ngx_min(size, NGX_HTTP_WEBTORCH_DEFLATE_MAX);
    }

    return size + NGX_HTTP_WEBTORCH_STREAM_AROUND;
}


/* the end of the answers that wait, with room for a payload of so many bytes */

static u_char *
ngx_http_webtorch_stream_reserve(ngx_http_webtorch_stream_t *st, size_t size)
{
    char                    *p;
    ngx_webtorch_message_t  *m;

    m = &st->answers[st->filling].bytes;
    size = m->len + ngx_http_webtorch_stream_frame_size(st, size);

    if (size > m->size) {
        size = ngx_max(size, 2 * m->size);

        p = ngx_webtorch_buffer_realloc(m->data, size);
        if (p == NULL) {
            return NULL;
        }

        m->data = p;
        m->size = size;
    }

    return (u_char *) m->data + m->len;
}


u_char *
ngx_http_webtorch_stream_begin_frame(ngx_http_webtorch_stream_t *st, u_char *p,
    ngx_uint_t error)
{
    switch (st->out_framing) {

    case NGX_HTTP_WEBTORCH_FRAMING_SSE:

        if (st->prefix.len) {
            /* the inference protocol's events have data alone */

        } else if (error) {
            p = ngx_cpymem(p, "event: error\n", sizeof("event: error\n") - 1);

        } else {
            p = ngx_sprintf(p, "id: %uL\n", st->nanswers);
        }

        return ngx_cpymem(p, "data: ", sizeof("data: ") - 1);

    case NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET:
        return p + NGX_WEBTORCH_WS_HEADER;

    default:
        return p;
    }
}


static void
ngx_http_webtorch_stream_end_frame(ngx_http_webtorch_stream_t *st,
    u_char *start, u_char *last, ngx_uint_t opcode)
{
    u_char                      *p;
    ngx_http_webtorch_answer_t  *answer;

    answer = &st->answers[st->filling];

    st->answer_at = answer->bytes.len;
    st->payload_len = (size_t) (last - start);

    p = last;

    switch (st->out_framing) {

    case NGX_HTTP_WEBTORCH_FRAMING_LINES:
        *p++ = LF;
        break;

    case NGX_HTTP_WEBTORCH_FRAMING_SSE:
        *p++ = LF;
        *p++ = LF;
        break;

    case NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET:
        p = ngx_http_webtorch_stream_end_message(st, &start, st->payload_len,
                                                 opcode);
        break;

    default: /* NGX_HTTP_WEBTORCH_FRAMING_NONE */
        break;
    }

    st->payload_at = (size_t) (start - (u_char *) answer->bytes.data);

    answer->bytes.len = (size_t) (p - (u_char *) answer->bytes.data);
    answer->n++;
}


/*
 * Moves the payload, and returns the end of the message of a WebSocket.  The
 * message is in front of its payload if it is compressed: the record of the
 * stream keeps the payload as it was.
 */

static u_char *
ngx_http_webtorch_stream_end_message(ngx_http_webtorch_stream_t *st,
    u_char **payload, size_t len, ngx_uint_t opcode)
{
    u_char                      *p, *data, *start;
    size_t                       n;
    ngx_http_webtorch_answer_t  *answer;

    answer = &st->answers[st->filling];
    start = *payload;
    n = 0;

    if (st->window
        && len >= NGX_HTTP_WEBTORCH_DEFLATE_MIN
        && len <= NGX_HTTP_WEBTORCH_DEFLATE_MAX)
    {
        n = ngx_http_webtorch_stream_deflate(st, start, len, &data);
    }

    p = (u_char *) answer->bytes.data + answer->bytes.len;

    if (n) {
        *payload = start + n;
        ngx_memmove(*payload, start, len);

        p = ngx_webtorch_ws_header(p, (unsigned) opcode
                                      | NGX_WEBTORCH_WS_DEFLATED, n);

        return ngx_cpymem(p, data, n);
    }

    p = ngx_webtorch_ws_header(p, (unsigned) opcode, len);

    *payload = p;

    /* the header of a large one has the length that was left for it */

    if (p != start) {
        ngx_memmove(p, start, len);
    }

    return p + len;
}
