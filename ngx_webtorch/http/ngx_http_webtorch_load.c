
/*
 * webtorch_torch_load: Python loads files of torch.save() in a handler of the
 * module, which answers with the same tensors in a format that C decodes.  The
 * request then continues as if its body had been that answer.
 */

#include "ngx_http_webtorch_load.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_decode.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_failure.h"
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_logged.h"
#include "ngx_webtorch_formats.h"
#include "ngx_webtorch_hint.h"
#include "ngx_webtorch_runner.h"


static void ngx_http_webtorch_loaded(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_add_loaded(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job);
static const char *ngx_http_webtorch_load_code(webtorch_job_t *job);


ngx_int_t
ngx_http_webtorch_load_allowed(ngx_http_request_t *r)
{
    ngx_webtorch_error_t           err;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    if (wlcf->loader == NULL) {
        (void) ngx_webtorch_formats_no_files(&err);

        return ngx_http_webtorch_refuse(r, err.status, err.code, err.text);
    }

    return ngx_http_webtorch_job_available(r, wlcf->loader);
}


ngx_int_t
ngx_http_webtorch_load(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body)
{
    ngx_webtorch_error_t           err;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    if (ngx_webtorch_runner_full(wlcf->loader->runner, ctx->account.held)) {
        return ngx_http_webtorch_busy(r);
    }

    if (ctx->formats.in->check((char *) body->data, body->len, &err) != 0) {
        ngx_webtorch_hint_format(&err, ctx->formats.in, (char *) body->data,
                                 body->len);
        return ngx_http_webtorch_bad_body(r, &err);
    }

    return ngx_http_webtorch_job_add_request(r, ctx, wlcf->loader,
                                             ngx_http_webtorch_loaded, body);
}


static void
ngx_http_webtorch_loaded(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
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

    rc = ngx_http_webtorch_add_loaded(r, ctx, job);

    /* the request waits for its own handler */

    if (rc == NGX_AGAIN) {
        return;
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_webtorch_add_loaded(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job)
{
    ngx_str_t          body;
    webtorch_reply_t  *reply;

    if (job == NULL || job->status != 0) {
        return ngx_http_webtorch_failed(r, job,
                                        ngx_http_webtorch_load_code(job));
    }

    if (ngx_webtorch_runner_full(ctx->handler->runner, ctx->account.held)) {
        return ngx_http_webtorch_busy(r);
    }

    reply = ngx_http_webtorch_job_take_reply(r, job);
    if (reply == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->formats.in = ngx_webtorch_codec_by_type(reply->content_type.data,
                                                 reply->content_type.len);

    ngx_webtorch_queue_hold(&ctx->account, reply->body.len);

    ngx_http_webtorch_get_str(&body, &reply->body);

    return ngx_http_webtorch_decode_add(r, ctx, &body);
}


/* the code of an error, whose message is Python's */

static const char *
ngx_http_webtorch_load_code(webtorch_job_t *job)
{
    if (job == NULL) {
        return NULL;
    }

    switch (job->status) {

    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
        return "too_large";

    case 422:
        return "wrong_dtype";

    default: /* 400 */
        return "malformed_body";
    }
}
