
/*
 * Large bodies are inflated, and those of text decoded, in a thread of nginx's
 * pool "default": a megabyte of either takes milliseconds, in which the event
 * loop would serve nobody.  The rows are copied into a batch afterwards.
 */

#include "ngx_http_webtorch.h"


/*
 * about what is decoded within NGX_WEBTORCH_INLINE_LIMIT, and inflated, as most
 * is, to less than ten times as much
 */
#define NGX_HTTP_WEBTORCH_LARGE_TEXT     (128 * 1024)
#define NGX_HTTP_WEBTORCH_LARGE_CODED    (16 * 1024)

/* a worker that shuts down gracefully waits for timers */
#define NGX_HTTP_WEBTORCH_DECODE_TIMEOUT  60000


/* the thread's, until its event: the request waits, blocked */

struct ngx_http_webtorch_decoding_s {
    ngx_webtorch_sink_t        sink;
    ngx_http_webtorch_ctx_t   *ctx;
    ngx_str_t                  body;
    ngx_pool_cleanup_t        *cln;       /* of what is inflated */
    unsigned                   decode:1;  /* it is decoded, too */
    char                      *text;      /* of strings */
    ngx_int_t                  rc;
    ngx_webtorch_error_t       err;
};


#if (NGX_THREADS)

static ngx_uint_t ngx_http_webtorch_is_large(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body);
static void ngx_http_webtorch_decode_thread(void *data, ngx_log_t *log);
static ngx_int_t ngx_http_webtorch_decode_body(
    ngx_http_webtorch_decoding_t *d);
static int ngx_http_webtorch_decode_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static void ngx_http_webtorch_decode_event_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_webtorch_add_decoded(ngx_http_request_t *r,
    ngx_http_webtorch_decoding_t *d);
static void ngx_http_webtorch_decode_cleanup(void *data);


ngx_int_t
ngx_http_webtorch_decode_later(ngx_http_request_t *r,
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

    d->cln = ngx_pool_cleanup_add(r->pool, 0);
    if (d->cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    d->sink.reserve = ngx_http_webtorch_decode_reserve;
    d->sink.limit = ngx_http_webtorch_inflate_limit(r);
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

    /* the request is there until the thread's event, whoever goes away */

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
    ngx_uint_t  coding;

    coding = d->ctx->coding;

    if (coding != NGX_HTTP_WEBTORCH_IDENTITY
        && ngx_http_webtorch_inflate(coding, &d->body, d->sink.limit, d->cln,
                                     &d->err)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (!d->decode || d->body.len == 0) {
        return NGX_DECLINED;
    }

    return ngx_http_webtorch_decode_rows(d->ctx, &d->body, &d->sink, &d->err);
}


/* codecs have checked that the body is as large as that */

static int
ngx_http_webtorch_decode_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    size_t                         size;
    uint32_t                       i;
    webtorch_schema_t             *schema;
    ngx_http_webtorch_decoding_t  *d;

    d = (ngx_http_webtorch_decoding_t *) sink;
    schema = &d->ctx->handler->schema;

    for (i = 0; i < schema->ninputs; i++) {
        size = ngx_webtorch_row_size(&schema->inputs[i], layout->sizes);
        sink->data[i] = malloc(layout->rows * size);

        if (sink->data[i] == NULL) {
            return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "no_memory", "no memory");
        }
    }

    if (layout->text) {
        d->text = malloc(layout->text);

        if (d->text == NULL) {
            return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "no_memory", "no memory");
        }
    }

    /* this moves on as strings are written */

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

    /* the handler below, or nginx's that ends a request whose client is gone */

    r->write_event_handler(r);

    ngx_http_run_posted_requests(c);
}


void
ngx_http_webtorch_decoded(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_decoding_t  *d;

    /* a write event of the connection's comes here, too */

    if (r->aio) {
        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
    d = ctx->decoding;

    if (d->rc == NGX_ERROR) {
        rc = ngx_http_webtorch_bad_body(r, &d->err);

    } else if (ngx_webtorch_runner_full(ctx->handler->runner)) {
        rc = ngx_http_webtorch_busy(r);

    } else if (d->rc == NGX_DECLINED) {
        rc = ngx_http_webtorch_add_body(r, ctx, &d->body);

    } else {
        rc = ngx_http_webtorch_add_decoded(r, d);
    }

    ngx_http_webtorch_decode_cleanup(d);

    ngx_http_webtorch_wait(r, rc);
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

    return ngx_http_webtorch_join(r, d->ctx);
}


static void
ngx_http_webtorch_decode_cleanup(void *data)
{
    ngx_http_webtorch_decoding_t *d = data;

    uint32_t  i;

    for (i = 0; i < WEBTORCH_MAX_TENSORS; i++) {
        free(d->sink.data[i]);
        d->sink.data[i] = NULL;
    }

    free(d->text);
    d->text = NULL;
}

#else

ngx_int_t
ngx_http_webtorch_decode_later(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    return NGX_DECLINED;
}


void
ngx_http_webtorch_decoded(ngx_http_request_t *r)
{
}

#endif
