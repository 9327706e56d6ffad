
/*
 * webtorch_set: variables that models compute.  All of a location are computed
 * together, before its rewrite phase, where the request can wait for them; one
 * that is used before that, or is "lazy", is computed at its first use.
 */

#include "ngx_http_webtorch_phases.h"

#include <inttypes.h>
#include <stdio.h>


/* a number as text */
#define NGX_HTTP_WEBTORCH_NUMBER_LEN  32


static ngx_http_webtorch_value_t *ngx_http_webtorch_set_value(
    ngx_http_request_t *r, ngx_http_webtorch_phases_ctx_t *ctx,
    ngx_http_webtorch_set_t *set);
static void ngx_http_webtorch_set_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_set_done_now(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_set_fill(ngx_webtorch_waiter_t *waiter,
    ngx_webtorch_sink_t *sink);
static ngx_int_t ngx_http_webtorch_set_now(ngx_http_webtorch_value_t *value);
static void ngx_http_webtorch_set_store(ngx_http_webtorch_value_t *value);
static int ngx_http_webtorch_write_number(char *p, int32_t dtype,
    const void *number);


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

        rc = ngx_http_webtorch_score(r, &set[i]->scorer, &value->waiter);

        if (rc == NGX_OK) {
            ctx->pending++;
            continue;
        }

        ngx_http_webtorch_log_score_error(r, &set[i]->scorer, NGX_LOG_ERR,
                                   ngx_http_webtorch_score_strerror(rc));
        ngx_http_webtorch_set_store(value);
    }

    if (ctx->pending == 0) {
        return NGX_DECLINED;
    }

    ngx_http_webtorch_suspend(r);

    return NGX_DONE;
}


/* the context keeps it, so that it is cancelled if the client goes away */

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
        ngx_http_webtorch_resume(r);
    }
}


/* the value is set, if there is one */

static void
ngx_http_webtorch_set_done_now(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    int                         n;
    u_char                     *p;
    const void                 *number;
    ngx_http_webtorch_value_t  *value;

    value = waiter->data;

    if (job == NULL || job->status != 0) {

        if (job == NULL) {
            value->set->scorer.handler->stats.late++;
        }

        ngx_http_webtorch_log_score_error(value->request, &value->set->scorer,
                                   NGX_LOG_ERR,
                                   job ? "it failed"
                                       : "it did not answer in time");
        return;
    }

    p = ngx_pnalloc(value->request->pool, NGX_HTTP_WEBTORCH_NUMBER_LEN);
    if (p == NULL) {
        return;
    }

    number = ngx_webtorch_batch_output(waiter, job, 0);

    n = ngx_http_webtorch_write_number((char *) p,
                                       ngx_webtorch_batch_specs(waiter)->dtype,
                                       number);
    value->value.data = p;
    value->value.len = (unsigned) n;
    value->value.valid = 1;
}


/* for all uses to come; what has failed is not computed again */

static void
ngx_http_webtorch_set_store(ngx_http_webtorch_value_t *value)
{
    value->value.not_found = !value->value.valid;
    value->request->variables[value->set->index] = value->value;
}


static int
ngx_http_webtorch_write_number(char *p, int32_t dtype, const void *number)
{
    switch (dtype) {

    case WEBTORCH_UINT64:
        return snprintf(p, NGX_HTTP_WEBTORCH_NUMBER_LEN, "%" PRIu64,
                        *(const uint64_t *) number);

    case WEBTORCH_INT64:
        return snprintf(p, NGX_HTTP_WEBTORCH_NUMBER_LEN, "%" PRId64,
                        *(const int64_t *) number);

    default:
        break;
    }

    /* integers of 32 bits have at most ten digits */

    return snprintf(p, NGX_HTTP_WEBTORCH_NUMBER_LEN,
                    (ngx_webtorch_dtypes[dtype].kind == NGX_WEBTORCH_KIND_FLOAT)
                        ? "%.6g" : "%.10g",
                    ngx_webtorch_number(dtype, number));
}


ngx_int_t
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
        /* another location may have it */
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


/* NGX_DECLINED: the event loop may not wait for it */

static ngx_int_t
ngx_http_webtorch_set_now(ngx_http_webtorch_value_t *value)
{
    ngx_int_t                    rc;
    ngx_webtorch_layout_t        layout;
    ngx_webtorch_handler_t      *handler;
    ngx_http_webtorch_feature_handler_t  *scorer;

    scorer = &value->set->scorer;
    handler = scorer->handler;

    if (handler->runner == NULL) {
        handler->stats.refused++;
        ngx_http_webtorch_log_score_error(value->request, scorer, NGX_LOG_ERR,
                                   ngx_http_webtorch_score_strerror(NGX_DECLINED));
        return NGX_DECLINED;
    }

    ngx_http_webtorch_row_measure(value->request, scorer, &layout);

    value->waiter.done = ngx_http_webtorch_set_done_now;

    rc = ngx_webtorch_batch_now(handler->runner, &layout, &value->waiter,
                                ngx_http_webtorch_set_fill);

    if (rc == NGX_DECLINED) {
        handler->stats.refused++;
        ngx_http_webtorch_log_score_error(value->request, scorer, NGX_LOG_WARN,
                                   "it is not for the event loop now, where "
                                   "its value is asked for");
    }

    return rc;
}


static void
ngx_http_webtorch_set_fill(ngx_webtorch_waiter_t *waiter,
    ngx_webtorch_sink_t *sink)
{
    ngx_http_webtorch_value_t  *value;

    value = waiter->data;

    ngx_http_webtorch_row_write(value->request, &value->set->scorer, sink);
}
