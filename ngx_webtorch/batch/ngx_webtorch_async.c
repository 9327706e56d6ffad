
#include "ngx_webtorch_async.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_fork.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_slow.h"

#include <sys/eventfd.h>


/* batches that are done before they are given back without a flush */
#define NGX_WEBTORCH_ASYNC_MAX_DONE  32


typedef struct {
    ngx_fd_t                 fd;          /* eventfd; -1: no loop runs */
    ngx_uint_t               notified;    /* mutex: it has been written to */
    ngx_webtorch_fifo_t      pending;     /* mutex */
    ngx_queue_t              cancelled;   /* mutex: batches */
    ngx_webtorch_fifo_t      done;        /* asyncio's thread */
    ngx_uint_t               ndone;
    ngx_uint_t               ncalls;      /* asyncio's thread: calls that run */
    ngx_webtorch_caller_t    caller;      /* the thread, to be watched */
    ngx_webtorch_runner_t   *runners;     /* those with "stuck=" */
} ngx_webtorch_async_t;


static void ngx_webtorch_async_add_call(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_async_remove_call(ngx_webtorch_runner_t *runner);


static ngx_webtorch_async_t  ngx_webtorch_async = { .fd = -1 };


/* called by Python in the thread of asyncio's loop, before it serves */

int
ngx_webtorch_async_begin(void)
{
    ngx_webtorch_async_t  *async;

    async = &ngx_webtorch_async;

    ngx_webtorch_fifo_init(&async->pending);
    ngx_webtorch_fifo_init(&async->done);
    ngx_queue_init(&async->cancelled);

    ngx_webtorch_slow_watch();

    async->caller.thread = pthread_self();
    async->fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

    return async->fd;
}


void
ngx_webtorch_async_watch(void)
{
    if (ngx_webtorch_async.fd != -1) {
        ngx_webtorch_caller_watch(&ngx_webtorch_async.caller);
    }
}


ngx_int_t
ngx_webtorch_async_submit(ngx_webtorch_batch_t *batch)
{
    ngx_webtorch_async_t   *async;
    ngx_webtorch_runner_t  *runner;

    async = &ngx_webtorch_async;
    runner = batch->runner;

    if (async->fd == -1) {
        return NGX_ERROR;
    }

    batch->state = NGX_WEBTORCH_BATCH_PENDING;
    runner->nthreaded++;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    ngx_webtorch_fifo_add(&async->pending, batch);
    ngx_webtorch_async_notify();

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    return NGX_OK;
}


void
ngx_webtorch_async_cancel(ngx_webtorch_batch_t *batch)
{
    if (batch->cancelling) {
        return;
    }

    batch->cancelling = 1;
    ngx_queue_insert_tail(&ngx_webtorch_async.cancelled, &batch->cancelled);

    ngx_webtorch_async_notify();
}


/* once until asyncio's loop has taken what there is */

void
ngx_webtorch_async_notify(void)
{
    uint64_t  one;

    if (ngx_webtorch_async.notified) {
        return;
    }

    ngx_webtorch_async.notified = 1;

    one = 1;
    (void) !write(ngx_webtorch_async.fd, &one, sizeof(uint64_t));
}


uint32_t
ngx_webtorch_async_take(webtorch_batch_t **batches, uint32_t n)
{
    uint32_t               i;
    uint64_t               count;
    ngx_webtorch_fifo_t    ended;
    ngx_webtorch_async_t  *async;
    ngx_webtorch_batch_t  *batch;

    /* a coroutine has forked, and the child comes back */
    ngx_webtorch_fork_exit_child();

    async = &ngx_webtorch_async;
    i = 0;

    ngx_webtorch_fifo_init(&ended);

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    while (i < n && (batch = ngx_webtorch_fifo_get(&async->pending)) != NULL) {

        if (batch->api.njobs == 0) {
            ngx_webtorch_fifo_add(&ended, batch);
            continue;
        }

        batch->state = NGX_WEBTORCH_BATCH_RUNNING;
        batch->started = ngx_webtorch_clock_usec();
        batch->in_loop = 0;
        ngx_webtorch_async_add_call(batch->runner);
        batches[i++] = &batch->api;
    }

    if (i < n && async->notified) {
        async->notified = 0;
        (void) !read(async->fd, &count, sizeof(uint64_t));
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (ended.head) {
        ngx_webtorch_done_add_all(&ended);
    }

    return i;
}


uint32_t
ngx_webtorch_async_cancelled(webtorch_batch_t **batches, uint32_t n)
{
    uint32_t               i;
    ngx_queue_t           *q;
    ngx_webtorch_batch_t  *batch;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    for (i = 0; i < n && !ngx_queue_empty(&ngx_webtorch_async.cancelled); i++) {

        q = ngx_queue_head(&ngx_webtorch_async.cancelled);
        batch = ngx_queue_data(q, ngx_webtorch_batch_t, cancelled);

        ngx_queue_remove(q);
        batch->cancelling = 0;

        batches[i] = &batch->api;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    return i;
}


int
ngx_webtorch_async_done(webtorch_batch_t *api)
{
    ngx_webtorch_batch_t  *batch;

    /* a coroutine has forked, and the child comes back */
    ngx_webtorch_fork_exit_child();

    batch = ngx_queue_data(api, ngx_webtorch_batch_t, api);

    batch->elapsed = ngx_webtorch_clock_usec() - batch->started;

    ngx_webtorch_async_remove_call(batch->runner);

    ngx_webtorch_fifo_add(&ngx_webtorch_async.done, batch);

    if (++ngx_webtorch_async.ndone == NGX_WEBTORCH_ASYNC_MAX_DONE) {
        ngx_webtorch_async_flush();
        return 0;
    }

    return ngx_webtorch_async.ndone == 1;
}


void
ngx_webtorch_async_flush(void)
{
    ngx_webtorch_batch_t  *batch;

    /* a coroutine has forked, and the child comes back */
    ngx_webtorch_fork_exit_child();

    if (ngx_webtorch_async.ndone == 0) {
        return;
    }

    ngx_webtorch_async.ndone = 0;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    for (batch = ngx_webtorch_async.done.head; batch; batch = batch->next) {

        if (batch->cancelling) {
            ngx_queue_remove(&batch->cancelled);
            batch->cancelling = 0;
        }

        /* it is not cancelled any more */
        batch->state = NGX_WEBTORCH_BATCH_DONE;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    ngx_webtorch_done_add_all(&ngx_webtorch_async.done);
}


static void
ngx_webtorch_async_add_call(ngx_webtorch_runner_t *runner)
{
    (void) __atomic_fetch_add(&runner->run->batch, 1, __ATOMIC_RELAXED);
    (void) __atomic_fetch_add(&runner->run->jobs, 1, __ATOMIC_RELAXED);
    ngx_webtorch_metrics_running(runner->handler, 1);

    if (ngx_webtorch_async.ncalls++ == 0) {
        __atomic_store_n(&ngx_webtorch_async.caller.ncalls, 1,
                         __ATOMIC_RELAXED);
    }

    if (runner->ncoroutines++ == 0 && ngx_webtorch_slow_time(runner->handler)) {
        runner->callers->thread = pthread_self();
        runner->beating = ngx_webtorch_async.runners;
        ngx_webtorch_async.runners = runner;

        __atomic_store_n(&runner->callers->since, ngx_webtorch_clock_usec(),
                         __ATOMIC_RELEASE);
    }
}


static void
ngx_webtorch_async_remove_call(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_runner_t  **p;

    (void) __atomic_fetch_sub(&runner->run->jobs, 1, __ATOMIC_RELAXED);
    ngx_webtorch_metrics_running(runner->handler, -1);

    if (--ngx_webtorch_async.ncalls == 0) {
        __atomic_store_n(&ngx_webtorch_async.caller.ncalls, 0,
                         __ATOMIC_RELAXED);
    }

    if (--runner->ncoroutines == 0 && ngx_webtorch_slow_time(runner->handler)) {
        __atomic_store_n(&runner->callers->since, 0, __ATOMIC_RELEASE);

        for (p = &ngx_webtorch_async.runners; *p != runner; p = &(*p)->beating)
        {
            /* void */
        }

        *p = runner->beating;
    }
}


/*
 * Coroutines are stuck if asyncio's loop is, for example in a call that blocks:
 * one that awaits is cancelled when its request ends.
 */

uint32_t
ngx_webtorch_async_beat(void)
{
    uint64_t                now;
    ngx_msec_t              next, time;
    ngx_webtorch_runner_t  *runner;

    /* a coroutine has forked, and the child comes back */
    ngx_webtorch_fork_exit_child();

    next = 0;
    now = ngx_webtorch_clock_usec();

    for (runner = ngx_webtorch_async.runners; runner; runner = runner->beating)
    {
        __atomic_store_n(&runner->callers->since, now, __ATOMIC_RELEASE);

        time = ngx_webtorch_slow_time(runner->handler);

        if (next == 0 || time < next) {
            next = time;
        }
    }

    /* four times within the time, at least every millisecond */

    return next ? (uint32_t) ngx_max(next / 4, 1) : 0;
}
