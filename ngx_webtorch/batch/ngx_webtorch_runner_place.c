
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_runner_place.h"


/* "auto": most fast calls in the thread that slow ones inline require */
#define NGX_WEBTORCH_MAX_PENALTY     1024

/* "auto": fast calls inline that halve the penalty of the next slow one */
#define NGX_WEBTORCH_PENALTY_CALLS   64


/*
 * "auto" runs a batch in the event loop if calls with about as many rows were
 * fast, and only while no thread runs Python: otherwise the loop would wait for
 * the GIL.  If only the thread of this handler does, the batch is run in the
 * loop later, when that thread is done, as it would be in the thread's queue.
 */

ngx_webtorch_place_e
ngx_webtorch_runner_get_place(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch)
{
    ngx_webtorch_batch_set_weight(batch);

    if (runner->handler->mode == NGX_WEBTORCH_MODE_INLINE) {
        return NGX_WEBTORCH_PLACE_LOOP;
    }

    if (runner->handler->mode == NGX_WEBTORCH_MODE_THREAD
        || runner->penalty_left
        || batch->weight > 2 * runner->fast_weight
        || ngx_webtorch_python_learning()
        || ngx_webtorch_runner_threads.nthreaded > runner->nthreaded)
    {
        return NGX_WEBTORCH_PLACE_THREAD;
    }

    return runner->nthreaded ? NGX_WEBTORCH_PLACE_LATER
                             : NGX_WEBTORCH_PLACE_LOOP;
}


/*
 * A call that is not made here counts as one of the fast calls that "auto"
 * requires after a slow one.
 */

ngx_uint_t
ngx_webtorch_runner_may_run_now(ngx_webtorch_runner_t *runner)
{
    if (runner->handler->mode != NGX_WEBTORCH_MODE_AUTO) {
        return runner->handler->mode == NGX_WEBTORCH_MODE_INLINE;
    }

    if (runner->penalty_left) {
        runner->penalty_left--;
        return 0;
    }

    return ngx_webtorch_runner_threads.nthreaded == 0
           && !ngx_webtorch_python_learning();
}


/*
 * A batch is expected to be fast if one with half its weight was: half its
 * rows, or half its bytes if rows or bodies differ in size.  The time that a
 * call waits for the GIL is part of its time: a thread of the user may hold it.
 * After a slow call in the loop, "auto" uses the thread until a number of calls
 * there were fast.  The number, the penalty, grows with each slow call in the
 * loop; it is halved each time a number of calls in the loop were fast.
 */

void
ngx_webtorch_runner_learn(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch, ngx_uint_t in_loop)
{
    uint64_t  weight;

    weight = batch->weight;

    if (batch->elapsed > NGX_WEBTORCH_INLINE_LIMIT) {

        runner->fast_weight = ngx_min(runner->fast_weight, weight / 4);

        if (in_loop) {
            runner->penalty = ngx_min(2 * runner->penalty + 1,
                                      NGX_WEBTORCH_MAX_PENALTY);
            runner->penalty_left = runner->penalty;
            runner->nfast = 0;
        }

        return;
    }

    runner->fast_weight = ngx_max(runner->fast_weight, weight);

    if (!in_loop) {
        if (runner->penalty_left) {
            runner->penalty_left--;
        }

    } else if (++runner->nfast == NGX_WEBTORCH_PENALTY_CALLS) {
        runner->nfast = 0;
        runner->penalty /= 2;
    }
}
