
/*
 * webtorch_handler.
 */


#ifndef _NGX_HTTP_WEBTORCH_CONTENT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CONTENT_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


ngx_int_t ngx_http_webtorch_content_handler(ngx_http_request_t *r);

/* NGX_DECLINED: the handler takes another request */
ngx_int_t ngx_http_webtorch_available(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler);

/* the same, and the body's compression is known */
ngx_int_t ngx_http_webtorch_admit(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/* reads the body, decodes it, waits for the handler and answers */
ngx_int_t ngx_http_webtorch_serve(ngx_http_request_t *r);

/* a body that is not compressed; NGX_AGAIN or a status */
ngx_int_t ngx_http_webtorch_add_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);

ngx_int_t ngx_http_webtorch_add_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);

/* a job of a function of requests; NGX_AGAIN: done() will be called */
ngx_int_t ngx_http_webtorch_add_request(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler,
    void (*done)(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job),
    ngx_str_t *body);

/* what the job replied, freed with the request; NULL: no memory */
webtorch_reply_t *ngx_http_webtorch_take_reply(ngx_http_request_t *r,
    webtorch_job_t *job);

/* rows go to the sink; -1: err is set */
int ngx_http_webtorch_decode_rows(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err);

/* the rows that were reserved are the request's; NGX_AGAIN or a status */
ngx_int_t ngx_http_webtorch_join(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/* with what adding has returned: waits, or is finalized */
void ngx_http_webtorch_wait(ngx_http_request_t *r, ngx_int_t rc);


#endif /* _NGX_HTTP_WEBTORCH_CONTENT_H_INCLUDED_ */
