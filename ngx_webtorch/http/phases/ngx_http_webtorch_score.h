
/* Requests that wait in a phase for what a model says of them. */


#ifndef _NGX_HTTP_WEBTORCH_SCORE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_SCORE_H_INCLUDED_


#include "ngx_http_webtorch_feature_handler.h"
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_scored.h"


/*
 * Adds a row of the request to the function's batch; NGX_OK, NGX_BUSY: the
 * queue is full, NGX_DECLINED: not loaded, NGX_ERROR: no memory, or a code of
 * ngx_http_webtorch_body_part().
 */
ngx_int_t ngx_http_webtorch_score(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_waiter_t *waiter);

/*
 * Scores the request before it returns, by the net of the function.
 * NGX_DECLINED: it is to be called, as it has none now, or the request is too
 * large; or a code as above.
 */
ngx_int_t ngx_http_webtorch_score_now(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    ngx_webtorch_scored_result_t *result);

/* counts a request that gets no score, waiter NULL: a row that is dropped */
void ngx_http_webtorch_score_refused(ngx_webtorch_handler_t *handler,
    ngx_webtorch_waiter_t *waiter, ngx_webtorch_refused_e reason);

/* the first number of a job's first output */
double ngx_http_webtorch_score_output(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);

/* the request waits in its phase until done() resumes it */
void ngx_http_webtorch_score_suspend(ngx_http_request_t *r);
void ngx_http_webtorch_score_resume(ngx_http_request_t *r);

/* logs why a function did not score a request, at most once a second */
void ngx_http_webtorch_score_log_error(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_uint_t level,
    const char *why);

/*
 * The same; what: of the request, or the request; outcome: what happens to it,
 * which begins with a comma, or an empty text.
 */
void ngx_http_webtorch_score_log_outcome(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_uint_t level,
    const char *what, const char *why, const char *outcome);

/* text of a code of ngx_http_webtorch_score() */
const char *ngx_http_webtorch_score_strerror(ngx_int_t rc);


#endif /* _NGX_HTTP_WEBTORCH_SCORE_H_INCLUDED_ */
