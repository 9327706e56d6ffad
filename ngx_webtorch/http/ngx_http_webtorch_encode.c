
#include "ngx_http_webtorch_encode.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_thread.h"

#include <sys/mman.h>


/* bytes of text that take as long as a number, or an empty string */
#define NGX_HTTP_WEBTORCH_NUMBER_COST  16


/* in front of a body; as large as the alignment of elements */

typedef union {
    size_t   size;
    u_char   align[64];
} ngx_http_webtorch_encode_head_t;


#if (NGX_THREADS)
static void ngx_http_webtorch_encode_free(void *data);
static void ngx_http_webtorch_encode_thread(void *data, ngx_log_t *log);
static void ngx_http_webtorch_encoded_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_encode_cleanup(void *data);
static void ngx_http_webtorch_encode_release(ngx_http_webtorch_encoding_t *e);
#endif


size_t
ngx_http_webtorch_text_cost(const webtorch_spec_t *spec, const void *data,
    uint32_t rows)
{
    size_t  cost;

    cost = rows * ngx_webtorch_row_elements(spec)
           * NGX_HTTP_WEBTORCH_NUMBER_COST;

    if (cost < NGX_WEBTORCH_LARGE_TEXT) {
        cost += ngx_webtorch_text_size(spec, data, rows);
    }

    return cost;
}


/*
 * Not malloc(): it would keep the memory for the thread, and there are many
 * threads.
 */

void *
ngx_http_webtorch_encode_alloc(size_t size)
{
    ngx_http_webtorch_encode_head_t  *head;

    size += sizeof(ngx_http_webtorch_encode_head_t);

    head = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS,
                -1, 0);

    if (head == MAP_FAILED) {
        return NULL;
    }

    head->size = size;

    return &head[1];
}


#if (NGX_THREADS)

static void
ngx_http_webtorch_encode_free(void *data)
{
    ngx_http_webtorch_encode_head_t  *head;

    if (data) {
        head = (ngx_http_webtorch_encode_head_t *) data - 1;
        (void) munmap(head, head->size);
    }
}


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

    e->cln = ngx_pool_cleanup_add(r->pool, 0);
    if (e->cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (e->batch && ngx_webtorch_batch_keep(e->batch) != NGX_OK) {
        return NGX_DECLINED;
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

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
    ctx->encoding = e;

    return NGX_AGAIN;
}


static void
ngx_http_webtorch_encode_thread(void *data, ngx_log_t *log)
{
    ngx_http_webtorch_encoding_t  *e;

    e = *(ngx_http_webtorch_encoding_t **) data;

    e->rc = e->encode(e);
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

    e->cln->handler = ngx_http_webtorch_encode_free;
    e->cln->data = e->body.data;
    ngx_http_webtorch_defer_cleanup(r, e->cln, e->body.len);

    ngx_http_webtorch_finalize(r, e->send(r, e));
}


static void
ngx_http_webtorch_encode_cleanup(void *data)
{
    ngx_http_webtorch_encoding_t *e = data;

    ngx_http_webtorch_encode_release(e);

    if (e->cln->handler == NULL) {
        ngx_http_webtorch_encode_free(e->body.data);
    }
}


/* the tensors are not needed any more */

static void
ngx_http_webtorch_encode_release(ngx_http_webtorch_encoding_t *e)
{
    if (e->batch) {
        ngx_webtorch_batch_release(e->batch);
        e->batch = NULL;
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
