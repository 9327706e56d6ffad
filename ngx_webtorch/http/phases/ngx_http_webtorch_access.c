
/*
 * webtorch_access: a model says who enters.  The request waits in the access
 * phase for its score; threshold and action are the configuration's.
 */

#include "ngx_http_webtorch_phases.h"

#include <math.h>
#include <stdio.h>


/* "%.6g" */
#define NGX_HTTP_WEBTORCH_NUMBER_LEN  32


static ngx_int_t ngx_http_webtorch_access_body(ngx_http_request_t *r);
static void ngx_http_webtorch_access_body_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_access_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_access_fail(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, ngx_http_webtorch_verdict_e verdict,
    const char *why);
static ngx_int_t ngx_http_webtorch_access_decide(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx);


static ngx_str_t  ngx_http_webtorch_verdicts[] = {
    ngx_null_string,
    ngx_string("allow"),
    ngx_string("deny"),
    ngx_string("dry_run"),
    ngx_string("error"),
    ngx_string("timeout")
};


ngx_int_t
ngx_http_webtorch_access_handler(ngx_http_request_t *r)
{
    ngx_int_t                             rc;
    ngx_http_webtorch_access_t           *access;
    ngx_http_webtorch_phases_ctx_t       *ctx;
    ngx_http_webtorch_phases_loc_conf_t  *plcf;

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_phases_module);
    access = plcf->access;

    if (access == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_webtorch_phases_ctx(r, 1);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    /* an internal redirect comes here again */

    if (ctx->access == access && ctx->verdict) {
        return ngx_http_webtorch_access_decide(r, ctx);
    }

    if (access->scorer.body && !ctx->body_read
        && (r->headers_in.content_length_n > 0 || r->headers_in.chunked))
    {
        return ngx_http_webtorch_access_body(r);
    }

    ctx->access = access;
    ctx->verdict = NGX_HTTP_WEBTORCH_NO_VERDICT;
    ctx->scored = 0;
    ctx->waiter.done = ngx_http_webtorch_access_done;
    ctx->waiter.data = r;

    rc = ngx_http_webtorch_score(r, &access->scorer, &ctx->waiter);

    if (rc != NGX_OK) {
        ngx_http_webtorch_access_fail(r, ctx, NGX_HTTP_WEBTORCH_FAILED,
                                      ngx_http_webtorch_score_strerror(rc));
        return ngx_http_webtorch_access_decide(r, ctx);
    }

    ngx_http_webtorch_suspend(r);

    return NGX_AGAIN;
}


/* the body stays, for whoever serves the request */

static ngx_int_t
ngx_http_webtorch_access_body(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_read_client_request_body(r,
                                     ngx_http_webtorch_access_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


static void
ngx_http_webtorch_access_body_handler(ngx_http_request_t *r)
{
    ngx_http_webtorch_phases_ctx_t  *ctx;

    ctx = ngx_http_webtorch_phases_ctx(r, 0);
    ctx->body_read = 1;

    r->preserve_body = 1;

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


static void
ngx_http_webtorch_access_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_http_request_t              *r;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    r = waiter->data;
    ctx = ngx_http_webtorch_phases_ctx(r, 0);

    ngx_http_set_log_request(r->connection->log, r);

    if (job == NULL) {
        ctx->access->scorer.handler->stats.late++;
        ngx_http_webtorch_access_fail(r, ctx, NGX_HTTP_WEBTORCH_TIMED_OUT,
                                      "it did not answer in time");

    } else if (job->status != 0) {
        ngx_http_webtorch_access_fail(r, ctx, NGX_HTTP_WEBTORCH_FAILED,
                                      "it failed");

    } else {
        ctx->score = ngx_http_webtorch_output(waiter, job);

        if (!isfinite(ctx->score)) {
            ngx_http_webtorch_access_fail(r, ctx, NGX_HTTP_WEBTORCH_FAILED,
                                          "the score is not finite");

        } else {
            ctx->scored = 1;
            ctx->verdict = (ctx->score < ctx->access->threshold)
                           ? NGX_HTTP_WEBTORCH_ALLOW
                           : ctx->access->dry_run ? NGX_HTTP_WEBTORCH_DRY_RUN
                                                  : NGX_HTTP_WEBTORCH_DENY;

            if (ctx->verdict != NGX_HTTP_WEBTORCH_ALLOW) {
                ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                              "access denied by webtorch handler \"%V\"%s, "
                              "score: %.4f",
                              &ctx->access->scorer.handler->name,
                              ctx->access->dry_run ? ", dry run" : "",
                              ctx->score);
            }
        }
    }

    ngx_http_webtorch_resume(r);
}


static void
ngx_http_webtorch_access_fail(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, ngx_http_webtorch_verdict_e verdict,
    const char *why)
{
    ctx->verdict = verdict;

    ngx_http_webtorch_log_score_error(r, &ctx->access->scorer, NGX_LOG_ERR, why);
}


/*
 * The model can only deny: with "satisfy any" it does not open what others
 * close.
 */

static ngx_int_t
ngx_http_webtorch_access_decide(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx)
{
    ngx_http_webtorch_access_t  *access;

    access = ctx->access;

    if (access->dry_run || !ngx_http_webtorch_access_denied(ctx)) {
        return NGX_DECLINED;
    }

    /* the page that tells of it is not denied again */

    return r->error_page ? NGX_DECLINED : (ngx_int_t) access->status;
}


ngx_uint_t
ngx_http_webtorch_access_denied(ngx_http_webtorch_phases_ctx_t *ctx)
{
    switch (ctx->verdict) {

    case NGX_HTTP_WEBTORCH_DENY:
    case NGX_HTTP_WEBTORCH_DRY_RUN:
        return 1;

    case NGX_HTTP_WEBTORCH_FAILED:
    case NGX_HTTP_WEBTORCH_TIMED_OUT:
        return ctx->access->deny_on_error && !ctx->access->dry_run;

    default:
        return 0;
    }
}


ngx_int_t
ngx_http_webtorch_access_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    int                              n;
    ngx_str_t                       *verdict;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    ctx = ngx_http_webtorch_phases_ctx(r, 0);

    if (ctx == NULL
        || ctx->verdict == NGX_HTTP_WEBTORCH_NO_VERDICT
        || (data && !ctx->scored))
    {
        v->not_found = 1;
        return NGX_OK;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    if (data == 0) {
        verdict = &ngx_http_webtorch_verdicts[ctx->verdict];
        v->data = verdict->data;
        v->len = verdict->len;
        return NGX_OK;
    }

    v->data = ngx_pnalloc(r->pool, NGX_HTTP_WEBTORCH_NUMBER_LEN);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    n = snprintf((char *) v->data, NGX_HTTP_WEBTORCH_NUMBER_LEN, "%.6g",
                 ctx->score);
    v->len = (unsigned) n;

    return NGX_OK;
}
