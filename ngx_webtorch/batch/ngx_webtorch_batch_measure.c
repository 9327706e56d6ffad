
#include "ngx_webtorch_batch_measure.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_metrics_handler.h"


/*
 * Of a batch that another worker runs that one counts the call and its rows,
 * and this one the requests.
 */

void
ngx_webtorch_batch_count(ngx_webtorch_batch_t *batch)
{
    uint32_t               i;
    ngx_time_t            *tp;
    ngx_uint_t             offloaded, counted;
    webtorch_job_t        *job;
    ngx_webtorch_stats_t  *stats;

    stats = &batch->runner->handler->stats;
    tp = ngx_timeofday();

    offloaded = batch->runner->offloaded;

    stats->batches += !offloaded;
    stats->last = (uint64_t) tp->sec * 1000 + tp->msec;

    for (i = 0; i < batch->api.njobs; i++) {
        job = &batch->api.jobs[i];
        counted = (job->caller != WEBTORCH_OFFLOADED);

        if (job->status != 0) {
            stats->failed += counted;
            continue;
        }

        stats->served += counted;
        stats->rows += offloaded ? 0 : job->rows;
    }
}


/*
 * A request waited from when it was added until its batch began; rows that
 * Python has posted are none.  Requests in other phases have no answer of the
 * handler: their codes are counted here, except of those whose time is over.
 */

void
ngx_webtorch_batch_measure(ngx_webtorch_batch_t *batch)
{
    uint32_t                      i;
    webtorch_job_t               *job;
    ngx_webtorch_waiter_t        *waiter;
    ngx_webtorch_handler_t       *handler;
    ngx_webtorch_metrics_call_t   call;

    handler = batch->runner->handler;

    if (handler->metrics == NULL || batch->started == 0) {
        return;
    }

    call.started = batch->started;
    call.usec = batch->elapsed;
    call.rows = batch->api.rows;
    call.jobs = batch->api.njobs;
    call.in_loop = batch->in_loop;

    if (!batch->runner->offloaded) {
        ngx_webtorch_metrics_call(handler, &call);
    }

    for (i = 0; i < batch->api.njobs; i++) {
        job = &batch->api.jobs[i];
        waiter = job->waiter;

        if (waiter && job->caller == 0) {
            ngx_webtorch_metrics_observe(&handler->metrics->queue,
                        ngx_webtorch_elapsed_usec(batch->started,
                                                  waiter->added));
        }

        if (handler->keep_open
            && !job->expired
            && job->caller != WEBTORCH_OFFLOADED)
        {
            ngx_webtorch_metrics_code(handler,
                                      job->status ? (ngx_uint_t) job->status
                                                  : 200);
        }
    }
}


/*
 * A request whose call has not begun has waited all of its time.  Those of
 * other phases are answered by others, so their codes are counted here.
 */

void
ngx_webtorch_batch_measure_expired(ngx_webtorch_handler_t *handler,
    uint64_t added, ngx_uint_t waited)
{
    if (handler->metrics == NULL) {
        return;
    }

    ngx_webtorch_metrics_refused(handler, NGX_WEBTORCH_REFUSED_TIMEOUT);

    if (added && waited) {
        ngx_webtorch_metrics_observe(&handler->metrics->queue,
                     ngx_webtorch_elapsed_usec(ngx_webtorch_clock_usec(),
                                               added));
    }

    if (added && handler->keep_open) {
        ngx_webtorch_metrics_code(handler, 504);
    }
}


/* requests of handlers are counted when the module answers them */

void
ngx_webtorch_batch_measure_stuck(ngx_webtorch_handler_t *handler)
{
    if (handler->metrics && handler->keep_open) {
        ngx_webtorch_metrics_refused(handler, NGX_WEBTORCH_REFUSED_STUCK);
        ngx_webtorch_metrics_code(handler, 503);
    }
}
