
#include "ngx_http_webtorch_failure.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_webtorch_status.h"


static ngx_int_t ngx_http_webtorch_not_done(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_send_failure(ngx_http_request_t *r,
    webtorch_job_t *job, const char *code);


ngx_int_t
ngx_http_webtorch_failed(ngx_http_request_t *r, webtorch_job_t *job,
    const char *code)
{
    ngx_int_t                        rc;
    ngx_str_t                        text;
    webtorch_failure_t              *failure;
    ngx_http_webtorch_header_mark_t  mark;

    if (job == NULL) {
        return ngx_http_webtorch_not_done(r);
    }

    failure = job->failure;

    if (failure == NULL) {
        ngx_str_set(&text, "the handler failed, see the error log");
        return ngx_http_webtorch_error(r, job->status, "handler_failed",
                                       &text);
    }

    ngx_http_webtorch_mark_headers(r, &mark);

    rc = ngx_http_webtorch_send_failure(r, job, code);

    /* nginx answers with a page of its own instead */

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        rc = ngx_http_webtorch_replace_headers(r, rc, &mark, failure->headers,
                                               failure->nheaders);
    }

    return rc;
}


static ngx_int_t
ngx_http_webtorch_not_done(ngx_http_request_t *r)
{
    ngx_str_t                 text;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    /* before the deadline: a call does not return, this one is not begun */

    if ((ngx_msec_int_t) (ctx->waiter.deadline - ngx_current_msec) > 0) {
        return ngx_http_webtorch_busy(r);
    }

    ngx_str_set(&text, "the handler did not answer in time");

    return ngx_http_webtorch_error(r, 504, "timeout", &text);
}


static ngx_int_t
ngx_http_webtorch_send_failure(ngx_http_request_t *r, webtorch_job_t *job,
    const char *code)
{
    uint32_t             i;
    ngx_str_t            name, value, text, detail;
    webtorch_failure_t  *failure;

    failure = job->failure;

    for (i = 0; i < failure->nheaders; i++) {
        ngx_http_webtorch_get_str(&name, &failure->headers[i].name);
        ngx_http_webtorch_get_str(&value, &failure->headers[i].value);

        if (ngx_http_webtorch_copy_header(r, &name, &value) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (failure->code.len) {
        code = failure->code.data;
    }

    if (code == NULL) {
        code = ngx_webtorch_status_code(job->status);
    }

    ngx_http_webtorch_get_str(&text, &failure->message);
    ngx_http_webtorch_get_str(&detail, &failure->detail);

    return ngx_http_webtorch_error_detail(r, (ngx_uint_t) job->status,
                                          code ? code : "handler_error", &text,
                                          detail.len ? &detail : NULL);
}
