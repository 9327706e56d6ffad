
/*
 * webtorch_access: a model allows or denies requests.  A request waits in the
 * access phase for its score; threshold and action are configured.
 */

#include "ngx_http_webtorch_access.h"
#include "ngx_http_webtorch.h"
#include "ngx_http_webtorch_body_read.h"
#include "ngx_http_webtorch_feature_handler.h"
#include "ngx_http_webtorch_phases_ctx.h"
#include "ngx_http_webtorch_row.h"
#include "ngx_http_webtorch_score.h"
#include "ngx_webtorch_print.h"

#include <math.h>


struct ngx_http_webtorch_access_s {
    ngx_http_webtorch_feature_handler_t  fh;
    ngx_uint_t                           status;
    double                               threshold;
    ngx_flag_t                           dry_run;
    ngx_flag_t                           deny_on_error;
    ngx_flag_t                           deny_on_unread;
};


static char *ngx_http_webtorch_access_option(ngx_conf_t *cf,
    ngx_http_webtorch_access_t *access, ngx_str_t *option);
static ngx_int_t ngx_http_webtorch_access_number(ngx_str_t *option, size_t len,
    double *number);
static ngx_uint_t ngx_http_webtorch_access_stream(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_access_body(ngx_http_request_t *r);
static void ngx_http_webtorch_access_body_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_access_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_access_scored(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, double score);
static ngx_uint_t ngx_http_webtorch_access_exceeds(
    ngx_http_webtorch_phases_ctx_t *ctx);
static void ngx_http_webtorch_access_fail(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, ngx_http_webtorch_verdict_e verdict,
    const char *why);
static void ngx_http_webtorch_access_unread(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx);
static void ngx_http_webtorch_access_log_error(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, const char *why);
static void ngx_http_webtorch_access_log(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx);
static ngx_uint_t ngx_http_webtorch_access_is_final(ngx_http_request_t *r,
    ngx_http_webtorch_access_t *access);
static ngx_uint_t ngx_http_webtorch_access_error_page(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx);
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


char *
ngx_http_webtorch_access(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_phases_loc_conf_t *plcf = conf;

    char                                  *rv;
    ngx_str_t                             *value;
    ngx_uint_t                             i;
    ngx_http_webtorch_access_t            *access;
    ngx_http_webtorch_phases_main_conf_t  *pmcf;

    if (plcf->access != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        plcf->access = NULL;
        return NGX_CONF_OK;
    }

    access = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_access_t));
    if (access == NULL) {
        return NGX_CONF_ERROR;
    }

    access->fh.allowed = NGX_HTTP_WEBTORCH_FEATURES;
    access->status = NGX_HTTP_FORBIDDEN;
    access->fh.partial = 1;
    access->threshold = 0.5;
    access->deny_on_unread = NGX_CONF_UNSET;

    rv = ngx_http_webtorch_feature_handler_init(cf, &access->fh, &value[1]);

    for (i = 2; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {
        rv = ngx_http_webtorch_access_option(cf, access, &value[i]);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    ngx_conf_init_value(access->deny_on_unread, access->deny_on_error);

    pmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_webtorch_phases_module);
    pmcf->access = 1;
    plcf->access = access;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_access_option(ngx_conf_t *cf,
    ngx_http_webtorch_access_t *access, ngx_str_t *option)
{
    ngx_int_t  n;

    if (ngx_strcmp(option->data, "dry_run") == 0) {
        access->dry_run = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(option->data, "on_error=allow") == 0) {
        access->deny_on_error = 0;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(option->data, "on_error=deny") == 0) {
        access->deny_on_error = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(option->data, "on_unread=allow") == 0) {
        access->deny_on_unread = 0;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(option->data, "on_unread=deny") == 0) {
        access->deny_on_unread = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(option->data, "status=", 7) == 0) {
        n = ngx_atoi(option->data + 7, option->len - 7);

        if (n >= 400 && n <= 599) {
            access->status = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "threshold=", 10) == 0) {

        if (ngx_http_webtorch_access_number(option, 10, &access->threshold)
            == NGX_OK)
        {
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "target=", 7) == 0) {

        if (ngx_http_webtorch_access_number(option, 7, &access->fh.target)
            == NGX_OK
            && access->fh.target > 0 && access->fh.target < 1)
        {
            return NGX_CONF_OK;
        }

    } else {
        return ngx_http_webtorch_feature_handler_option(cf, &access->fh,
                                                        option);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       option);

    return NGX_CONF_ERROR;
}


/* the number after a name of len bytes, which is not a NaN */

static ngx_int_t
ngx_http_webtorch_access_number(ngx_str_t *option, size_t len, double *number)
{
    char  *end;

    *number = strtod((char *) option->data + len, &end);

    return (option->len > len && end == (char *) option->data + option->len
            && *number == *number)
           ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_webtorch_access_handler(ngx_http_request_t *r)
{
    ngx_int_t                             rc;
    ngx_webtorch_scored_result_t          result;
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

    if (ngx_http_webtorch_access_error_page(r, ctx)) {
        return NGX_DECLINED;
    }

    /* after another internal redirect the verdict is reused */

    if (ctx->access == access && ctx->verdict) {
        return ngx_http_webtorch_access_decide(r, ctx);
    }

    if (access->fh.body && !ctx->body_read
        && (r->headers_in.content_length_n > 0 || r->headers_in.chunked)
        && !ngx_http_webtorch_access_stream(r))
    {
        return ngx_http_webtorch_access_body(r);
    }

    ctx->access = access;
    ctx->verdict = NGX_HTTP_WEBTORCH_NO_VERDICT;
    ctx->location = 0;
    ctx->denied = 0;
    ctx->scored = 0;
    ctx->dry_run = access->dry_run ? 1 : 0;
    ctx->unread = NGX_OK;
    ngx_memzero(&ctx->reason, sizeof(ngx_http_webtorch_reason_t));
    ctx->waiter.done = ngx_http_webtorch_access_done;
    ctx->waiter.data = r;

    rc = ngx_http_webtorch_score_now(r, &access->fh, &result);

    if (rc == NGX_OK) {
        ctx->unread = ngx_http_webtorch_row_unread();

        ngx_http_webtorch_access_scored(r, ctx, result.score);

        if (ngx_http_webtorch_access_exceeds(ctx)) {
            ngx_http_webtorch_reason_of(r, &access->fh, &result,
                                        &ctx->reason);
            ngx_http_webtorch_access_log(r, ctx);
        }

        return ngx_http_webtorch_access_decide(r, ctx);
    }

    if (rc == NGX_DECLINED) {
        rc = ngx_http_webtorch_score(r, &access->fh, &ctx->waiter);
    }

    /* codes above 0 are what of the request cannot be read */

    if (rc > NGX_OK) {
        ctx->unread = rc;
        ngx_http_webtorch_access_unread(r, ctx);
        return ngx_http_webtorch_access_decide(r, ctx);
    }

    if (rc != NGX_OK) {
        ngx_http_webtorch_access_fail(r, ctx, NGX_HTTP_WEBTORCH_FAILED,
                                      ngx_http_webtorch_score_strerror(rc));
        return ngx_http_webtorch_access_decide(r, ctx);
    }

    ctx->unread = ngx_http_webtorch_row_unread();

    ngx_http_webtorch_score_suspend(r);

    return NGX_AGAIN;
}


/* a stream's body has no end that could be waited for, and no limit */

static ngx_uint_t
ngx_http_webtorch_access_stream(ngx_http_request_t *r)
{
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    return wlcf->handler
           && wlcf->handler->schema.kind == WEBTORCH_STREAM
           && !(wlcf->handler->schema.stream & WEBTORCH_STREAM_GENERATE);
}


/* the body is kept for the content handler */

static ngx_int_t
ngx_http_webtorch_access_body(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    /*
     * ngx_http_dav_module needs the body of PUT in a file, which it asks for
     * in this way.  "client_body_in_file_only" has its own flags.  A location
     * with a content handler, such as a proxy, has no use for that module.
     */

    if (r->method == NGX_HTTP_PUT && !r->request_body_in_file_only
        && r->content_handler == NULL)
    {
        r->request_body_in_file_only = 1;
        r->request_body_in_persistent_file = 1;
        r->request_body_in_clean_file = 1;
        r->request_body_file_group_access = 1;
        r->request_body_file_log_level = 0;
    }

    rc = ngx_http_webtorch_read_body(r, ngx_http_webtorch_access_body_handler);

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
        ngx_http_webtorch_access_fail(r, ctx, NGX_HTTP_WEBTORCH_TIMED_OUT,
                                      "it did not answer in time");

    } else if (job->status != 0) {
        ngx_http_webtorch_access_fail(r, ctx, NGX_HTTP_WEBTORCH_FAILED,
                                      "it failed");

    } else {
        ngx_http_webtorch_access_scored(r, ctx,
                                  ngx_http_webtorch_score_output(waiter, job));

        if (ngx_http_webtorch_access_exceeds(ctx)) {
            ngx_http_webtorch_reason(r, &ctx->access->fh, waiter, job,
                                     &ctx->reason);
            ngx_http_webtorch_access_log(r, ctx);
        }
    }

    ngx_http_webtorch_score_resume(r);
}


static void
ngx_http_webtorch_access_scored(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, double score)
{
    ctx->score = score;

    if (!isfinite(score)) {
        ngx_http_webtorch_access_fail(r, ctx, NGX_HTTP_WEBTORCH_FAILED,
                                      "the score is not finite");
        return;
    }

    ctx->scored = 1;
    ctx->verdict = (score < ctx->access->threshold)
                   ? NGX_HTTP_WEBTORCH_ALLOW
                   : ctx->access->dry_run ? NGX_HTTP_WEBTORCH_DRY_RUN
                                          : NGX_HTTP_WEBTORCH_DENY;
    ctx->denied = (ctx->verdict != NGX_HTTP_WEBTORCH_ALLOW);

    if (ctx->verdict == NGX_HTTP_WEBTORCH_ALLOW && ctx->unread) {
        ngx_http_webtorch_access_unread(r, ctx);
    }
}


/* whether the score is the reason of a denial, also in a dry run */

static ngx_uint_t
ngx_http_webtorch_access_exceeds(ngx_http_webtorch_phases_ctx_t *ctx)
{
    return ctx->verdict == NGX_HTTP_WEBTORCH_DENY
           || ctx->verdict == NGX_HTTP_WEBTORCH_DRY_RUN;
}


static void
ngx_http_webtorch_access_log(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx)
{
    ngx_uint_t                   is_final, level;
    ngx_http_webtorch_reason_t  *reason;

    reason = &ctx->reason;
    is_final = ngx_http_webtorch_access_is_final(r, ctx->access);
    level = is_final ? NGX_LOG_WARN : NGX_LOG_INFO;

    ngx_log_error(level, r->connection->log, 0,
                  "access denied by webtorch handler \"%V\"%s, score: %.4f"
                  "%s%V%s%V",
                  &ctx->access->fh.handler->name,
                  ctx->access->dry_run ? ", dry run"
                  : is_final ? "" : " unless another check allows it",
                  ctx->score,
                  reason->field.len ? ", field: " : "", &reason->field,
                  reason->kind.len ? ", kind: " : "", &reason->kind);
}


/* as ngx_http_core_access_phase() treats statuses with "satisfy any" */

static ngx_uint_t
ngx_http_webtorch_access_is_final(ngx_http_request_t *r,
    ngx_http_webtorch_access_t *access)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return access->dry_run
           || clcf->satisfy == NGX_HTTP_SATISFY_ALL
           || (access->status != NGX_HTTP_FORBIDDEN
               && access->status != NGX_HTTP_UNAUTHORIZED);
}


static void
ngx_http_webtorch_access_fail(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, ngx_http_webtorch_verdict_e verdict,
    const char *why)
{
    ctx->verdict = verdict;
    ctx->denied = (ctx->access->deny_on_error && !ctx->access->dry_run);

    ngx_http_webtorch_access_log_error(r, ctx, why);
}


/* the part that was read does not deny the request, or there is none */

static void
ngx_http_webtorch_access_unread(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx)
{
    ctx->verdict = NGX_HTTP_WEBTORCH_FAILED;
    ctx->denied = (ctx->access->deny_on_unread && !ctx->access->dry_run);
    ngx_str_set(&ctx->reason.kind, "unread");

    ngx_http_webtorch_access_log_error(r, ctx,
                                ngx_http_webtorch_score_strerror(ctx->unread));
}


static void
ngx_http_webtorch_access_log_error(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx, const char *why)
{
    const char  *outcome;

    if (!ctx->denied) {
        outcome = ", allowed";

    } else if (ngx_http_webtorch_access_is_final(r, ctx->access)) {
        outcome = ", denied";

    } else {
        outcome = ", denied unless another check allows it";
    }

    ngx_http_webtorch_score_log_outcome(r, &ctx->access->fh, NGX_LOG_ERR,
                           ctx->scored ? "the whole of a request" : "a request",
                           why, outcome);
}


/* the model can deny, never allow, even with "satisfy any" */

static ngx_int_t
ngx_http_webtorch_access_decide(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx)
{
    ngx_http_webtorch_access_t  *access;

    access = ctx->access;

    if (access->dry_run || !ctx->denied) {
        return NGX_DECLINED;
    }

    ctx->refused = 1;
    ctx->uri_changes = r->uri_changes;

    return (ngx_int_t) access->status;
}


/*
 * Whether the request is on its way to the error page of its own denial, which
 * is not denied.  Without "recursive_error_pages" there is no other error page
 * after that, so that all redirects of this one belong to it, for example those
 * of an index or "try_files".  With it, only the redirect that comes next is.
 */

static ngx_uint_t
ngx_http_webtorch_access_error_page(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx)
{
    ngx_uint_t  next;

    if (ctx->refused) {
        ctx->refused = 0;
        ctx->error_page = r->error_page;

        next = ((ngx_uint_t) r->uri_changes + 1 == ctx->uri_changes);

        return ctx->error_page || next;
    }

    return ctx->error_page;
}


/* with "satisfy any" another check may allow a request that was denied */

ngx_int_t
ngx_http_webtorch_access_passed(ngx_http_request_t *r)
{
    ngx_http_webtorch_phases_ctx_t  *ctx;

    if (r == r->main) {
        ctx = ngx_http_webtorch_phases_ctx(r, 0);

        if (ctx) {
            ctx->refused = 0;
        }
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_webtorch_access_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
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

    v->data = ngx_pnalloc(r->pool, NGX_WEBTORCH_DOUBLE_LEN);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    v->len = (unsigned) (ngx_webtorch_print_double(v->data, ctx->score, 6)
                         - v->data);

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_access_reason_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                       *value;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    ctx = ngx_http_webtorch_phases_ctx(r, 0);

    value = (ctx == NULL) ? NULL
                          : (ngx_str_t *) ((char *) &ctx->reason + data);

    if (value == NULL || value->len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = value->data;
    v->len = (unsigned) value->len;

    return NGX_OK;
}
