
/*
 * Bodies that take more than about a millisecond are copied, inflated and
 * decoded in a thread of nginx's pool "default": the event loop would serve no
 * other request meanwhile.  Few rows are copied into a batch afterwards, many
 * become a batch.  Other bodies are decoded in the event loop, right into a
 * batch.
 */

#include "ngx_http_webtorch_decode.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_inflate.h"
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_scratch.h"
#include "ngx_http_webtorch_thread.h"
#include "ngx_webtorch_formats.h"
#include "ngx_webtorch_runner.h"


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
    ngx_log_t                 *log;
    ngx_chain_t               *bufs;      /* to be copied; NULL: body is set */
    ngx_str_t                  body;
    ngx_pool_cleanup_t        *copied;    /* frees the copied body */
    ngx_pool_cleanup_t        *inflated;  /* frees the inflated body */
    unsigned                   decode:1;  /* 0: Python gets the body */
    char                      *text;      /* strings of the rows */
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

#if (NGX_THREADS)
static ngx_uint_t ngx_http_webtorch_decode_is_large(
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);
static ngx_int_t ngx_http_webtorch_decode_count(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);
static size_t ngx_http_webtorch_text_length(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body);
static void ngx_http_webtorch_decode_thread(void *data, ngx_log_t *log);
static ngx_int_t ngx_http_webtorch_decode_body(
    ngx_http_webtorch_decoding_t *d);
static int ngx_http_webtorch_thread_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static ngx_int_t ngx_http_webtorch_add_decoded(ngx_http_request_t *r,
    ngx_http_webtorch_decoding_t *d);
static void ngx_http_webtorch_decode_free(ngx_http_webtorch_decoding_t *d,
    void (*free)(void *p, size_t size));
static void ngx_http_webtorch_thread_free(void *p, size_t size);
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
        (void) ngx_webtorch_formats_empty(&err);

        return ngx_http_webtorch_bad_body(r, &err);
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

    return ngx_webtorch_formats_check_finite(&ctx->handler->schema, sink,
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

    size = ngx_webtorch_rows_size(&ctx->handler->schema, layout);
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


#if (NGX_THREADS)

ngx_int_t
ngx_http_webtorch_decode_post(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    ngx_thread_task_t             *task;
    ngx_pool_cleanup_t            *cln;
    ngx_http_webtorch_decoding_t  *d;

    if (!ngx_http_webtorch_thread_allowed(r)
        || (body && !ngx_http_webtorch_decode_is_large(ctx, body)))
    {
        return NGX_DECLINED;
    }

    if (ngx_http_webtorch_decode_count(r, ctx, body) != NGX_OK) {
        return ngx_http_webtorch_no_room(r);
    }

    task = ngx_thread_task_alloc(r->pool, sizeof(ngx_http_webtorch_decoding_t));
    if (task == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    d = task->ctx;

    d->copied = ngx_pool_cleanup_add(r->pool, 0);
    if (d->copied == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    d->inflated = ngx_pool_cleanup_add(r->pool, 0);
    if (d->inflated == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* called before the other two */

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    d->sink.reserve = ngx_http_webtorch_thread_reserve;
    d->sink.limit = ngx_http_webtorch_inflate_limit(r);
    d->sink.inflate = ngx_http_webtorch_member_reserve;
    d->ctx = ctx;
    d->log = r->connection->log;
    d->decode = (ctx->handler->schema.kind != WEBTORCH_HANDLER
                 && (ctx->formats.in == NULL || ctx->formats.in->decode));

    if (body) {
        d->body = *body;

    } else {
        d->bufs = r->request_body->bufs;
    }

    /* otherwise Python gets this memory */

    if (d->decode || d->bufs || ctx->coding != NGX_HTTP_WEBTORCH_IDENTITY) {
        ngx_http_webtorch_defer_body(r, ctx);
    }

    cln->handler = ngx_http_webtorch_decode_cleanup;
    cln->data = d;

    task->handler = ngx_http_webtorch_decode_thread;

    if (ngx_http_webtorch_thread_post(r, task, ctx->decoded) != NGX_OK) {
        return ngx_http_webtorch_busy(r);
    }

    ctx->decoding = d;

    return NGX_AGAIN;
}


static ngx_uint_t
ngx_http_webtorch_decode_is_large(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    const ngx_webtorch_codec_t  *in;

    in = ctx->formats.in;

    if (ctx->coding != NGX_HTTP_WEBTORCH_IDENTITY) {
        return ctx->bomb || body->len >= NGX_WEBTORCH_LARGE_DEFLATED;
    }

    if (ctx->handler->schema.kind == WEBTORCH_HANDLER
        || (in && in->decode == NULL))
    {
        return 0;
    }

    if (body->len >= NGX_WEBTORCH_LARGE_SIZE) {
        return 1;
    }

    if (ngx_http_webtorch_text_length(ctx, body) >= NGX_WEBTORCH_LARGE_TEXT) {
        return 1;
    }

    return in && in->slow && in->slow((char *) body->data, body->len);
}


/* bytes of a body that a parser of text gets */

static size_t
ngx_http_webtorch_text_length(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    const ngx_webtorch_codec_t  *in;

    if (ctx->text) {
        return body->len;
    }

    /* the inference protocol sets no format */

    in = ctx->formats.in;

    if (in == NULL) {
        return ngx_min((size_t) ctx->json, body->len);
    }

    return in->text ? in->text((char *) body->data, body->len) : 0;
}


/* counts what a thread will copy or inflate; NGX_BUSY: it is too much */

static ngx_int_t
ngx_http_webtorch_decode_count(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    size_t     limit, size;
    ngx_str_t  copied;

    limit = ngx_http_webtorch_inflate_limit(r);

    if (body == NULL) {
        size = ngx_http_webtorch_body_copied(r, 1);

        if (ngx_webtorch_queue_reserve(&ctx->account, size) != NGX_OK) {
            return NGX_BUSY;
        }

        ctx->mapped = size;
    }

    if (ctx->coding == NGX_HTTP_WEBTORCH_IDENTITY) {
        return NGX_OK;
    }

    if (body) {
        return ngx_http_webtorch_inflate_reserve(ctx, body, limit);
    }

    /* its end, where gzip has the size, is not known yet */

    copied.len = 0;

    return ngx_http_webtorch_inflate_reserve(ctx, &copied, limit);
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
    size_t     scratch;
    ngx_int_t  rc;

    if (d->bufs
        && ngx_http_webtorch_copy_body(d->ctx, d->bufs, d->copied, &d->body,
                                       d->log)
           != NGX_OK)
    {
        return ngx_webtorch_error(&d->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory, or the body could "
                                  "not be read, see the error log");
    }

    if (d->ctx->coding != NGX_HTTP_WEBTORCH_IDENTITY) {

        rc = ngx_http_webtorch_inflate(d->ctx, &d->body, d->sink.limit,
                                       d->inflated, &d->err);

        ngx_http_webtorch_body_unmap(d->ctx);

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (!d->decode || d->body.len == 0) {
        return NGX_DECLINED;
    }

    scratch = NGX_HTTP_WEBTORCH_SCRATCH_FACTOR
              * ngx_http_webtorch_text_length(d->ctx, &d->body);

    ngx_http_webtorch_scratch_get(scratch);

    rc = ngx_http_webtorch_decode_rows(d->ctx, &d->body, &d->sink, &d->err);

    ngx_http_webtorch_scratch_put(scratch);

    /* here, as it takes milliseconds to return many pages to the system */

    ngx_http_webtorch_body_unmap(d->ctx);
    ngx_http_webtorch_inflate_free(d->ctx);

    if (rc == NGX_ERROR) {
        ngx_http_webtorch_decode_free(d, ngx_http_webtorch_thread_free);
    }

    return rc;
}


/* codecs have checked that the body has as many rows */

static int
ngx_http_webtorch_thread_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    size_t                         size;
    webtorch_schema_t             *schema;
    ngx_http_webtorch_decoding_t  *d;

    d = (ngx_http_webtorch_decoding_t *) sink;
    schema = &d->ctx->handler->schema;

    size = ngx_webtorch_rows_size(schema, layout);

    if (ngx_webtorch_queue_reserve(&d->ctx->account, size) != NGX_OK) {
        return ngx_http_webtorch_body_full(err);
    }

    d->held = size;

    if (ngx_webtorch_rows_alloc(schema, layout, sink->data, &d->text, err)
        != 0)
    {
        return -1;
    }

    /* a codec advances sink->text while it writes strings */

    sink->text = d->text;
    sink->at = 0;

    return 0;
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

    /* the batch counts its rows from now on */

    ngx_http_webtorch_decode_free(d, ngx_webtorch_defer_free);

    return rc;
}


static ngx_int_t
ngx_http_webtorch_add_decoded(ngx_http_request_t *r,
    ngx_http_webtorch_decoding_t *d)
{
    if (ngx_webtorch_runner_take(d->ctx->handler->runner, &d->ctx->layout,
                                 &d->sink, &d->text, d->held)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_job_add_rows(r, d->ctx);
}


static void
ngx_http_webtorch_decode_free(ngx_http_webtorch_decoding_t *d,
    void (*free)(void *p, size_t size))
{
    uint32_t                i;
    webtorch_schema_t      *schema;
    ngx_webtorch_layout_t  *layout;

    schema = &d->ctx->handler->schema;
    layout = &d->ctx->layout;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        if (d->sink.data[i]) {
            free(d->sink.data[i],
                 layout->rows * ngx_webtorch_buffer_row_size(schema, i,
                                                             layout->sizes));
            d->sink.data[i] = NULL;
        }
    }

    free(d->text, layout->text);
    d->text = NULL;

    ngx_webtorch_queue_release(&d->ctx->account, d->held);
    d->held = 0;
}


static void
ngx_http_webtorch_thread_free(void *p, size_t size)
{
    ngx_webtorch_buffer_free(p);
}


/* frees the task's memory if the request was aborted meanwhile */

static void
ngx_http_webtorch_decode_cleanup(void *data)
{
    ngx_http_webtorch_decoding_t *d = data;

    ngx_http_webtorch_decode_free(d, ngx_webtorch_defer_free);

    if (d->copied->handler == ngx_webtorch_buffer_free) {
        d->copied->handler = NULL;
        ngx_webtorch_defer_free(d->copied->data, d->ctx->mapped);
    }

    if (d->inflated->handler == ngx_webtorch_buffer_free) {
        d->inflated->handler = NULL;
        ngx_webtorch_defer_free(d->inflated->data, d->ctx->inflated);
    }
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
