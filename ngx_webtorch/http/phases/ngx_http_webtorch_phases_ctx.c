
#include "ngx_http_webtorch_phases_ctx.h"


static void ngx_http_webtorch_phases_cleanup(void *data);


ngx_http_webtorch_phases_ctx_t *
ngx_http_webtorch_phases_ctx(ngx_http_request_t *r, ngx_uint_t create)
{
    ngx_pool_cleanup_t              *cln;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_phases_module);

    if (ctx) {
        return ctx;
    }

    /* an internal redirect clears contexts, not cleanup handlers */

    if (r->internal || r->filter_finalize) {

        for (cln = r->pool->cleanup; cln; cln = cln->next) {
            if (cln->handler == ngx_http_webtorch_phases_cleanup) {
                ngx_http_set_ctx(r, cln->data, ngx_http_webtorch_phases_module);
                return cln->data;
            }
        }
    }

    if (!create) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_webtorch_phases_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_webtorch_phases_ctx_t));

    cln->handler = ngx_http_webtorch_phases_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_webtorch_phases_module);

    return ctx;
}


static void
ngx_http_webtorch_phases_cleanup(void *data)
{
    ngx_http_webtorch_phases_ctx_t *ctx = data;

    ngx_http_webtorch_value_t  *value;

    (void) ngx_webtorch_batch_cancel(&ctx->waiter);

    for (value = ctx->values; value; value = value->next) {
        (void) ngx_webtorch_batch_cancel(&value->waiter);
    }
}
