
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_runner_place.h"


/* "auto": most fast calls in the thread that slow ones inline require */
#define NGX_WEBTORCH_MAX_PENALTY     1024

/* "auto": least penalty of a call that waited for something */
#define NGX_WEBTORCH_WAIT_PENALTY    64

/* "auto": fast calls inline that halve the penalty of the next slow one */
#define NGX_WEBTORCH_PENALTY_CALLS   64


static ngx_uint_t ngx_webtorch_runner_threads_busy(
    ngx_webtorch_runner_t *runner);


/*
 * "auto" runs a batch in the event loop if calls with about as many rows were
 * fast, and only while no thread runs Python: otherwise the loop would wait for
 * the GIL.  Threads whose functions of requests wait, for example for a server,
 * do not have the GIL.  If only threads of this handler run Python, the batch
 * is run in the loop later, when they are done: it would wait in their queue,
 * too.  A function of requests may have other threads, so that this is for as
 * long as a short call takes.
 */

ngx_webtorch_runner_place_e
ngx_webtorch_runner_get_place(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch)
{
    ngx_webtorch_batch_set_weight(batch);

    if (runner->handler->schema.coroutine) {
        return NGX_WEBTORCH_RUNNER_THREAD;
    }

    if (runner->handler->mode == NGX_WEBTORCH_MODE_INLINE) {
        return NGX_WEBTORCH_RUNNER_LOOP;
    }

    if (runner->handler->mode == NGX_WEBTORCH_MODE_THREAD
        || __atomic_load_n(&runner->waits, __ATOMIC_RELAXED)
        || runner->penalty_left
        || batch->weight > 2 * runner->fast_weight
        || ngx_webtorch_python_learning()
        || ngx_webtorch_runner_threads_busy(runner))
    {
        return NGX_WEBTORCH_RUNNER_THREAD;
    }

    if (runner->handler->schema.kind == WEBTORCH_HANDLER) {

        if (!ngx_webtorch_callers_compute()) {
            return NGX_WEBTORCH_RUNNER_LOOP;
        }

        return (runner->nthreaded && !runner->overdue)
                   ? NGX_WEBTORCH_RUNNER_LATER : NGX_WEBTORCH_RUNNER_THREAD;
    }

    return runner->nthreaded ? NGX_WEBTORCH_RUNNER_LATER
                             : NGX_WEBTORCH_RUNNER_LOOP;
}


/* whether threads of other functions of tensors, or of requests, run Python */

static ngx_uint_t
ngx_webtorch_runner_threads_busy(ngx_webtorch_runner_t *runner)
{
    if (ngx_webtorch_runner_is_watched(runner)) {
        return ngx_webtorch_runner_threads.nthreaded != 0;
    }

    return ngx_webtorch_runner_threads.nthreaded > runner->nthreaded
           || ngx_webtorch_callers_compute();
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
           && !ngx_webtorch_python_learning()
           && !ngx_webtorch_callers_compute();
}


/*
 * A batch is expected to be fast if one with half its weight was: half its
 * rows, or half its bytes if rows or bodies differ in size.  The time that a
 * call waits for the GIL is part of its time: a thread of the user may hold it.
 * After a slow call in the loop, "auto" uses threads until a number of calls
 * there were fast.  The number, the penalty, grows with each slow call in the
 * loop, and with its time, so that slow calls delay others by a millisecond for
 * each call at most.  It is halved each time a number of calls in the loop were
 * fast.  A function of requests that waits for something, for example for a
 * server, is slow however short the wait was: the next may be long.
 */

void
ngx_webtorch_runner_learn(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch, ngx_uint_t in_loop)
{
    uint64_t  weight;

    weight = batch->weight;

    if (!in_loop) {
        runner->slow = (batch->elapsed > NGX_WEBTORCH_INLINE_LIMIT);
    }

    if (batch->waited) {
        batch->waited = 0;

        runner->penalty = ngx_max(2 * runner->penalty,
                                  NGX_WEBTORCH_WAIT_PENALTY);
        runner->penalty = ngx_max(runner->penalty,
                                  batch->elapsed / NGX_WEBTORCH_INLINE_LIMIT);
        runner->penalty = ngx_min(runner->penalty, NGX_WEBTORCH_MAX_PENALTY);
        runner->penalty_left = runner->penalty;
        runner->nfast = 0;

        return;
    }

    if (batch->elapsed > NGX_WEBTORCH_INLINE_LIMIT) {

        runner->fast_weight = ngx_min(runner->fast_weight, weight / 4);

        if (in_loop) {
            runner->penalty = ngx_max(2 * runner->penalty + 1,
                                      batch->elapsed
                                      / NGX_WEBTORCH_INLINE_LIMIT);
            runner->penalty = ngx_min(runner->penalty,
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
