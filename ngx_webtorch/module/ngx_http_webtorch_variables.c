
#include "ngx_http_webtorch_variables.h"
#include "ngx_http_webtorch_ctx.h"


/* bytes of a time in seconds */
#define NGX_HTTP_WEBTORCH_TIME_LEN  (NGX_INT64_LEN + sizeof(".000000") - 1)


static ngx_int_t ngx_http_webtorch_handler_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_rows_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_mode_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_error_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_models_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_webtorch_call_t *ngx_http_webtorch_get_call(ngx_http_request_t *r);
static void ngx_http_webtorch_variable_set(ngx_http_variable_value_t *v,
    u_char *data, size_t len);


static ngx_http_variable_t  ngx_http_webtorch_variables[] = {

    { ngx_string("webtorch_handler"), NULL,
      ngx_http_webtorch_handler_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_queue_time"), NULL,
      ngx_http_webtorch_time_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_run_time"), NULL,
      ngx_http_webtorch_time_variable, 1,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_batch_rows"), NULL,
      ngx_http_webtorch_rows_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_mode"), NULL,
      ngx_http_webtorch_mode_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_error"), NULL,
      ngx_http_webtorch_error_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_model_step"), NULL,
      ngx_http_webtorch_models_variable,
      offsetof(ngx_webtorch_call_t, steps),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_model_version"), NULL,
      ngx_http_webtorch_models_variable,
      offsetof(ngx_webtorch_call_t, versions),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_webtorch_variables_add(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_webtorch_variables; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* logs and other directives find variables by an index */

ngx_int_t
ngx_http_webtorch_variables_init(ngx_conf_t *cf)
{
    ngx_uint_t                  i;
    ngx_http_variable_t        *used, *v;
    ngx_webtorch_conf_t        *wcf;
    ngx_http_core_main_conf_t  *cmcf;

    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);
    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    used = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {

        for (v = ngx_http_webtorch_variables; v->name.len; v++) {

            if (v->name.len != used[i].name.len
                || ngx_strncmp(v->name.data, used[i].name.data, v->name.len)
                   != 0)
            {
                continue;
            }

            if (v->get_handler != ngx_http_webtorch_handler_variable) {
                wcf->logged = 1;
            }

            if (v->get_handler == ngx_http_webtorch_models_variable) {
                wcf->watch = WEBTORCH_WATCH_MODELS;
            }
        }
    }

    return NGX_OK;
}


/* also of a request that nginx has answered before the handler got it */

static ngx_int_t
ngx_http_webtorch_handler_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_webtorch_handler_t        *handler;
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    ctx = ngx_http_webtorch_find_ctx(r);

    if (ctx && ctx->counted) {
        handler = ctx->counted;

    } else {
        wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);
        handler = wlcf->handler;
    }

    if (handler == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_http_webtorch_variable_set(v, handler->name.data, handler->name.len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char               *p;
    uint64_t              usec;
    ngx_webtorch_call_t  *call;

    call = ngx_http_webtorch_get_call(r);

    if (call == NULL || !(data ? call->called : call->queued)) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_WEBTORCH_TIME_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    usec = data ? call->run : call->queue;

    ngx_http_webtorch_variable_set(v, p,
                                ngx_sprintf(p, "%uL.%06uL", usec / 1000000,
                                            usec % 1000000)
                                - p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_rows_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char               *p;
    ngx_webtorch_call_t  *call;

    call = ngx_http_webtorch_get_call(r);

    if (call == NULL || !call->called) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT32_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_http_webtorch_variable_set(v, p, ngx_sprintf(p, "%uD", call->rows) - p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_mode_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_webtorch_call_t  *call;

    call = ngx_http_webtorch_get_call(r);

    if (call == NULL || !call->called) {
        v->not_found = 1;
        return NGX_OK;
    }

    if (call->in_loop) {
        ngx_http_webtorch_variable_set(v, (u_char *) "inline",
                                    sizeof("inline") - 1);

    } else {
        ngx_http_webtorch_variable_set(v, (u_char *) "thread",
                                    sizeof("thread") - 1);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_error_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_webtorch_find_ctx(r);

    if (ctx == NULL || ctx->error.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_http_webtorch_variable_set(v, ctx->error.data, ctx->error.len);

    return NGX_OK;
}


/* data: offset of the text in the call */

static ngx_int_t
ngx_http_webtorch_models_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char               *text;
    ngx_webtorch_call_t  *call;

    call = ngx_http_webtorch_get_call(r);
    text = call ? (u_char *) call + data : NULL;

    if (text == NULL || text[0] == '\0') {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_http_webtorch_variable_set(v, text, ngx_strlen(text));

    return NGX_OK;
}


static ngx_webtorch_call_t *
ngx_http_webtorch_get_call(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_webtorch_find_ctx(r);

    return ctx ? ctx->call : NULL;
}


static void
ngx_http_webtorch_variable_set(ngx_http_variable_value_t *v, u_char *data,
    size_t len)
{
    v->data = data;
    v->len = (unsigned) len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
}
