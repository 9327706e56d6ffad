
#include "ngx_http_webtorch_encode.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_thread.h"


/* bytes of text that take as long as a number, or an empty string */
#define NGX_HTTP_WEBTORCH_NUMBER_COST  16


#if (NGX_THREADS)
static void ngx_http_webtorch_encode_thread(void *data, ngx_log_t *log);
static void ngx_http_webtorch_encoded_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_encode_cleanup(void *data);
static void ngx_http_webtorch_encode_release(ngx_http_webtorch_encoding_t *e);
#endif


size_t
ngx_http_webtorch_number_cost(const webtorch_spec_t *spec, uint32_t rows)
{
    return rows * ngx_webtorch_row_elements(spec)
           * NGX_HTTP_WEBTORCH_NUMBER_COST;
}


size_t
ngx_http_webtorch_text_cost(const webtorch_spec_t *spec, const void *data,
    uint32_t rows)
{
    size_t  cost;

    cost = ngx_http_webtorch_number_cost(spec, rows);

    if (cost < NGX_WEBTORCH_LARGE_TEXT) {
        cost += ngx_webtorch_text_size(spec, data, rows);
    }

    return cost;
}


#if (NGX_THREADS)

ngx_int_t
ngx_http_webtorch_encode_post(ngx_http_request_t *r,
    ngx_http_webtorch_encoding_t *e)
{
    ngx_thread_task_t        *task;
    ngx_pool_cleanup_t       *cln;
    ngx_http_webtorch_ctx_t  *ctx;

    if (!ngx_http_webtorch_thread_allowed(r)) {
        return NGX_DECLINED;
    }

    task = ngx_thread_task_alloc(r->pool,
                                 sizeof(ngx_http_webtorch_encoding_t *));
    if (task == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (e->batch && ngx_webtorch_batch_keep(e->batch) != NGX_OK) {
        return NGX_DECLINED;
    }

    /* until they are encoded, the tensors are kept for this request */

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    e->account = &ctx->account;

    if (e->batch) {
        e->held = e->size;
        ngx_webtorch_queue_hold(e->account, e->held);
    }

    /* an aborted request does not get to its own handler */

    cln->handler = ngx_http_webtorch_encode_cleanup;
    cln->data = e;

    *(ngx_http_webtorch_encoding_t **) task->ctx = e;
    task->handler = ngx_http_webtorch_encode_thread;

    if (ngx_http_webtorch_thread_post(r, task,
                                      ngx_http_webtorch_encoded_handler)
        != NGX_OK)
    {
        ngx_http_webtorch_encode_release(e);
        return NGX_DECLINED;
    }

    ctx->encoding = e;

    return NGX_AGAIN;
}


static void
ngx_http_webtorch_encode_thread(void *data, ngx_log_t *log)
{
    ngx_http_webtorch_encoding_t  *e;

    e = *(ngx_http_webtorch_encoding_t **) data;

    e->rc = e->encode(e);

    if (e->rc == NGX_OK) {
        ngx_webtorch_queue_hold(e->account, e->body.len);
    }
}


static void
ngx_http_webtorch_encoded_handler(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_encoding_t  *e;

    /* a write event of the connection calls it, too */

    if (r->aio) {
        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
    e = ctx->encoding;

    ngx_http_webtorch_encode_release(e);

    if (e->rc != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_webtorch_finalize(r, e->send(r, e));
}


static void
ngx_http_webtorch_encode_cleanup(void *data)
{
    ngx_http_webtorch_encoding_t *e = data;

    ngx_http_webtorch_encode_release(e);

    if (e->body.data) {
        ngx_webtorch_defer_free(e->body.data, e->body.len);
    }
}


/* the tensors are not needed any more */

static void
ngx_http_webtorch_encode_release(ngx_http_webtorch_encoding_t *e)
{
    if (e->batch) {
        ngx_webtorch_batch_release(e->batch);
        e->batch = NULL;

        ngx_webtorch_queue_release(e->account, e->held);
    }
}

#else

ngx_int_t
ngx_http_webtorch_encode_post(ngx_http_request_t *r,
    ngx_http_webtorch_encoding_t *e)
{
    return NGX_DECLINED;
}

#endif
