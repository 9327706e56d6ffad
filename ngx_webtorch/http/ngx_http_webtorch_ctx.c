
#include "ngx_http_webtorch_ctx.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_metrics_handler.h"


static void ngx_http_webtorch_ctx_cleanup(void *data);


/* it is the data of a cleanup, which an internal redirect does not forget */

ngx_http_webtorch_ctx_t *
ngx_http_webtorch_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t       *cln;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ctx) {
        return ctx;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_webtorch_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;

    ngx_memzero(ctx, sizeof(ngx_http_webtorch_ctx_t));
    ctx->request = r;

    cln->handler = ngx_http_webtorch_ctx_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_webtorch_module);

    return ctx;
}


ngx_http_webtorch_ctx_t *
ngx_http_webtorch_find_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t       *cln;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ctx) {
        return ctx;
    }

    /* subrequests have the same pool */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_webtorch_ctx_cleanup) {
            ctx = cln->data;

            if (ctx->request == r) {
                return ctx;
            }
        }
    }

    return NULL;
}


void
ngx_http_webtorch_ctx_set_handler(ngx_http_webtorch_ctx_t *ctx,
    ngx_webtorch_handler_t *handler)
{
    ctx->handler = handler;

    if (ctx->begun == 0) {
        ctx->counted = handler;

        if (handler->metrics) {
            ctx->begun = ngx_webtorch_clock_usec();
        }
    }
}


/*
 * The pool is destroyed after the request was logged, with the status that
 * "$status" had then.
 */

static void
ngx_http_webtorch_ctx_cleanup(void *data)
{
    ngx_http_webtorch_ctx_t *ctx = data;

    uint64_t                         now;
    ngx_uint_t                       status;
    ngx_http_request_t              *r;
    ngx_webtorch_handler_metrics_t  *m;

    if (ctx->release) {
        ctx->release(ctx);
    }

    if (ctx->begun == 0) {
        return;
    }

    r = ctx->request;
    m = ctx->counted->metrics;

    now = ngx_webtorch_clock_usec();
    ngx_webtorch_metrics_mark = now;

    if (ctx->status) {
        status = ctx->status;

    } else {
        status = r->err_status ? r->err_status : r->headers_out.status;
    }

    ngx_webtorch_metrics_code(ctx->counted,
                              status ? status : NGX_HTTP_CLIENT_CLOSED_REQUEST);
    ngx_webtorch_metrics_observe(&m->request,
                             ngx_webtorch_elapsed_usec(now, ctx->begun));

    if (r == r->main) {
        ngx_webtorch_metrics_add(&m->received, (uint64_t) r->request_length);
        ngx_webtorch_metrics_add(&m->sent, (uint64_t) r->connection->sent);
    }
}
