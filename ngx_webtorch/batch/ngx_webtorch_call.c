
#include "ngx_webtorch_call.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_clock.h"


/*
 * A request whose time is over has waited if its call has not begun.  If the
 * call has, only its thread knows when.
 */

void
ngx_webtorch_call_add(ngx_webtorch_call_t *call, ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_webtorch_batch_t  *batch;

    batch = waiter->batch;

    if (waiter->added == 0) {
        return;
    }

    if (job == NULL) {

        if (batch->state != NGX_WEBTORCH_BATCH_RUNNING
            && batch->state != NGX_WEBTORCH_BATCH_DONE)
        {
            call->queued = 1;
            call->queue += ngx_webtorch_elapsed_usec(ngx_webtorch_clock_usec(),
                                                     waiter->added);
        }

        return;
    }

    /* 0: no thread could be started for the call */

    if (batch->started == 0) {
        return;
    }

    call->queued = 1;
    call->called = 1;
    call->queue += ngx_webtorch_elapsed_usec(batch->started, waiter->added);
    call->run += batch->elapsed;
    call->rows = batch->api.rows;
    call->in_loop = batch->in_loop;

    if (batch->api.watch & WEBTORCH_WATCH_MODELS) {
        ngx_memcpy(call->steps, batch->api.steps, WEBTORCH_WATCH_LEN);
        ngx_memcpy(call->versions, batch->api.versions, WEBTORCH_WATCH_LEN);
    }
}
