
/*
 * Large bodies are inflated, and those of text decoded, in a thread of nginx's
 * pool "default": a megabyte of either takes milliseconds, in which the event
 * loop would serve no other request.  The rows are copied into a batch
 * afterwards.  Other bodies are decoded in the event loop, right into a batch.
 */

#include "ngx_http_webtorch_decode.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_inflate.h"
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_scratch.h"
#include "ngx_webtorch_runner.h"


/*
 * Sizes from which on a body goes to a thread, in bytes.  About so much text is
 * decoded within NGX_WEBTORCH_INLINE_LIMIT, and so much that is compressed is
 * inflated, mostly to less than ten times as much.
 */
#define NGX_HTTP_WEBTORCH_LARGE_TEXT      (128 * 1024)
#define NGX_HTTP_WEBTORCH_LARGE_CODED     (16 * 1024)

/* bytes that parsers of text allocate at most for each byte of it */
#define NGX_HTTP_WEBTORCH_SCRATCH_FACTOR  14

/* ms; a worker that shuts down gracefully waits for timers */
#define NGX_HTTP_WEBTORCH_DECODE_TIMEOUT  60000


typedef struct {
    ngx_webtorch_sink_t        sink;
    ngx_http_webtorch_ctx_t   *ctx;
} ngx_http_webtorch_batch_sink_t;


#if (NGX_THREADS)

/*
 * The thread's until its event; the request is blocked meanwhile.  It begins as
 * ngx_http_webtorch_batch_sink_t.
 */

struct ngx_http_webtorch_decoding_s {
    ngx_webtorch_sink_t        sink;
    ngx_http_webtorch_ctx_t   *ctx;
    ngx_str_t                  body;
    ngx_pool_cleanup_t        *cln;       /* frees the inflated body */
    unsigned                   decode:1;  /* 0: it is only inflated */
    size_t                     sizes[WEBTORCH_MAX_TENSORS];   /* of data */
    char                      *text;      /* strings of the rows */
    size_t                     text_size;
    size_t                     held;      /* bytes of rows and strings */
    ngx_int_t                  rc;        /* NGX_DECLINED: not decoded */
    ngx_webtorch_error_t       err;
};

#endif


static int ngx_http_webtorch_decode_rows(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err);
static int ngx_http_webtorch_batch_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static int ngx_http_webtorch_member_reserve(ngx_webtorch_sink_t *sink,
    size_t size, ngx_webtorch_error_t *err);
static size_t ngx_http_webtorch_rows_size(ngx_http_webtorch_ctx_t *ctx,
    const ngx_webtorch_layout_t *layout);
static int ngx_http_webtorch_check_finite(ngx_webtorch_sink_t *sink,
    webtorch_schema_t *schema, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err);

#if (NGX_THREADS)
static ngx_uint_t ngx_http_webtorch_is_large(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body);
static void ngx_http_webtorch_decode_thread(void *data, ngx_log_t *log);
static ngx_int_t ngx_http_webtorch_decode_body(
    ngx_http_webtorch_decoding_t *d);
static int ngx_http_webtorch_thread_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static void ngx_http_webtorch_decode_event_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_webtorch_add_decoded(ngx_http_request_t *r,
    ngx_http_webtorch_decoding_t *d);
static void ngx_http_webtorch_decode_cleanup(void *data);
#endif


ngx_int_t
ngx_http_webtorch_decode_add(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    ngx_int_t                        rc;
    ngx_webtorch_error_t             err;
    ngx_http_webtorch_batch_sink_t   sink;

    if (body->len == 0) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST, "empty_body",
                                        "the body is empty, tensors are "
                                        "expected");
    }

    rc = ngx_http_webtorch_decode_post(r, ctx, body);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    sink.sink.reserve = ngx_http_webtorch_batch_reserve;
    sink.sink.limit = ngx_http_webtorch_inflate_limit(r);
    sink.sink.inflate = ngx_http_webtorch_member_reserve;
    sink.ctx = ctx;

    if (ngx_http_webtorch_decode_rows(ctx, body, &sink.sink, &err) != 0) {
        return ngx_http_webtorch_bad_body(r, &err);
    }

    return ngx_http_webtorch_job_add_rows(r, ctx);
}


/* called in any thread */

static int
ngx_http_webtorch_decode_rows(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
    ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err)
{
    int  rc;

    rc = ctx->wire->decode(ctx, body, sink, err);

    ngx_webtorch_queue_release(&ctx->account, ctx->members);
    ctx->members = 0;

    if (rc != 0) {
        return -1;
    }

    return ngx_http_webtorch_check_finite(sink, &ctx->handler->schema,
                                          &ctx->layout, err);
}


static int
ngx_http_webtorch_batch_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    size_t                    size;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ((ngx_http_webtorch_batch_sink_t *) sink)->ctx;

    /* when they are added, the batch counts the rows, and the body is freed */

    size = ngx_http_webtorch_rows_size(ctx, layout);
    size -= ngx_min(size, ctx->mapped + ctx->inflated);

    if (!ngx_webtorch_queue_fits(&ctx->account, size)) {
        return ngx_http_webtorch_body_full(err);
    }

    if (ngx_webtorch_runner_reserve(ctx->handler->runner, layout, sink)
        != NGX_OK)
    {
        return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    return 0;
}


static int
ngx_http_webtorch_member_reserve(ngx_webtorch_sink_t *sink, size_t size,
    ngx_webtorch_error_t *err)
{
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ((ngx_http_webtorch_batch_sink_t *) sink)->ctx;

    if (ngx_webtorch_queue_reserve(&ctx->account, size) != NGX_OK) {
        return ngx_http_webtorch_body_full(err);
    }

    ctx->members += size;

    return 0;
}


static size_t
ngx_http_webtorch_rows_size(ngx_http_webtorch_ctx_t *ctx,
    const ngx_webtorch_layout_t *layout)
{
    size_t              size;
    uint32_t            i;
    webtorch_schema_t  *schema;

    size = layout->text;
    schema = &ctx->handler->schema;

    for (i = 0; i < schema->ninputs; i++) {
        size += layout->rows * (size_t) ngx_webtorch_row_size(
                                            &schema->inputs[i], layout->sizes);
    }

    return size;
}


/* training on one NaN would turn all parameters into NaN */

static int
ngx_http_webtorch_check_finite(ngx_webtorch_sink_t *sink,
    webtorch_schema_t *schema, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    uint32_t          i;
    uint64_t          n;
    webtorch_spec_t  *spec;

    if (schema->kind != WEBTORCH_TRAIN) {
        return 0;
    }

    for (i = 0; i < schema->ninputs; i++) {
        spec = &schema->inputs[i];
        n = layout->rows * ngx_webtorch_row_size(spec, layout->sizes)
            / ngx_webtorch_dtypes[spec->dtype].size;

        if (!ngx_webtorch_finite(spec->dtype, sink->data[i], n)) {
            return ngx_webtorch_error(err, 422, "not_finite",
                       "tensor \"%s\": NaN and infinities cannot be trained on",
                       spec->name);
        }
    }

    return 0;
}


#if (NGX_THREADS)

ngx_int_t
ngx_http_webtorch_decode_post(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    ngx_thread_task_t             *task;
    ngx_pool_cleanup_t            *cln;
    ngx_http_webtorch_decoding_t  *d;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    /* nginx before 1.25.4 cannot terminate a subrequest that is blocked */

    if (!ngx_http_webtorch_is_large(ctx, body) || r != r->main) {
        return NGX_DECLINED;
    }

    if (ctx->coding != NGX_HTTP_WEBTORCH_IDENTITY
        && ngx_http_webtorch_inflate_reserve(ctx, body,
                                             ngx_http_webtorch_inflate_limit(r))
           != NGX_OK)
    {
        return ngx_http_webtorch_no_room(r);
    }

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    task = ngx_thread_task_alloc(r->pool, sizeof(ngx_http_webtorch_decoding_t));
    if (task == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    d = task->ctx;

    d->cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_str_t));
    if (d->cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    d->sink.reserve = ngx_http_webtorch_thread_reserve;
    d->sink.limit = ngx_http_webtorch_inflate_limit(r);
    d->sink.inflate = ngx_http_webtorch_member_reserve;
    d->ctx = ctx;
    d->body = *body;
    d->decode = (ctx->text && ctx->handler->schema.kind != WEBTORCH_HANDLER);

    cln->handler = ngx_http_webtorch_decode_cleanup;
    cln->data = d;

    task->handler = ngx_http_webtorch_decode_thread;
    task->event.data = r;
    task->event.handler = ngx_http_webtorch_decode_event_handler;
    task->event.log = r->connection->log;

    if (ngx_thread_task_post(wlcf->thread_pool, task) != NGX_OK) {
        return ngx_http_webtorch_busy(r);
    }

    ngx_add_timer(&task->event, NGX_HTTP_WEBTORCH_DECODE_TIMEOUT);

    /* a blocked request, even if aborted, stays until the thread's event */

    ctx->decoding = d;
    r->main->blocked++;
    r->aio = 1;

    return NGX_AGAIN;
}


static ngx_uint_t
ngx_http_webtorch_is_large(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    if (ctx->coding != NGX_HTTP_WEBTORCH_IDENTITY) {
        return body->len >= NGX_HTTP_WEBTORCH_LARGE_CODED;
    }

    return ctx->text && body->len >= NGX_HTTP_WEBTORCH_LARGE_TEXT;
}


static void
ngx_http_webtorch_decode_thread(void *data, ngx_log_t *log)
{
    ngx_http_webtorch_decoding_t *d = data;

    d->rc = ngx_http_webtorch_decode_body(d);
}


static ngx_int_t
ngx_http_webtorch_decode_body(ngx_http_webtorch_decoding_t *d)
{
    size_t      scratch;
    ngx_int_t   rc;
    ngx_uint_t  inflated;

    inflated = (d->ctx->coding != NGX_HTTP_WEBTORCH_IDENTITY);

    if (inflated) {
        if (ngx_http_webtorch_inflate(d->ctx, &d->body, d->sink.limit, d->cln,
                                      &d->err)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_http_webtorch_body_unmap(d->ctx);
    }

    if (!d->decode || d->body.len == 0) {
        return NGX_DECLINED;
    }

    scratch = NGX_HTTP_WEBTORCH_SCRATCH_FACTOR * d->body.len;

    ngx_http_webtorch_scratch_get(scratch);

    rc = ngx_http_webtorch_decode_rows(d->ctx, &d->body, &d->sink, &d->err);

    ngx_http_webtorch_scratch_put(scratch);

    /* the rows have all that is needed of the body */

    if (inflated) {
        ngx_http_webtorch_inflate_free(d->ctx);
    }

    return rc;
}


/* codecs have checked that the body has as many rows */

static int
ngx_http_webtorch_thread_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    size_t                         size;
    uint32_t                       i;
    webtorch_schema_t             *schema;
    ngx_http_webtorch_decoding_t  *d;

    d = (ngx_http_webtorch_decoding_t *) sink;
    schema = &d->ctx->handler->schema;

    size = ngx_http_webtorch_rows_size(d->ctx, layout);

    if (ngx_webtorch_queue_reserve(&d->ctx->account, size) != NGX_OK) {
        return ngx_http_webtorch_body_full(err);
    }

    d->held = size;

    for (i = 0; i < schema->ninputs; i++) {
        size = layout->rows * (size_t) ngx_webtorch_row_size(
                                           &schema->inputs[i], layout->sizes);
        sink->data[i] = ngx_http_webtorch_scratch_realloc(NULL, 0, size);
        d->sizes[i] = size;

        if (sink->data[i] == NULL) {
            return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "no_memory", "no memory");
        }
    }

    if (layout->text) {
        d->text = ngx_http_webtorch_scratch_realloc(NULL, 0, layout->text);
        d->text_size = layout->text;

        if (d->text == NULL) {
            return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "no_memory", "no memory");
        }
    }

    /* a codec advances sink->text while it writes strings */

    sink->text = d->text;
    sink->at = 0;

    return 0;
}


static void
ngx_http_webtorch_decode_event_handler(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ev->data;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ev->timedout) {
        ngx_log_error(NGX_LOG_ALERT, c->log, 0,
                      "decoding a body in a thread took too long");
        ev->timedout = 0;
        return;
    }

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    r->main->blocked--;
    r->aio = 0;

    /* the request's own handler, or nginx's, which ends an aborted request */

    r->write_event_handler(r);

    ngx_http_run_posted_requests(c);
}


ngx_int_t
ngx_http_webtorch_decode_finish(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    ngx_int_t                      rc;
    ngx_http_webtorch_decoding_t  *d;

    d = ctx->decoding;

    if (d->rc == NGX_ERROR) {
        rc = ngx_http_webtorch_bad_body(r, &d->err);

    } else if (ngx_webtorch_runner_full(ctx->handler->runner,
                                        ctx->account.held))
    {
        rc = ngx_http_webtorch_busy(r);

    } else if (d->rc == NGX_DECLINED) {
        *body = d->body;
        rc = NGX_DECLINED;

    } else {
        rc = ngx_http_webtorch_add_decoded(r, d);
    }

    ngx_http_webtorch_decode_cleanup(d);

    return rc;
}


static ngx_int_t
ngx_http_webtorch_add_decoded(ngx_http_request_t *r,
    ngx_http_webtorch_decoding_t *d)
{
    size_t                   size, n;
    uint32_t                 i;
    webtorch_text_t         *text;
    webtorch_schema_t       *schema;
    ngx_webtorch_sink_t      sink;
    ngx_webtorch_layout_t   *layout;
    ngx_webtorch_runner_t   *runner;

    layout = &d->ctx->layout;
    runner = d->ctx->handler->runner;
    schema = &d->ctx->handler->schema;

    if (ngx_webtorch_runner_reserve(runner, layout, &sink) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (i = 0; i < schema->ninputs; i++) {
        size = ngx_webtorch_row_size(&schema->inputs[i], layout->sizes);
        ngx_memcpy(sink.data[i], d->sink.data[i], layout->rows * size);

        if (ngx_webtorch_is_string(schema->inputs[i].dtype)) {
            text = sink.data[i];

            for (n = layout->rows * size / sizeof(webtorch_text_t); n; n--) {
                text++->at += sink.at;
            }
        }
    }

    if (layout->text) {
        ngx_memcpy(sink.text, d->text, layout->text);
    }

    /* the batch counts the rows from now on */

    ngx_webtorch_queue_release(&d->ctx->account, d->held);
    d->held = 0;

    return ngx_http_webtorch_job_add_rows(r, d->ctx);
}


static void
ngx_http_webtorch_decode_cleanup(void *data)
{
    ngx_http_webtorch_decoding_t *d = data;

    uint32_t  i;

    for (i = 0; i < WEBTORCH_MAX_TENSORS; i++) {
        if (d->sink.data[i]) {
            ngx_http_webtorch_scratch_free(d->sink.data[i], d->sizes[i]);
            d->sink.data[i] = NULL;
        }
    }

    if (d->text) {
        ngx_http_webtorch_scratch_free(d->text, d->text_size);
        d->text = NULL;
    }

    ngx_webtorch_queue_release(&d->ctx->account, d->held);
    d->held = 0;
}

#else

ngx_int_t
ngx_http_webtorch_decode_post(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    return NGX_DECLINED;
}


ngx_int_t
ngx_http_webtorch_decode_finish(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}

#endif
