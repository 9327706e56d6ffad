
/*
 * webtorch_set: variables that models compute.  The variables of a location are
 * computed together before its rewrite phase, where the request can wait.  A
 * variable that is used before that, or is "lazy", is computed at first use.
 */

#include "ngx_http_webtorch_variable.h"
#include "ngx_http_webtorch_feature_handler.h"
#include "ngx_http_webtorch_phases_ctx.h"
#include "ngx_http_webtorch_row.h"
#include "ngx_http_webtorch_score.h"
#include "ngx_webtorch_print.h"
#include "ngx_webtorch_runner.h"


struct ngx_http_webtorch_set_s {
    ngx_http_webtorch_feature_handler_t  fh;
    ngx_str_t                            name;
    ngx_int_t                            index;   /* of the variable */
    ngx_flag_t                           lazy;
};


static ngx_int_t ngx_http_webtorch_set_name(ngx_conf_t *cf,
    ngx_http_webtorch_set_t *set, ngx_str_t *name);
static ngx_http_webtorch_value_t *ngx_http_webtorch_set_value(
    ngx_http_request_t *r, ngx_http_webtorch_phases_ctx_t *ctx,
    ngx_http_webtorch_set_t *set);
static void ngx_http_webtorch_set_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_set_done_now(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_set_write(ngx_webtorch_waiter_t *waiter,
    ngx_webtorch_sink_t *sink);
static ngx_int_t ngx_http_webtorch_set_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_set_now(ngx_http_webtorch_value_t *value);
static void ngx_http_webtorch_set_store(ngx_http_webtorch_value_t *value);
static u_char *ngx_http_webtorch_write_number(u_char *p, int32_t dtype,
    const void *number);


char *
ngx_http_webtorch_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_phases_loc_conf_t *plcf = conf;

    char                                   *rv;
    ngx_str_t                              *value;
    ngx_uint_t                              i;
    ngx_http_webtorch_set_t                *set, **p;
    ngx_http_webtorch_phases_main_conf_t   *pmcf;

    value = cf->args->elts;

    set = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_set_t));
    if (set == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_webtorch_set_name(cf, set, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (plcf->sets == NGX_CONF_UNSET_PTR) {
        plcf->sets = ngx_array_create(cf->pool, 2,
                                      sizeof(ngx_http_webtorch_set_t *));
        if (plcf->sets == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    p = plcf->sets->elts;

    for (i = 0; i < plcf->sets->nelts; i++) {
        if (p[i]->index == set->index) {
            return "is duplicate";
        }
    }

    set->fh.allowed = NGX_HTTP_WEBTORCH_FEATURES;

    rv = ngx_http_webtorch_feature_handler_init(cf, &set->fh, &value[2]);

    for (i = 3; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "lazy") == 0) {
            set->lazy = 1;
            continue;
        }

        rv = ngx_webtorch_handler_option(cf, set->fh.handler, &value[i]);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    p = ngx_array_push(plcf->sets);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = set;

    pmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_webtorch_phases_module);
    pmcf->set = 1;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_webtorch_set_name(ngx_conf_t *cf, ngx_http_webtorch_set_t *set,
    ngx_str_t *name)
{
    ngx_http_variable_t  *v;

    if (name->len < 2 || name->data[0] != '$') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid variable name \"%V\"", name);
        return NGX_ERROR;
    }

    set->name.data = name->data + 1;
    set->name.len = name->len - 1;

    v = ngx_http_add_variable(cf, &set->name, NGX_HTTP_VAR_CHANGEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    set->index = ngx_http_get_variable_index(cf, &set->name);
    if (set->index == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (v->get_handler == NULL) {
        v->get_handler = ngx_http_webtorch_set_variable;
        v->data = (uintptr_t) set->index;
    }

    if (v->get_handler != ngx_http_webtorch_set_variable) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the variable \"%V\" is set by something else",
                           name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_set_handler(ngx_http_request_t *r)
{
    ngx_int_t                             rc;
    ngx_uint_t                            i;
    ngx_http_webtorch_set_t             **set;
    ngx_http_webtorch_value_t            *value;
    ngx_http_webtorch_phases_ctx_t       *ctx;
    ngx_http_webtorch_phases_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_phases_module);

    if (plcf->sets == NULL || r != r->main) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_webtorch_phases_ctx(r, 1);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->sets == plcf->sets) {
        return NGX_DECLINED;
    }

    ctx->sets = plcf->sets;
    set = plcf->sets->elts;

    for (i = 0; i < plcf->sets->nelts; i++) {

        if (set[i]->lazy || r->variables[set[i]->index].valid) {
            continue;
        }

        value = ngx_http_webtorch_set_value(r, ctx, set[i]);
        if (value == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        value->waiter.done = ngx_http_webtorch_set_done;

        rc = ngx_http_webtorch_score(r, &set[i]->fh, &value->waiter);

        if (rc == NGX_OK) {
            ctx->pending++;
            continue;
        }

        ngx_http_webtorch_score_log_error(r, &set[i]->fh, NGX_LOG_ERR,
                                   ngx_http_webtorch_score_strerror(rc));
        ngx_http_webtorch_set_store(value);
    }

    if (ctx->pending == 0) {
        return NGX_DECLINED;
    }

    ngx_http_webtorch_score_suspend(r);

    return NGX_DONE;
}


/* it is added to the context, which cancels it if the client disconnects */

static ngx_http_webtorch_value_t *
ngx_http_webtorch_set_value(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, ngx_http_webtorch_set_t *set)
{
    ngx_http_webtorch_value_t  *value;

    value = ngx_pcalloc(r->pool, sizeof(ngx_http_webtorch_value_t));
    if (value == NULL) {
        return NULL;
    }

    value->waiter.data = value;
    value->request = r;
    value->set = set;
    value->next = ctx->values;
    ctx->values = value;

    return value;
}


static void
ngx_http_webtorch_set_done(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
{
    ngx_http_request_t              *r;
    ngx_http_webtorch_value_t       *value;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    value = waiter->data;
    r = value->request;
    ctx = ngx_http_webtorch_phases_ctx(r, 0);

    ngx_http_set_log_request(r->connection->log, r);

    ngx_http_webtorch_set_done_now(waiter, job);
    ngx_http_webtorch_set_store(value);

    if (--ctx->pending == 0) {
        ngx_http_webtorch_score_resume(r);
    }
}


/* the value is set, if there is one */

static void
ngx_http_webtorch_set_done_now(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    u_char                     *p, *last;
    const void                 *number;
    ngx_http_webtorch_value_t  *value;

    value = waiter->data;

    if (job == NULL || job->status != 0) {
        ngx_http_webtorch_score_log_error(value->request, &value->set->fh,
                                   NGX_LOG_ERR,
                                   job ? "it failed"
                                       : "it did not answer in time");
        return;
    }

    p = ngx_pnalloc(value->request->pool, NGX_WEBTORCH_DOUBLE_LEN);
    if (p == NULL) {
        return;
    }

    number = ngx_webtorch_batch_output(waiter, job, 0);

    last = ngx_http_webtorch_write_number(p,
                                       ngx_webtorch_batch_specs(waiter)->dtype,
                                       number);
    value->value.data = p;
    value->value.len = (unsigned) (last - p);
    value->value.valid = 1;
}


/* for all later uses; a value that failed is not computed again */

static void
ngx_http_webtorch_set_store(ngx_http_webtorch_value_t *value)
{
    value->value.not_found = !value->value.valid;
    value->request->variables[value->set->index] = value->value;
}


static u_char *
ngx_http_webtorch_write_number(u_char *p, int32_t dtype, const void *number)
{
    int  digits;

    switch (dtype) {

    case WEBTORCH_UINT64:
        return ngx_sprintf(p, "%uL", *(const uint64_t *) number);

    case WEBTORCH_INT64:
        return ngx_sprintf(p, "%L", *(const int64_t *) number);

    default:
        break;
    }

    /* integers of 32 bits have at most ten digits */

    digits = (ngx_webtorch_dtypes[dtype].kind == NGX_WEBTORCH_KIND_FLOAT)
             ? 6 : 10;

    return ngx_webtorch_print_double(p, ngx_webtorch_number(dtype, number),
                                     digits);
}


static ngx_int_t
ngx_http_webtorch_set_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_uint_t                            i;
    ngx_http_webtorch_set_t             **set;
    ngx_http_webtorch_value_t            *value;
    ngx_http_webtorch_phases_ctx_t       *ctx;
    ngx_http_webtorch_phases_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_phases_module);
    set = plcf->sets ? plcf->sets->elts : NULL;

    for (i = 0; plcf->sets && i < plcf->sets->nelts; i++) {
        if ((uintptr_t) set[i]->index == data) {
            break;
        }
    }

    if (plcf->sets == NULL || i == plcf->sets->nelts) {
        /* it is set in other locations only */
        v->not_found = 1;
        v->no_cacheable = 1;
        return NGX_OK;
    }

    ctx = ngx_http_webtorch_phases_ctx(r, 1);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    value = ngx_http_webtorch_set_value(r, ctx, set[i]);
    if (value == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_webtorch_set_now(value) != NGX_OK) {
        v->not_found = 1;
        v->no_cacheable = 1;
        return NGX_OK;
    }

    *v = value->value;
    v->not_found = !v->valid;

    return NGX_OK;
}


/* not NGX_OK: there is no value, or the event loop may not wait for it */

static ngx_int_t
ngx_http_webtorch_set_now(ngx_http_webtorch_value_t *value)
{
    ngx_int_t                             rc;
    ngx_webtorch_layout_t                 layout;
    ngx_webtorch_handler_t               *handler;
    ngx_http_webtorch_feature_handler_t  *fh;

    fh = &value->set->fh;
    handler = fh->handler;

    if (handler->runner == NULL) {
        ngx_http_webtorch_score_refused(handler, &value->waiter,
                                        NGX_WEBTORCH_REFUSED_NOT_LOADED);
        ngx_http_webtorch_score_log_error(value->request, fh, NGX_LOG_ERR,
                              ngx_http_webtorch_score_strerror(NGX_DECLINED));
        return NGX_DECLINED;
    }

    rc = ngx_http_webtorch_row_measure(value->request, fh, &layout);

    if (rc != NGX_OK) {
        ngx_webtorch_metrics_refused(handler, NGX_WEBTORCH_REFUSED_BODY);
        ngx_http_webtorch_score_log_error(value->request, fh, NGX_LOG_ERR,
                                    ngx_http_webtorch_score_strerror(rc));
        return rc;
    }

    value->waiter.done = ngx_http_webtorch_set_done_now;

    rc = ngx_webtorch_runner_run(handler->runner, &layout, &value->waiter,
                                 ngx_http_webtorch_set_write);

    if (rc == NGX_DECLINED) {
        ngx_http_webtorch_score_refused(handler, &value->waiter,
                                        NGX_WEBTORCH_REFUSED_LOOP);
        ngx_http_webtorch_score_log_error(value->request, fh, NGX_LOG_WARN,
                                   "it is not for the event loop now, where "
                                   "its value is asked for");
    }

    return rc;
}


static void
ngx_http_webtorch_set_write(ngx_webtorch_waiter_t *waiter,
    ngx_webtorch_sink_t *sink)
{
    ngx_http_webtorch_value_t  *value;

    value = waiter->data;

    ngx_http_webtorch_row_write(value->request, &value->set->fh, sink);
}
