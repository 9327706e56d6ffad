
#include "ngx_http_webtorch_stream_decode.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_scratch.h"
#include "ngx_http_webtorch_stream_account.h"
#include "ngx_http_webtorch_stream_deflate.h"
#include "ngx_http_webtorch_task.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_gaps.h"
#include "ngx_webtorch_runner.h"
#include "ngx_webtorch_utf8.h"


#if (NGX_THREADS)

/* a task that outlives the request, which may end while the thread works */

typedef struct {
    ngx_http_webtorch_chunk_t    chunk;
    ngx_http_webtorch_task_t     task;
} ngx_http_webtorch_chunk_task_t;

#endif


static void ngx_http_webtorch_chunk_init(ngx_http_webtorch_chunk_t *chunk,
    ngx_http_webtorch_stream_t *st);
static int ngx_http_webtorch_chunk_decode(ngx_http_webtorch_chunk_t *chunk);
static int ngx_http_webtorch_chunk_decode_text(
    ngx_http_webtorch_chunk_t *chunk);
static int ngx_http_webtorch_chunk_decode_raw(
    ngx_http_webtorch_chunk_t *chunk);
static int ngx_http_webtorch_chunk_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static int ngx_http_webtorch_chunk_check(const ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err);

#if (NGX_THREADS)
static void ngx_http_webtorch_chunk_thread(void *data, ngx_log_t *log);
static int ngx_http_webtorch_chunk_parse(ngx_http_webtorch_chunk_t *chunk);
static int ngx_http_webtorch_chunk_allocate(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static void ngx_http_webtorch_chunk_thread_done(void *data);
static void ngx_http_webtorch_chunk_free(ngx_http_webtorch_chunk_t *chunk);
#endif


int
ngx_http_webtorch_stream_decode(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink)
{
    int                         rc;
    ngx_http_webtorch_chunk_t   chunk;

    ngx_http_webtorch_chunk_init(&chunk, st);

    chunk.sink.reserve = ngx_http_webtorch_chunk_reserve;
    chunk.message = st->message;

    rc = ngx_http_webtorch_chunk_decode(&chunk);

    if (rc != 0) {
        st->err = chunk.err;
    }

    st->layout = chunk.layout;
    *sink = chunk.sink;

    return rc;
}


static void
ngx_http_webtorch_chunk_init(ngx_http_webtorch_chunk_t *chunk,
    ngx_http_webtorch_stream_t *st)
{
    ngx_memzero(&chunk->sink, sizeof(ngx_webtorch_sink_t));
    ngx_memzero(&chunk->layout, sizeof(ngx_webtorch_layout_t));

    chunk->runner = st->handler->runner;
    chunk->wire = &st->conf->wire;
    chunk->payload = st->payload;
    chunk->row_size = st->row_size;
}


/* called in any thread */

static int
ngx_http_webtorch_chunk_decode(ngx_http_webtorch_chunk_t *chunk)
{
    switch (chunk->payload) {

    case NGX_HTTP_WEBTORCH_PAYLOAD_RAW:
        return ngx_http_webtorch_chunk_decode_raw(chunk);

    case NGX_HTTP_WEBTORCH_PAYLOAD_TEXT:
        return ngx_http_webtorch_chunk_decode_text(chunk);

    default: /* NGX_HTTP_WEBTORCH_PAYLOAD_JSON */
        return ngx_webtorch_codec_json.decode(chunk->message.data,
                                              chunk->message.len, chunk->wire,
                                              &chunk->sink, &chunk->layout,
                                              &chunk->err);
    }
}


static int
ngx_http_webtorch_chunk_decode_text(ngx_http_webtorch_chunk_t *chunk)
{
    webtorch_text_t         *text;
    ngx_webtorch_utf8_t      utf8;
    ngx_webtorch_message_t  *m;

    m = &chunk->message;

    ngx_memzero(&utf8, sizeof(ngx_webtorch_utf8_t));

    if (chunk->wire->inputs[0].dtype == WEBTORCH_STR
        && (ngx_webtorch_utf8_check(&utf8, (uint8_t *) m->data, m->len) != 0
            || utf8.left))
    {
        return ngx_webtorch_error(&chunk->err, NGX_HTTP_BAD_REQUEST,
                                  "malformed_body", "the text is not UTF-8");
    }

    chunk->layout.rows = 1;
    chunk->layout.single = 1;
    chunk->layout.text = m->len;

    if (ngx_webtorch_gaps_reserve(chunk->wire, &chunk->sink, &chunk->layout,
                                  &chunk->err)
        != 0)
    {
        return -1;
    }

    text = chunk->sink.data[0];
    text->at = chunk->sink.at;
    text->len = m->len;

    if (m->len) {
        ngx_memcpy(chunk->sink.text, m->data, m->len);
    }

    return 0;
}


static int
ngx_http_webtorch_chunk_decode_raw(ngx_http_webtorch_chunk_t *chunk)
{
    if (chunk->message.len != chunk->row_size) {
        return ngx_webtorch_error(&chunk->err, 422, "wrong_shape",
                   "a row has %zu bytes, found %zu bytes",
                   chunk->row_size, chunk->message.len);
    }

    chunk->layout.rows = 1;
    chunk->layout.single = 1;

    if (ngx_webtorch_gaps_reserve(chunk->wire, &chunk->sink, &chunk->layout,
                                  &chunk->err)
        != 0)
    {
        return -1;
    }

    ngx_memcpy(chunk->sink.data[0], chunk->message.data, chunk->row_size);

    return 0;
}


static int
ngx_http_webtorch_chunk_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    if (ngx_http_webtorch_chunk_check(layout, err) != 0) {
        return -1;
    }

    if (ngx_webtorch_runner_reserve(((ngx_http_webtorch_chunk_t *) sink)
                                    ->runner,
                                    layout, sink)
        != NGX_OK)
    {
        return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    return 0;
}


static int
ngx_http_webtorch_chunk_check(const ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    if (layout->single) {
        return 0;
    }

    return ngx_webtorch_error(err, 422, "wrong_shape",
               "a chunk of a stream is one row without the batch axis, "
               "found %" PRIu32 " rows", layout->rows);
}


#if (NGX_THREADS)

ngx_int_t
ngx_http_webtorch_stream_decode_post(ngx_http_webtorch_stream_t *st,
    void (*done)(ngx_http_webtorch_stream_t *st,
        ngx_http_webtorch_chunk_t *chunk))
{
    size_t                           size, large;
    ngx_http_webtorch_chunk_t       *chunk;
    ngx_http_webtorch_loc_conf_t    *wlcf;
    ngx_http_webtorch_chunk_task_t  *t;

    large = (st->payload == NGX_HTTP_WEBTORCH_PAYLOAD_JSON)
                ? NGX_WEBTORCH_LARGE_TEXT : NGX_WEBTORCH_LARGE_SIZE;

    if (st->message.len < large && !st->deflated) {
        return NGX_DECLINED;
    }

    t = ngx_calloc(sizeof(ngx_http_webtorch_chunk_task_t), ngx_cycle->log);
    if (t == NULL) {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    chunk = &t->chunk;

    ngx_http_webtorch_chunk_init(chunk, st);

    chunk->sink.reserve = ngx_http_webtorch_chunk_allocate;
    chunk->schema = &st->handler->schema;
    chunk->account.limit = st->handler->queue_size;
    chunk->st = st;
    chunk->done = done;
    chunk->deflated = st->deflated;
    chunk->utf8 = st->text;

    t->task.data = t;
    t->task.run = ngx_http_webtorch_chunk_thread;
    t->task.done = ngx_http_webtorch_chunk_thread_done;
    t->task.name = "a chunk";

    /*
     * The message is the thread's from the time when the task is posted: it
     * must not be counted twice even for a moment, or the thread would find
     * that there is no room for what it decodes.
     */

    chunk->message = st->message;
    size = ngx_http_webtorch_stream_counted(&chunk->message);

    st->message.data = NULL;
    st->message.len = 0;
    st->message.size = 0;

    ngx_http_webtorch_stream_count(st);
    ngx_webtorch_queue_hold(&chunk->account, size);

    wlcf = ngx_http_get_module_loc_conf(st->request, ngx_http_webtorch_module);

    if (ngx_http_webtorch_task_post(&t->task, wlcf->thread_pool) != NGX_OK) {
        ngx_webtorch_queue_release(&chunk->account, size);
        ngx_webtorch_message_free(&chunk->message);
        ngx_free(t);

        return ngx_webtorch_error(&st->err, NGX_HTTP_SERVICE_UNAVAILABLE,
                                  "queue_full",
                                  "too many requests wait for a thread");
    }

    st->deflated = 0;
    st->in_thread = &chunk->st;

    return NGX_OK;
}


static void
ngx_http_webtorch_chunk_thread(void *data, ngx_log_t *log)
{
    size_t                      size, inflated;
    ngx_int_t                   rc;
    ngx_http_webtorch_chunk_t  *chunk;

    chunk = &((ngx_http_webtorch_chunk_task_t *) data)->chunk;
    size = ngx_http_webtorch_stream_counted(&chunk->message);
    inflated = 0;
    rc = NGX_OK;

    if (chunk->deflated) {
        rc = ngx_http_webtorch_message_inflate(&chunk->message, chunk->utf8,
                                               &chunk->account, &inflated,
                                               &chunk->err);
    }

    chunk->rc = (rc == NGX_OK) ? ngx_http_webtorch_chunk_parse(chunk) : -1;

    /* here, as it takes milliseconds to return many pages to the system */

    ngx_webtorch_message_free(&chunk->message);
    ngx_webtorch_queue_release(&chunk->account, size + inflated);
}


static int
ngx_http_webtorch_chunk_parse(ngx_http_webtorch_chunk_t *chunk)
{
    int     rc;
    size_t  scratch;

    scratch = (chunk->payload == NGX_HTTP_WEBTORCH_PAYLOAD_JSON)
                  ? NGX_HTTP_WEBTORCH_SCRATCH_FACTOR * chunk->message.len : 0;

    ngx_http_webtorch_scratch_get(scratch);

    rc = ngx_http_webtorch_chunk_decode(chunk);

    ngx_http_webtorch_scratch_put(scratch);

    return rc;
}


/* the codec has checked that the message has the row */

static int
ngx_http_webtorch_chunk_allocate(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    size_t                      size;
    ngx_http_webtorch_chunk_t  *chunk;

    chunk = (ngx_http_webtorch_chunk_t *) sink;

    if (ngx_http_webtorch_chunk_check(layout, err) != 0) {
        return -1;
    }

    size = ngx_webtorch_rows_size(chunk->schema, layout);

    if (ngx_webtorch_queue_reserve(&chunk->account, size) != NGX_OK) {
        return ngx_http_webtorch_body_full(err);
    }

    if (ngx_webtorch_rows_alloc(chunk->schema, layout, sink->data, &chunk->text,
                                err)
        != 0)
    {
        return -1;
    }

    /* a codec advances sink->text while it writes strings */

    sink->text = chunk->text;
    sink->at = 0;

    return 0;
}


static void
ngx_http_webtorch_chunk_thread_done(void *data)
{
    ngx_http_webtorch_chunk_task_t *t = data;

    ngx_http_webtorch_stream_t  *st;

    st = t->chunk.st;

    if (st) {
        st->in_thread = NULL;
        t->chunk.done(st, &t->chunk);
    }

    ngx_http_webtorch_chunk_free(&t->chunk);
    ngx_free(t);
}


static void
ngx_http_webtorch_chunk_free(ngx_http_webtorch_chunk_t *chunk)
{
    uint32_t  i;

    for (i = 0; i < ngx_webtorch_buffers(chunk->schema); i++) {
        if (chunk->sink.data[i]) {
            ngx_webtorch_defer_free(chunk->sink.data[i],
                ngx_webtorch_buffer_row_size(chunk->schema, i,
                                             chunk->layout.sizes));
        }
    }

    if (chunk->text) {
        ngx_webtorch_defer_free(chunk->text, chunk->layout.text);
    }

    ngx_webtorch_queue_release(&chunk->account, chunk->account.held);
}

#else

ngx_int_t
ngx_http_webtorch_stream_decode_post(ngx_http_webtorch_stream_t *st,
    void (*done)(ngx_http_webtorch_stream_t *st,
        ngx_http_webtorch_chunk_t *chunk))
{
    return NGX_DECLINED;
}

#endif
