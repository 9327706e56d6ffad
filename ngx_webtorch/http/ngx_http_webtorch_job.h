
/* A request's job in a batch of its handler. */


#ifndef _NGX_HTTP_WEBTORCH_JOB_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_JOB_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/* NGX_DECLINED: the handler is loaded and its queue has room */
ngx_int_t ngx_http_webtorch_job_available(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler);

/*
 * Adds the rows that were reserved last, of ctx->layout; NGX_AGAIN: the request
 * waits for its answer; or an HTTP status.
 */
ngx_int_t ngx_http_webtorch_job_add_rows(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/* adds the request itself, for a @webtorch.handler; returns the same */
ngx_int_t ngx_http_webtorch_job_add_request(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler,
    void (*done)(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job),
    ngx_str_t *body);

/* answers with the outputs or the reply of ctx->handler */
void ngx_http_webtorch_job_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);

/* the job's reply, freed with the request; NULL: no memory */
webtorch_reply_t *ngx_http_webtorch_job_take_reply(ngx_http_request_t *r,
    webtorch_job_t *job);


#endif /* _NGX_HTTP_WEBTORCH_JOB_H_INCLUDED_ */
