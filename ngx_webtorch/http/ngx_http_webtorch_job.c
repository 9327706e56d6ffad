
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_failure.h"
#include "ngx_http_webtorch_inflate.h"
#include "ngx_http_webtorch_logged.h"
#include "ngx_http_webtorch_reply.h"
#include "ngx_http_webtorch_request.h"
#include "ngx_http_webtorch_shadow.h"
#include "ngx_http_webtorch_thread.h"
#include "ngx_http_webtorch_trace.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_runner.h"


static void ngx_http_webtorch_job_cleanup(void *data);
static ngx_int_t ngx_http_webtorch_job_answer(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job);


ngx_int_t
ngx_http_webtorch_job_available(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler)
{
    if (handler->runner == NULL) {
        ngx_webtorch_metrics_refused(handler, NGX_WEBTORCH_REFUSED_NOT_LOADED);

        return ngx_http_webtorch_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                   "not_loaded",
                   "the handler could not be loaded, see the error log");
    }

    if (ngx_webtorch_runner_full(handler->runner, 0)) {
        return ngx_http_webtorch_busy(r);
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_webtorch_job_add_rows(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    webtorch_job_t                *job;
    ngx_http_cleanup_t            *cln;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->waiter.done = ngx_http_webtorch_job_done;
    ctx->waiter.data = r;

    job = ngx_webtorch_runner_add(ctx->handler->runner, &ctx->layout,
                                  &ctx->waiter);

    if (ctx->owner) {
        ngx_webtorch_job_own(job, ctx->owner);
    }

    ngx_http_webtorch_trace_job(r, ctx);

    if (ctx->begun) {
        ngx_webtorch_metrics_observe(&ctx->counted->metrics->decode,
                          ngx_webtorch_elapsed_usec(ctx->waiter.added,
                                                    ctx->received));
    }

    cln->handler = ngx_http_webtorch_job_cleanup;
    cln->data = ctx;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    if (wlcf->shadow) {
        ngx_http_webtorch_shadow_add(wlcf->shadow, ctx);
    }

    /* the rows have all that is needed of the body */
    ngx_http_webtorch_body_unmap(ctx);
    ngx_http_webtorch_inflate_free(ctx);

    return NGX_AGAIN;
}


ngx_int_t
ngx_http_webtorch_job_add_request(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler,
    void (*done)(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job),
    ngx_str_t *body)
{
    webtorch_job_t       *job;
    webtorch_request_t   *request;
    ngx_http_cleanup_t   *cln;
    ngx_webtorch_sink_t   sink;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    request = ngx_http_webtorch_copy_request(r, &handler->schema, body);
    if (request == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    request->state_row = ctx->state_row;

    ctx->layout.rows = 1;

    if (ngx_webtorch_runner_reserve(handler->runner, &ctx->layout, &sink)
        != NGX_OK)
    {
        ngx_webtorch_shared_release(request->shared);
        ngx_free(request);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->waiter.done = done;
    ctx->waiter.data = r;

    job = ngx_webtorch_runner_add(handler->runner, &ctx->layout, &ctx->waiter);
    ngx_webtorch_batch_set_request(&ctx->waiter, request);
    ngx_http_webtorch_trace_job(r, ctx);

    if (ctx->owner) {
        ngx_webtorch_job_own(job, ctx->owner);
    }

    cln->handler = ngx_http_webtorch_job_cleanup;
    cln->data = ctx;

    return NGX_AGAIN;
}


static void
ngx_http_webtorch_job_cleanup(void *data)
{
    ngx_http_webtorch_ctx_t  *ctx = data;

    (void) ngx_webtorch_batch_cancel(&ctx->waiter);
    ngx_http_webtorch_shadow_cancel(ctx);
    ngx_http_webtorch_body_returned(ctx);
}


void
ngx_http_webtorch_job_done(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
{
    ngx_int_t                 rc;
    ngx_connection_t         *c;
    ngx_http_request_t       *r;
    ngx_http_webtorch_ctx_t  *ctx;

    r = waiter->data;
    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_http_set_log_request(c->log, r);

    ngx_http_webtorch_body_returned(ctx);
    ngx_http_webtorch_logged_call(r, waiter, job);

    if ((ctx->begun || ctx->trace) && job && job->status == 0) {
        ctx->run = ngx_webtorch_metrics_mark;
    }

    rc = ngx_http_webtorch_job_answer(r, ctx, job);

    ngx_http_webtorch_shadow_answered(ctx, job);

    /* a thread encodes the answer */

    if (ctx->encoding) {
        return;
    }

    if (rc != NGX_DECLINED) {
        ngx_http_webtorch_finalize(r, rc);
    }

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_webtorch_job_answer(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job)
{
    uint32_t            i;
    const void         *data[WEBTORCH_MAX_TENSORS];
    webtorch_spec_t    *specs;
    webtorch_reply_t   *reply;
    webtorch_schema_t  *schema;

    schema = &ctx->handler->schema;

    if (job == NULL || job->status != 0) {
        return ngx_http_webtorch_failed(r, job, NULL);
    }

    if (ctx->answer) {
        return ctx->answer(r, ctx, job);
    }

    if (schema->kind != WEBTORCH_HANDLER) {
        specs = ngx_webtorch_batch_specs(&ctx->waiter);

        for (i = 0; i < schema->noutputs; i++) {
            data[i] = ngx_webtorch_batch_output(&ctx->waiter, job, i);
        }

        return ctx->wire->answer(r, ctx, specs, data);
    }

    /* the reply is not copied */

    reply = ngx_http_webtorch_job_take_reply(r, job);
    if (reply == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_send_reply(r, ctx, reply);
}


webtorch_reply_t *
ngx_http_webtorch_job_take_reply(ngx_http_request_t *r, webtorch_job_t *job)
{
    webtorch_reply_t    *reply;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    reply = job->reply;
    job->reply = NULL;

    cln->handler = ngx_webtorch_shared_free;
    cln->data = reply;

    ngx_http_webtorch_defer_cleanup(r, cln, reply->body.len);

    return reply;
}
