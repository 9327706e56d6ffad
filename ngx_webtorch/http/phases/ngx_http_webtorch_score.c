
#include "ngx_http_webtorch_score.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_body_part.h"
#include "ngx_http_webtorch_field_features.h"
#include "ngx_http_webtorch_row.h"
#include "ngx_webtorch_runner.h"


ngx_int_t
ngx_http_webtorch_score(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_waiter_t *waiter)
{
    ngx_int_t                rc;
    ngx_webtorch_sink_t      sink;
    ngx_webtorch_layout_t    layout;
    ngx_webtorch_handler_t  *handler;

    handler = fh->handler;

    if (handler->runner == NULL) {
        ngx_http_webtorch_score_refused(handler, waiter,
                                        NGX_WEBTORCH_REFUSED_NOT_LOADED);
        return NGX_DECLINED;
    }

    if (ngx_webtorch_runner_full(handler->runner, 0)) {
        ngx_http_webtorch_score_refused(handler, waiter,
                                        NGX_WEBTORCH_REFUSED_QUEUE);
        return NGX_BUSY;
    }

    rc = ngx_http_webtorch_row_measure(r, fh, &layout);

    if (rc == NGX_HTTP_WEBTORCH_FIELDS_NO_NET) {
        ngx_http_webtorch_score_refused(handler, waiter,
                                        NGX_WEBTORCH_REFUSED_NOT_LOADED);
        return rc;
    }

    if (rc != NGX_OK) {
        ngx_webtorch_metrics_refused(handler, NGX_WEBTORCH_REFUSED_BODY);
        return rc;
    }

    if (ngx_webtorch_runner_reserve(handler->runner, &layout, &sink)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_webtorch_row_write(r, fh, &sink);

    (void) ngx_webtorch_runner_add(handler->runner, &layout, waiter);

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_score_now(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    ngx_webtorch_scored_result_t *result)
{
    ngx_int_t                rc;
    ngx_webtorch_handler_t  *handler;

    handler = fh->handler;

    if (handler->runner == NULL) {
        return NGX_DECLINED;
    }

    rc = ngx_http_webtorch_row_score(r, fh, result);

    if (rc == NGX_OK) {
        handler->stats.served++;
        handler->stats.rows++;
        ngx_webtorch_metrics_code(handler, NGX_HTTP_OK);

    } else if (rc != NGX_DECLINED) {
        ngx_webtorch_metrics_refused(handler, NGX_WEBTORCH_REFUSED_BODY);
    }

    return rc;
}


/* rows without a waiter are those of webtorch_log */

void
ngx_http_webtorch_score_refused(ngx_webtorch_handler_t *handler,
    ngx_webtorch_waiter_t *waiter, ngx_webtorch_refused_e reason)
{
    if (handler->metrics == NULL) {
        return;
    }

    ngx_webtorch_metrics_refused(handler, reason);

    if (waiter) {
        ngx_webtorch_metrics_code(handler, NGX_HTTP_SERVICE_UNAVAILABLE);

    } else {
        ngx_webtorch_metrics_add(&handler->metrics->dropped, 1);
    }
}


double
ngx_http_webtorch_score_output(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    const void  *p;

    p = ngx_webtorch_batch_output(waiter, job, 0);

    return ngx_webtorch_number(ngx_webtorch_batch_specs(waiter)->dtype, p);
}


void
ngx_http_webtorch_score_suspend(ngx_http_request_t *r)
{
    ngx_http_webtorch_watch_client(r);
    r->write_event_handler = ngx_http_request_empty_handler;
}


void
ngx_http_webtorch_score_resume(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        ngx_http_run_posted_requests(c);
        return;
    }

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}


void
ngx_http_webtorch_score_log_error(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_uint_t level,
    const char *why)
{
    ngx_http_webtorch_score_log_outcome(r, fh, level, "a request", why, "");
}


void
ngx_http_webtorch_score_log_outcome(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_uint_t level,
    const char *what, const char *why, const char *outcome)
{
    if (fh->logged == ngx_time()) {
        fh->nskipped++;
        return;
    }

    ngx_log_error(level, r->connection->log, 0,
                  "webtorch handler \"%V\" has not scored %s: %s%s, "
                  "and %ui more before that",
                  &fh->handler->name, what, why, outcome, fh->nskipped);

    fh->logged = ngx_time();
    fh->nskipped = 0;
}


const char *
ngx_http_webtorch_score_strerror(ngx_int_t rc)
{
    const char  *why;

    why = ngx_http_webtorch_body_part_strerror(rc);

    if (why == NULL) {
        why = ngx_http_webtorch_field_features_strerror(rc);
    }

    if (why) {
        return why;
    }

    switch (rc) {

    case NGX_BUSY:
        return "its queue is full";

    case NGX_DECLINED:
        return "it is not loaded";

    default:
        return "no memory, or the body is not readable";
    }
}
