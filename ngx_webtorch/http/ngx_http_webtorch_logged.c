
#include "ngx_http_webtorch_logged.h"


static ngx_uint_t ngx_http_webtorch_is_logged(ngx_http_request_t *r);


static ngx_uint_t
ngx_http_webtorch_is_logged(ngx_http_request_t *r)
{
    ngx_webtorch_conf_t  *wcf;

    wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);

    return wcf->logged;
}


void
ngx_http_webtorch_logged_call(ngx_http_request_t *r,
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
{
    ngx_http_webtorch_ctx_t  *ctx;

    if (!ngx_http_webtorch_is_logged(r)) {
        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ctx->call == NULL) {
        ctx->call = ngx_pcalloc(r->pool, sizeof(ngx_webtorch_call_t));
        if (ctx->call == NULL) {
            return;
        }
    }

    ngx_webtorch_call_add(ctx->call, waiter, job);
}


void
ngx_http_webtorch_logged_error(ngx_http_request_t *r, const char *code)
{
    ngx_str_t                 s;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ctx == NULL || !ngx_http_webtorch_is_logged(r)) {
        return;
    }

    s.data = (u_char *) code;
    s.len = ngx_strlen(code);

    ctx->error.data = ngx_pstrdup(r->pool, &s);
    ctx->error.len = ctx->error.data ? s.len : 0;
}
