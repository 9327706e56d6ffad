
#include "ngx_webtorch_async.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_batch_rows.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_retire.h"
#include "ngx_webtorch_runner_place.h"
#include "ngx_webtorch_runner_thread.h"
#include "ngx_webtorch_slow.h"
#include "ngx_webtorch_stuck.h"
#include "ngx_webtorch_thread.h"

#include <sys/eventfd.h>


/* seconds that a worker which exits waits for a running handler */
#define NGX_WEBTORCH_RUNNER_EXIT_TIMEOUT   1

/* ms after which a call that runs is slow, see NGX_WEBTORCH_INLINE_LIMIT */
#define NGX_WEBTORCH_SPREAD         1


static void ngx_webtorch_runner_thread_wake(ngx_webtorch_runner_t *runner,
    ngx_uint_t overdue);
static void ngx_webtorch_runner_thread_spread_handler(ngx_event_t *ev);
static ngx_int_t ngx_webtorch_runner_thread_start(
    ngx_webtorch_runner_t *runner);
static void *ngx_webtorch_runner_thread_cycle(void *data);
static ngx_webtorch_batch_t *ngx_webtorch_runner_thread_get(
    ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_thread_done_handler(ngx_event_t *ev);
static void ngx_webtorch_runner_thread_taken(ngx_webtorch_runner_t *runner,
    ngx_uint_t n);
static void ngx_webtorch_runner_thread_recall(ngx_webtorch_runner_t *runner);


ngx_webtorch_runner_threads_t  ngx_webtorch_runner_threads;


ngx_int_t
ngx_webtorch_runner_init_process(ngx_cycle_t *cycle, ngx_int_t torch)
{
    ngx_event_t                    *rev;
    ngx_connection_t               *c;
    ngx_webtorch_runner_threads_t  *threads;

    threads = &ngx_webtorch_runner_threads;

    ngx_webtorch_fifo_init(&ngx_webtorch_done.batches);
    threads->nthreaded = 0;
    threads->torch = torch;

    ngx_webtorch_retire_init_process(ngx_webtorch_done_notify, cycle->log);

    ngx_webtorch_done.fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

    if (ngx_webtorch_done.fd == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "eventfd() failed");
        return NGX_ERROR;
    }

    c = ngx_get_connection(ngx_webtorch_done.fd, cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    rev = c->read;
    rev->handler = ngx_webtorch_runner_thread_done_handler;
    rev->log = cycle->log;

    /* not of a client: it may be open when the worker exits */
    rev->channel = 1;
    c->write->channel = 1;

    /*
     * Edge-triggered: each write is an event, and the counter, which would
     * need 2^64 batches to overflow, is never read.
     */

    return ngx_add_event(rev, NGX_READ_EVENT, NGX_CLEAR_EVENT);
}


ngx_int_t
ngx_webtorch_runner_exit_process(ngx_cycle_t *cycle, ngx_array_t *handlers)
{
    ngx_int_t                 rc;
    ngx_uint_t                i;
    ngx_webtorch_handler_t  **handler;

    rc = NGX_OK;
    handler = handlers->elts;

    for (i = 0; i < handlers->nelts; i++) {
        if (handler[i]->runner
            && ngx_webtorch_runner_thread_stop(handler[i]->runner) != NGX_OK)
        {
            rc = NGX_BUSY;
        }
    }

    return rc;
}


ngx_int_t
ngx_webtorch_runner_thread_init(ngx_webtorch_runner_t *runner,
    ngx_cycle_t *cycle)
{
    ngx_uint_t  i;

    runner->callers = ngx_pcalloc(cycle->pool,
                                  runner->handler->threads
                                  * sizeof(ngx_webtorch_caller_t));
    if (runner->callers == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < runner->handler->threads; i++) {
        runner->callers[i].runner = runner;
    }

    (void) pthread_cond_init(&runner->cond, NULL);

    ngx_webtorch_timer_init(&runner->spread,
                            ngx_webtorch_runner_thread_spread_handler,
                            runner, cycle->log);

    /* the waiters' timeout is not cancelable, so the worker waits for them */
    runner->spread.event.cancelable = 1;

    return NGX_OK;
}


void
ngx_webtorch_runner_thread_submit(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch)
{
    uint32_t   i;
    ngx_int_t  rc;

    if (runner->handler->schema.coroutine) {
        ngx_webtorch_batch_set_timeout(runner);
        rc = ngx_webtorch_async_submit(batch);

        if (rc == NGX_OK) {
            return;
        }

    } else {
        rc = runner->ncallers ? NGX_OK
                              : ngx_webtorch_runner_thread_start(runner);
    }

    if (rc != NGX_OK) {
        for (i = 0; i < batch->api.njobs; i++) {
            batch->api.jobs[i].status = 500;
        }

        ngx_webtorch_batch_finish(batch);
        return;
    }

    ngx_webtorch_batch_set_timeout(runner);
    ngx_webtorch_batch_trim(runner, batch);

    batch->state = NGX_WEBTORCH_BATCH_PENDING;
    runner->nthreaded++;

    if (!ngx_webtorch_runner_is_watched(runner)) {
        ngx_webtorch_runner_threads.nthreaded++;
    }

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    ngx_webtorch_fifo_add(&runner->pending, batch);
    runner->npending++;

    ngx_webtorch_runner_thread_wake(runner, 0);

    if (runner->handler->threads > 1) {
        ngx_webtorch_runner_thread_set_spread(runner);
    }
}


/*
 * Lets more threads take what is pending.  Short calls are left to one thread,
 * as several would pass the GIL around: until the last call has been slow or,
 * as the timer shows, those that run are.  Called with the mutex, which is
 * unlocked.
 */

static void
ngx_webtorch_runner_thread_wake(ngx_webtorch_runner_t *runner,
    ngx_uint_t overdue)
{
    ngx_uint_t  n, active, idle;

    n = 0;
    active = runner->ncallers - runner->nidle;

    if (runner->npending > runner->nwoken) {
        n = ngx_min(runner->npending - runner->nwoken,
                    runner->handler->threads - active);

        if (!overdue && !runner->slow) {
            n = active ? 0 : 1;
        }
    }

    idle = ngx_min(n, runner->nidle);
    n -= idle;

    runner->nidle -= idle;
    runner->nwoken += idle;

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    while (idle--) {
        (void) pthread_cond_signal(&runner->cond);
    }

    while (n-- && ngx_webtorch_runner_thread_start(runner) == NGX_OK) {
        /* void */
    }
}


void
ngx_webtorch_runner_thread_set_spread(ngx_webtorch_runner_t *runner)
{
    if (!runner->spread.event.timer_set) {
        ngx_add_timer(&runner->spread.event, NGX_WEBTORCH_SPREAD);
    }
}


static void
ngx_webtorch_runner_thread_spread_handler(ngx_event_t *ev)
{
    ngx_webtorch_runner_t  *runner;

    runner = ngx_webtorch_timer_data(ev);

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    ngx_webtorch_runner_thread_wake(runner, 1);

    if (runner->ready.head) {
        runner->overdue = 1;

        if (!runner->close.event.posted) {
            ngx_post_event(&runner->close.event, &ngx_posted_events);
        }
    }
}


static ngx_int_t
ngx_webtorch_runner_thread_start(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_caller_t  *caller;

    caller = &runner->callers[runner->ncallers];

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);
    runner->nwoken++;
    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (ngx_webtorch_thread_create(&caller->thread,
                                   ngx_webtorch_runner_thread_cycle,
                                   caller, runner->log)
        != NGX_OK)
    {
        (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);
        runner->nwoken--;
        (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

        return NGX_ERROR;
    }

    if (ngx_webtorch_runner_is_watched(runner) && !runner->offloaded) {
        ngx_webtorch_caller_watch(caller);
    }

    __atomic_store_n(&runner->ncallers, runner->ncallers + 1,
                     __ATOMIC_RELEASE);

    return NGX_OK;
}


ngx_int_t
ngx_webtorch_runner_thread_stop(ngx_webtorch_runner_t *runner)
{
    time_t      timeout;
    ngx_uint_t  i;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);
    runner->stop = 1;
    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    (void) pthread_cond_broadcast(&runner->cond);

    timeout = NGX_WEBTORCH_RUNNER_EXIT_TIMEOUT;

    for (i = 0; i < runner->ncallers; i++) {
        if (ngx_webtorch_thread_join(runner->callers[i].thread, timeout)
            != NGX_OK)
        {
            /* the others have had the time, too */
            timeout = 0;
        }
    }

    if (timeout) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_WARN, runner->log, 0,
                  "webtorch handler \"%V\" is still running, the worker exits "
                  "without waiting for it", &runner->handler->name);

    return NGX_BUSY;
}


static void *
ngx_webtorch_runner_thread_cycle(void *data)
{
    ngx_webtorch_caller_t *caller = data;

    void                   *state;
    pthread_mutex_t        *mutex;
    ngx_webtorch_batch_t   *batch;
    ngx_webtorch_runner_t  *runner;

    runner = caller->runner;
    mutex = &ngx_webtorch_done.mutex;
    state = runner->offloaded ? NULL : ngx_webtorch_python_thread_begin(
                                        ngx_webtorch_runner_threads.torch);

    if (runner->handler->slow) {
        ngx_webtorch_slow_watch();
    }

    (void) pthread_mutex_lock(mutex);

    runner->nwoken--;

    while ((batch = ngx_webtorch_runner_thread_get(runner)) != NULL) {

        (void) pthread_mutex_unlock(mutex);

        if (batch->api.njobs != 0) {
            /* the batches of another worker are not seen by Python here */
            batch->adopted = !runner->offloaded;
            ngx_webtorch_batch_run(batch, caller);
        }

        ngx_webtorch_done_add(batch);

        (void) pthread_mutex_lock(mutex);
    }

    (void) pthread_mutex_unlock(mutex);

    if (!runner->offloaded) {
        ngx_webtorch_python_thread_end(state);
    }

    return NULL;
}


/* waits for a batch, with the mutex; NULL: the thread has to stop */

static ngx_webtorch_batch_t *
ngx_webtorch_runner_thread_get(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_batch_t  *batch;

    while (runner->pending.head == NULL && !runner->stop) {

        runner->nidle++;

        (void) pthread_cond_wait(&runner->cond,
                                 &ngx_webtorch_done.mutex);

        /* a thread that is woken is not counted as idle */

        if (runner->nwoken) {
            runner->nwoken--;

        } else {
            runner->nidle--;
        }
    }

    if (runner->stop) {
        return NULL;
    }

    batch = ngx_webtorch_fifo_get(&runner->pending);
    batch->state = NGX_WEBTORCH_BATCH_RUNNING;
    runner->npending--;

    return batch;
}


static void
ngx_webtorch_runner_thread_done_handler(ngx_event_t *ev)
{
    ngx_webtorch_fifo_t     done;
    ngx_webtorch_batch_t   *batch, *next;
    ngx_webtorch_runner_t  *runner;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);
    done = ngx_webtorch_done.batches;
    ngx_webtorch_fifo_init(&ngx_webtorch_done.batches);
    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (ngx_webtorch_stuck_found()) {
        ngx_webtorch_stuck_handler();
    }

    if (ngx_webtorch_retire_wanted()) {
        ngx_webtorch_retire_handler();
    }

    ngx_webtorch_metrics_mark = ngx_webtorch_clock_usec();

    for (batch = done.head; batch; batch = next) {
        next = batch->next;
        runner = batch->runner;

        ngx_webtorch_runner_thread_taken(runner, 1);

        if (batch->api.njobs != 0) {
            ngx_webtorch_runner_learn(runner, batch, 0);
        }

        ngx_webtorch_batch_finish(batch);
        ngx_webtorch_runner_thread_recall(runner);

        if ((runner->open || runner->nothers || runner->ready.head)
            && !runner->close.event.posted)
        {
            ngx_post_event(&runner->close.event, &ngx_posted_events);
        }
    }

    ngx_webtorch_done.posted();

    if (ngx_webtorch_done.received) {
        ngx_webtorch_done.received();
    }
}


/* batches that threads have no more */

static void
ngx_webtorch_runner_thread_taken(ngx_webtorch_runner_t *runner, ngx_uint_t n)
{
    runner->nthreaded -= n;

    if (!ngx_webtorch_runner_is_watched(runner)) {
        ngx_webtorch_runner_threads.nthreaded -= n;
    }
}


/*
 * "auto": takes back the batches that no thread has begun with, if the first is
 * expected to be fast in the event loop.  They are before the others that are
 * ready, as they are older.
 */

static void
ngx_webtorch_runner_thread_recall(ngx_webtorch_runner_t *runner)
{
    ngx_uint_t             n;
    ngx_webtorch_fifo_t    pending;
    ngx_webtorch_batch_t  *batch;

    if (runner->handler->mode != NGX_WEBTORCH_MODE_AUTO
        || runner->penalty_left)
    {
        return;
    }

    n = 0;
    ngx_webtorch_fifo_init(&pending);

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    batch = runner->pending.head;

    if (batch && batch->weight <= 2 * runner->fast_weight) {
        ngx_webtorch_fifo_prepend(&pending, &runner->pending);
        n = runner->npending;
        runner->npending = 0;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    for (batch = pending.head; batch; batch = batch->next) {
        batch->state = NGX_WEBTORCH_BATCH_READY;
    }

    ngx_webtorch_runner_thread_taken(runner, n);

    ngx_webtorch_fifo_prepend(&runner->ready, &pending);
}


ngx_webtorch_batch_t *
ngx_webtorch_runner_thread_reclaim(ngx_webtorch_runner_t *runner,
    const int64_t *sizes)
{
    ngx_uint_t             n;
    ngx_queue_t           *q;
    ngx_webtorch_batch_t  *batch, *found;

    if (runner->ncallers == 0) {
        return NULL;
    }

    found = NULL;
    n = ngx_webtorch_runner_has_key(runner)
        ? NGX_WEBTORCH_MAX_OPEN : 1;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    for (q = ngx_queue_last(&runner->batches);
         n && runner->pending.head && q != ngx_queue_sentinel(&runner->batches);
         q = ngx_queue_prev(q), n--)
    {
        batch = ngx_queue_data(q, ngx_webtorch_batch_t, queue);

        if (batch->state == NGX_WEBTORCH_BATCH_PENDING
            && batch->api.rows < batch->max_rows
            && ngx_webtorch_batch_has_sizes(batch, sizes))
        {
            ngx_webtorch_fifo_remove(&runner->pending, batch);
            runner->npending--;
            found = batch;
            break;
        }
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (found) {
        ngx_webtorch_runner_thread_taken(runner, 1);
    }

    return found;
}
