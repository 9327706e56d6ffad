
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_batch_rows.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_runner_place.h"
#include "ngx_webtorch_runner_thread.h"
#include "ngx_webtorch_stuck.h"
#include "ngx_webtorch_thread.h"

#include <sys/eventfd.h>


/* seconds that a worker which exits waits for a running handler */
#define NGX_WEBTORCH_EXIT_TIMEOUT   1


static ngx_int_t ngx_webtorch_runner_thread_start(
    ngx_webtorch_runner_t *runner);
static ngx_int_t ngx_webtorch_runner_thread_stop(
    ngx_webtorch_runner_t *runner);
static void *ngx_webtorch_runner_thread_cycle(void *data);
static void ngx_webtorch_runner_thread_done_handler(ngx_event_t *ev);
static void ngx_webtorch_runner_thread_recall(ngx_webtorch_runner_t *runner);


ngx_webtorch_runner_threads_t  ngx_webtorch_runner_threads = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .fd = -1
};


ngx_int_t
ngx_webtorch_runner_init_process(ngx_cycle_t *cycle, ngx_int_t torch)
{
    ngx_event_t                    *rev;
    ngx_connection_t               *c;
    ngx_webtorch_runner_threads_t  *threads;

    threads = &ngx_webtorch_runner_threads;

    ngx_webtorch_fifo_init(&threads->done);
    threads->nthreaded = 0;
    threads->torch = torch;

    threads->fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

    if (threads->fd == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "eventfd() failed");
        return NGX_ERROR;
    }

    c = ngx_get_connection(threads->fd, cycle->log);
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


void
ngx_webtorch_runner_thread_submit(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch)
{
    uint32_t    i;
    ngx_uint_t  wake;

    if (!runner->started
        && ngx_webtorch_runner_thread_start(runner) != NGX_OK)
    {
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
    ngx_webtorch_runner_threads.nthreaded++;

    (void) pthread_mutex_lock(&ngx_webtorch_runner_threads.mutex);

    ngx_webtorch_fifo_add(&runner->pending, batch);

    wake = runner->waiting;
    runner->waiting = 0;

    (void) pthread_mutex_unlock(&ngx_webtorch_runner_threads.mutex);

    if (wake) {
        (void) pthread_cond_signal(&runner->cond);
    }
}


static ngx_int_t
ngx_webtorch_runner_thread_start(ngx_webtorch_runner_t *runner)
{
    if (ngx_webtorch_thread_create(&runner->thread,
                                   ngx_webtorch_runner_thread_cycle,
                                   runner, runner->log)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    runner->started = 1;

    return NGX_OK;
}


/* NGX_BUSY: it is still running */

static ngx_int_t
ngx_webtorch_runner_thread_stop(ngx_webtorch_runner_t *runner)
{
    if (!runner->started) {
        return NGX_OK;
    }

    (void) pthread_mutex_lock(&ngx_webtorch_runner_threads.mutex);
    runner->stop = 1;
    (void) pthread_mutex_unlock(&ngx_webtorch_runner_threads.mutex);

    (void) pthread_cond_signal(&runner->cond);

    if (ngx_webtorch_thread_join(runner->thread, NGX_WEBTORCH_EXIT_TIMEOUT)
        == NGX_OK)
    {
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
    ngx_webtorch_runner_t *runner = data;

    void                   *state;
    uint64_t                one;
    ngx_uint_t              notify;
    pthread_mutex_t        *mutex;
    ngx_webtorch_batch_t   *batch;

    one = 1;
    mutex = &ngx_webtorch_runner_threads.mutex;
    state = ngx_webtorch_python_thread_begin(ngx_webtorch_runner_threads.torch);

    (void) pthread_mutex_lock(mutex);

    for ( ;; ) {

        while (runner->pending.head == NULL && !runner->stop) {
            runner->waiting = 1;
            (void) pthread_cond_wait(&runner->cond, mutex);
        }

        if (runner->stop) {
            break;
        }

        batch = ngx_webtorch_fifo_get(&runner->pending);
        batch->state = NGX_WEBTORCH_BATCH_RUNNING;

        (void) pthread_mutex_unlock(mutex);

        if (batch->api.njobs != 0) {
            batch->adopted = 1;
            ngx_webtorch_batch_run(batch, 1);
        }

        (void) pthread_mutex_lock(mutex);

        notify = (ngx_webtorch_runner_threads.done.head == NULL);
        ngx_webtorch_fifo_add(&ngx_webtorch_runner_threads.done, batch);

        if (notify) {
            (void) pthread_mutex_unlock(mutex);
            (void) !write(ngx_webtorch_runner_threads.fd, &one,
                          sizeof(uint64_t));
            (void) pthread_mutex_lock(mutex);
        }
    }

    (void) pthread_mutex_unlock(mutex);

    ngx_webtorch_python_thread_end(state);

    return NULL;
}


static void
ngx_webtorch_runner_thread_done_handler(ngx_event_t *ev)
{
    ngx_webtorch_fifo_t     done;
    ngx_webtorch_batch_t   *batch, *next;
    ngx_webtorch_runner_t  *runner;

    (void) pthread_mutex_lock(&ngx_webtorch_runner_threads.mutex);
    done = ngx_webtorch_runner_threads.done;
    ngx_webtorch_fifo_init(&ngx_webtorch_runner_threads.done);
    (void) pthread_mutex_unlock(&ngx_webtorch_runner_threads.mutex);

    if (ngx_webtorch_stuck_found()) {
        ngx_webtorch_stuck_handler();
    }

    for (batch = done.head; batch; batch = next) {
        next = batch->next;
        runner = batch->runner;

        runner->nthreaded--;
        ngx_webtorch_runner_threads.nthreaded--;

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
}


/*
 * "auto": takes back the batches that the thread has not begun with, if the
 * first is expected to be fast in the event loop.  They are before the others
 * that are ready, as they are older.
 */

static void
ngx_webtorch_runner_thread_recall(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_fifo_t    pending;
    ngx_webtorch_batch_t  *batch;

    if (runner->handler->mode != NGX_WEBTORCH_MODE_AUTO
        || runner->penalty_left)
    {
        return;
    }

    ngx_webtorch_fifo_init(&pending);

    (void) pthread_mutex_lock(&ngx_webtorch_runner_threads.mutex);

    batch = runner->pending.head;

    if (batch && batch->weight <= 2 * runner->fast_weight) {
        ngx_webtorch_fifo_prepend(&pending, &runner->pending);
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_runner_threads.mutex);

    for (batch = pending.head; batch; batch = batch->next) {
        batch->state = NGX_WEBTORCH_BATCH_READY;
        runner->nthreaded--;
        ngx_webtorch_runner_threads.nthreaded--;
    }

    ngx_webtorch_fifo_prepend(&runner->ready, &pending);
}


ngx_webtorch_batch_t *
ngx_webtorch_runner_thread_reclaim(ngx_webtorch_runner_t *runner,
    const int64_t *sizes)
{
    ngx_uint_t             n;
    ngx_queue_t           *q;
    ngx_webtorch_batch_t  *batch, *found;

    if (!runner->started) {
        return NULL;
    }

    found = NULL;
    n = ngx_webtorch_has_key(&runner->handler->schema)
        ? NGX_WEBTORCH_MAX_OPEN : 1;

    (void) pthread_mutex_lock(&ngx_webtorch_runner_threads.mutex);

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
            found = batch;
            break;
        }
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_runner_threads.mutex);

    if (found) {
        runner->nthreaded--;
        ngx_webtorch_runner_threads.nthreaded--;
    }

    return found;
}
