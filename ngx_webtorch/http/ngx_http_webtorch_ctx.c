
#include "ngx_http_webtorch_ctx.h"


ngx_http_webtorch_ctx_t *
ngx_http_webtorch_get_ctx(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ctx == NULL) {
        ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_webtorch_ctx_t));

        if (ctx) {
            ngx_http_set_ctx(r, ctx, ngx_http_webtorch_module);
        }
    }

    return ctx;
}
