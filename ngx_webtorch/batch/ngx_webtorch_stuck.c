
/*
 * A thread polls how long calls have been running, as the event loop may be
 * what is blocked.  It takes no lock that a call may hold: not the GIL either.
 */

#include "ngx_webtorch_stuck.h"
#include "ngx_webtorch_batch_measure.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_graceful.h"
#include "ngx_webtorch_leave.h"
#include "ngx_webtorch_log.h"
#include "ngx_webtorch_slow.h"
#include "ngx_webtorch_thread.h"


/* limits of the poll interval, ms */
#define NGX_WEBTORCH_STUCK_MIN_POLL  10
#define NGX_WEBTORCH_STUCK_MAX_POLL  1000

/* seconds to wait for the thread at exit */
#define NGX_WEBTORCH_STUCK_EXIT      1

#define NGX_WEBTORCH_STUCK_SIGNAL    (SIGRTMAX - 1)


typedef struct {
    ngx_array_t      *handlers;           /* of ngx_webtorch_handler_t * */
    ngx_log_t        *log;
    ngx_msec_t        poll;
    pthread_t         thread;
    pthread_mutex_t   mutex;
    pthread_cond_t    cond;
    ngx_uint_t        started;
    ngx_uint_t        stop;               /* mutex */
    ngx_atomic_t      nstuck;             /* calls */
} ngx_webtorch_stuck_t;


static ngx_msec_t ngx_webtorch_stuck_min_time(ngx_array_t *handlers);
static void *ngx_webtorch_stuck_cycle(void *data);
static void ngx_webtorch_stuck_wait(void);
static void ngx_webtorch_stuck_poll(void);
static ngx_uint_t ngx_webtorch_stuck_poll_runner(
    ngx_webtorch_runner_t *runner);
static ngx_uint_t ngx_webtorch_stuck_poll_caller(
    ngx_webtorch_caller_t *caller);
static void ngx_webtorch_stuck_report(ngx_webtorch_caller_t *caller);
static void ngx_webtorch_stuck_refuse_waiters(ngx_webtorch_runner_t *runner);
static ngx_webtorch_waiter_t *ngx_webtorch_stuck_find_waiter(
    ngx_webtorch_runner_t *runner);


static ngx_webtorch_stuck_t  ngx_webtorch_stuck;


void
ngx_webtorch_stuck_signals(ngx_array_t *handlers, int *signals)
{
    ngx_uint_t                i;
    ngx_webtorch_handler_t  **handler;

    signals[0] = 0;
    signals[1] = 0;

    handler = handlers->elts;

    for (i = 0; i < handlers->nelts; i++) {

        if (handler[i]->stuck) {
            signals[0] = NGX_WEBTORCH_STUCK_SIGNAL;
        }

        if (handler[i]->slow) {
            signals[1] = NGX_WEBTORCH_SLOW_SIGNAL;
        }
    }
}


/* 0: no handler has "stuck=" or "webtorch_slow" */

static ngx_msec_t
ngx_webtorch_stuck_min_time(ngx_array_t *handlers)
{
    ngx_uint_t                i;
    ngx_msec_t                time, shorter;
    ngx_webtorch_handler_t  **handler;

    time = 0;
    handler = handlers->elts;

    for (i = 0; i < handlers->nelts; i++) {
        shorter = ngx_webtorch_slow_time(handler[i]);

        if (shorter && (time == 0 || shorter < time)) {
            time = shorter;
        }
    }

    return time;
}


ngx_int_t
ngx_webtorch_stuck_init_process(ngx_cycle_t *cycle, ngx_array_t *handlers)
{
    ngx_msec_t             time;
    pthread_condattr_t     attr;
    ngx_webtorch_stuck_t  *stuck;

    stuck = &ngx_webtorch_stuck;
    time = ngx_webtorch_stuck_min_time(handlers);

    ngx_memzero(stuck, sizeof(ngx_webtorch_stuck_t));

    if (time == 0) {
        return NGX_OK;
    }

    (void) pthread_mutex_init(&stuck->mutex, NULL);
    (void) pthread_condattr_init(&attr);
    (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void) pthread_cond_init(&stuck->cond, &attr);
    (void) pthread_condattr_destroy(&attr);

    stuck->handlers = handlers;
    stuck->log = cycle->log;
    stuck->poll = ngx_min(ngx_max(time / 4, NGX_WEBTORCH_STUCK_MIN_POLL),
                          NGX_WEBTORCH_STUCK_MAX_POLL);

    if (ngx_webtorch_thread_create(&stuck->thread, ngx_webtorch_stuck_cycle,
                                   NULL, cycle->log)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    stuck->started = 1;

    return NGX_OK;
}


void
ngx_webtorch_stuck_exit_process(void)
{
    ngx_webtorch_stuck_t  *stuck;

    stuck = &ngx_webtorch_stuck;

    if (!stuck->started) {
        return;
    }

    (void) pthread_mutex_lock(&stuck->mutex);
    stuck->stop = 1;
    (void) pthread_mutex_unlock(&stuck->mutex);

    (void) pthread_cond_signal(&stuck->cond);
    (void) ngx_webtorch_thread_join(stuck->thread, NGX_WEBTORCH_STUCK_EXIT);

    stuck->started = 0;
}


ngx_uint_t
ngx_webtorch_stuck_found(void)
{
    return ngx_webtorch_stuck.nstuck != 0;
}


static void *
ngx_webtorch_stuck_cycle(void *data)
{
    sigset_t               set;
    ngx_webtorch_stuck_t  *stuck;

    stuck = &ngx_webtorch_stuck;

    /* this thread sends the signal to itself */

    sigemptyset(&set);
    sigaddset(&set, NGX_WEBTORCH_STUCK_SIGNAL);
    (void) pthread_sigmask(SIG_UNBLOCK, &set, NULL);

    (void) pthread_mutex_lock(&stuck->mutex);

    while (!stuck->stop) {
        ngx_webtorch_stuck_wait();

        if (!stuck->stop) {
            ngx_webtorch_stuck_poll();
        }
    }

    (void) pthread_mutex_unlock(&stuck->mutex);

    return NULL;
}


static void
ngx_webtorch_stuck_wait(void)
{
    uint64_t         nsec;
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    nsec = (uint64_t) ts.tv_nsec + ngx_webtorch_stuck.poll * 1000000;

    ts.tv_sec += nsec / 1000000000;
    ts.tv_nsec = nsec % 1000000000;

    (void) pthread_cond_timedwait(&ngx_webtorch_stuck.cond,
                                  &ngx_webtorch_stuck.mutex, &ts);
}


static void
ngx_webtorch_stuck_poll(void)
{
    ngx_uint_t                i, n;
    ngx_webtorch_handler_t  **handler;

    n = 0;
    handler = ngx_webtorch_stuck.handlers->elts;

    for (i = 0; i < ngx_webtorch_stuck.handlers->nelts; i++) {
        if (ngx_webtorch_slow_time(handler[i]) && handler[i]->runner) {
            n += ngx_webtorch_stuck_poll_runner(handler[i]->runner);
        }
    }

    ngx_webtorch_stuck.nstuck = n;

    if (n) {
        /* again in each poll, as the worker may have to wait for others */
        ngx_webtorch_done_notify();
    }
}


static ngx_uint_t
ngx_webtorch_stuck_poll_runner(ngx_webtorch_runner_t *runner)
{
    ngx_uint_t  i, n, stuck;

    n = runner->handler->schema.coroutine
            ? 1 : __atomic_load_n(&runner->ncallers, __ATOMIC_ACQUIRE);
    stuck = ngx_webtorch_stuck_poll_caller(&runner->loop);

    for (i = 0; i < n; i++) {
        stuck += ngx_webtorch_stuck_poll_caller(&runner->callers[i]);
    }

    return stuck;
}


static ngx_uint_t
ngx_webtorch_stuck_poll_caller(ngx_webtorch_caller_t *caller)
{
    uint64_t                 since, elapsed;
    ngx_webtorch_handler_t  *handler;

    since = __atomic_load_n(&caller->since, __ATOMIC_ACQUIRE);

    if (since == 0) {
        return 0;
    }

    elapsed = ngx_webtorch_elapsed_usec(ngx_webtorch_clock_usec(), since);
    handler = caller->runner->handler;

    if (handler->slow
        && elapsed >= handler->slow * 1000
        && caller->slow != since)
    {
        caller->slow = since;
        ngx_webtorch_slow_report(caller, elapsed);
    }

    if (handler->stuck == 0 || elapsed < handler->stuck * 1000) {
        return 0;
    }

    if (caller->reported != since) {
        ngx_webtorch_stuck_report(caller);
        __atomic_store_n(&caller->reported, since, __ATOMIC_RELEASE);
    }

    return 1;
}


static void
ngx_webtorch_stuck_report(ngx_webtorch_caller_t *caller)
{
    ngx_uint_t              in_loop;
    ngx_webtorch_runner_t  *runner;

    runner = caller->runner;
    in_loop = (caller == &runner->loop && ngx_process == NGX_PROCESS_WORKER);

    ngx_webtorch_log_error(NGX_LOG_ERR, runner->log, 0,
                           "webtorch handler \"%V\" has not returned for %M "
                           "ms%s; the stacks of all threads follow, its is "
                           "that of thread 0x%xL",
                           &runner->handler->name, runner->handler->stuck,
                           in_loop ? ", the event loop waits for it and the "
                                     "worker exits" : "",
                           (uint64_t) caller->thread);

    (void) raise(NGX_WEBTORCH_STUCK_SIGNAL);

    if (in_loop) {
        _exit(1);
    }
}


ngx_uint_t
ngx_webtorch_stuck_blocks(ngx_webtorch_runner_t *runner)
{
    ngx_uint_t  i;

    if (runner->handler->stuck == 0 || ngx_webtorch_stuck.nstuck == 0) {
        return 0;
    }

    if (runner->handler->schema.coroutine) {
        return ngx_webtorch_caller_is_stuck(runner->callers);
    }

    if (runner->ncallers < runner->handler->threads) {
        return 0;
    }

    for (i = 0; i < runner->ncallers; i++) {
        if (!ngx_webtorch_caller_is_stuck(&runner->callers[i])) {
            return 0;
        }
    }

    return 1;
}


/*
 * The handler's requests are answered with 503 if no call can begin, and the
 * worker exits when no other one does so.  It quits gracefully: all other
 * requests are answered.
 */

void
ngx_webtorch_stuck_handler(void)
{
    ngx_uint_t                i;
    ngx_webtorch_runner_t    *runner;
    ngx_webtorch_handler_t  **handler;

    handler = ngx_webtorch_stuck.handlers->elts;

    for (i = 0; i < ngx_webtorch_stuck.handlers->nelts; i++) {
        runner = handler[i]->runner;

        if (runner && ngx_webtorch_stuck_blocks(runner)) {
            ngx_webtorch_stuck_refuse_waiters(runner);
        }
    }

    if (ngx_process == NGX_PROCESS_WORKER
        && !ngx_exiting
        && !ngx_quit
        && ngx_webtorch_graceful_may_leave())
    {
        ngx_log_error(NGX_LOG_ERR, ngx_webtorch_stuck.log, 0,
                      "the worker is replaced, as a webtorch handler does not "
                      "return");
        ngx_webtorch_leave_now();
    }
}


/* requests not yet passed to the call can be retried at another worker */

static void
ngx_webtorch_stuck_refuse_waiters(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_waiter_t  *waiter;

    while ((waiter = ngx_webtorch_stuck_find_waiter(runner)) != NULL) {
        (void) ngx_webtorch_batch_cancel(waiter);
        ngx_webtorch_batch_measure_stuck(runner->handler);
        waiter->done(waiter, NULL);
    }
}


static ngx_webtorch_waiter_t *
ngx_webtorch_stuck_find_waiter(ngx_webtorch_runner_t *runner)
{
    uint32_t               i;
    ngx_queue_t           *q;
    ngx_webtorch_batch_t  *batch;

    for (q = ngx_queue_head(&runner->batches);
         q != ngx_queue_sentinel(&runner->batches);
         q = ngx_queue_next(q))
    {
        batch = ngx_queue_data(q, ngx_webtorch_batch_t, queue);

        /* the state may change in the thread, but from PENDING alone */

        if (batch->state == NGX_WEBTORCH_BATCH_RUNNING
            || batch->state == NGX_WEBTORCH_BATCH_DONE)
        {
            continue;
        }

        for (i = 0; i < batch->api.njobs; i++) {
            if (batch->api.jobs[i].waiter) {
                return batch->api.jobs[i].waiter;
            }
        }
    }

    return NULL;
}
