
#include "ngx_webtorch_async.h"
#include "ngx_webtorch_batch_measure.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_batch_rows.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_metrics_worker.h"
#include "ngx_webtorch_offload.h"
#include "ngx_webtorch_posted.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_tensor.h"


/* batches of a handler whose outputs are being sent; each has buffers */
#define NGX_WEBTORCH_MAX_HELD        64
#define NGX_WEBTORCH_MAX_HELD_SIZE   (64 * 1024 * 1024)

/* bytes of a body that a custom handler's call takes no longer for than none */
#define NGX_WEBTORCH_REQUEST_WEIGHT  4096

/* bytes of outputs that may change */
#define NGX_WEBTORCH_MIN_COPY        (16 * 1024)


static void ngx_webtorch_batch_copy_outputs(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_batch_resolve(ngx_webtorch_batch_t *batch);
static size_t ngx_webtorch_batch_output_size(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_batch_expire(ngx_webtorch_waiter_t *waiter);
static ngx_webtorch_waiter_t *ngx_webtorch_batch_find_oldest(
    ngx_webtorch_runner_t *runner);
static void ngx_webtorch_batch_release_waiter(ngx_webtorch_waiter_t *waiter);
static void ngx_webtorch_batch_del_waiters(ngx_webtorch_runner_t *runner,
    ngx_uint_t n);


webtorch_job_t *
ngx_webtorch_batch_append(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter)
{
    size_t                  size;
    webtorch_job_t         *job;
    ngx_webtorch_runner_t  *runner;

    runner = batch->runner;

    if (batch->api.njobs == 0) {
        batch->opened = ngx_current_msec;
        batch->api.watch = runner->handler->watch;
    }

    job = &batch->api.jobs[batch->api.njobs++];

    ngx_memzero(job, sizeof(webtorch_job_t));

    job->first = batch->api.rows;
    job->rows = layout->rows;
    job->waiter = waiter;

    batch->api.rows += layout->rows;
    batch->api.text_len += layout->text;

    size = layout->rows * batch->row_size + layout->text;

    if (size) {
        ngx_webtorch_queue_add(size);
        batch->held += size;
    }

    if (waiter) {
        waiter->job = job;
        waiter->batch = batch;
        waiter->deadline = ngx_current_msec + runner->handler->timeout;
        waiter->added = runner->handler->timed ? ngx_webtorch_clock_usec()
                                               : 0;

    } else {
        batch->nposted++;
    }

    runner->njobs++;
    runner->nwaiters++;
    ngx_webtorch_metrics_jobs(runner->handler, 1);

    return job;
}


/* Python frees the request, so its size is counted in the batch */

void
ngx_webtorch_batch_set_request(ngx_webtorch_waiter_t *waiter,
    webtorch_request_t *request)
{
    size_t  size;

    size = ngx_webtorch_request_size(request);

    ngx_webtorch_queue_add(size);

    waiter->batch->held += size;
    waiter->job->request = request;
}


/* without memory the request is served without its trace */

void
ngx_webtorch_batch_set_trace(ngx_webtorch_waiter_t *waiter,
    const webtorch_trace_t *trace)
{
    webtorch_trace_t  *copy;

    copy = malloc(sizeof(webtorch_trace_t));
    if (copy == NULL) {
        return;
    }

    *copy = *trace;
    copy->queued = waiter->added;

    waiter->job->trace = copy;
    waiter->batch->api.watch |= WEBTORCH_WATCH_TRACE;

    if (!trace->sampled) {
        return;
    }

    if (copy->queued == 0) {
        copy->queued = ngx_webtorch_clock_usec();
    }

    waiter->batch->api.watch |= WEBTORCH_WATCH_SPANS;
}


ngx_int_t
ngx_webtorch_batch_cancel(ngx_webtorch_waiter_t *waiter)
{
    ngx_int_t               rc;
    webtorch_job_t         *job;
    ngx_webtorch_batch_t   *batch;
    ngx_webtorch_runner_t  *runner;

    job = waiter->job;

    if (job == NULL) {
        return NGX_OK;
    }

    rc = NGX_DECLINED;
    batch = waiter->batch;
    runner = batch->runner;

    ngx_webtorch_batch_release_waiter(waiter);

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    switch (batch->state) {

    case NGX_WEBTORCH_BATCH_PENDING:
    case NGX_WEBTORCH_BATCH_OPEN:
    case NGX_WEBTORCH_BATCH_READY:
        if (ngx_webtorch_batch_remove_job(batch, job) != NGX_OK) {
            /* it stays without a waiter */
            break;
        }

        rc = NGX_OK;
        runner->njobs--;
        ngx_webtorch_metrics_jobs(runner->handler, -1);

        /* the search for the oldest waiter need not pass the empty batch */

        if (batch->api.njobs == 0) {
            ngx_queue_remove(&batch->queue);
            ngx_queue_insert_tail(&runner->batches, &batch->queue);
        }

        break;

    case NGX_WEBTORCH_BATCH_RUNNING:
        if (batch->schema->coroutine) {
            ngx_webtorch_async_cancel(batch);

            /* nor one whose only job has no waiter, and may never return */

            ngx_queue_remove(&batch->queue);
            ngx_queue_insert_tail(&runner->batches, &batch->queue);
        }

        break;

    default:
        /* it has run: the job stays until the batch is done */
        break;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (batch == runner->open && batch->api.njobs == 0) {
        runner->open = NULL;
        ngx_webtorch_batch_free(batch);
    }

    return rc;
}


/* Python takes the request of a job: the weight is kept for after the call */

void
ngx_webtorch_batch_set_weight(ngx_webtorch_batch_t *batch)
{
    webtorch_request_t  *request;

    if (batch->schema->kind == WEBTORCH_HANDLER) {
        request = batch->api.jobs[0].request;
        batch->weight = NGX_WEBTORCH_REQUEST_WEIGHT
                        + (request ? request->body : 0);
        return;
    }

    batch->weight = batch->api.rows * batch->row_weight + batch->api.text_len;
}


/*
 * The number of the last batch and the jobs that run are in memory that workers
 * share: if this worker crashes in a call, another process logs them.  In a
 * thread a call may wait until replaced models can be taken over.
 */

void
ngx_webtorch_batch_run(ngx_webtorch_batch_t *batch,
    ngx_webtorch_caller_t *caller)
{
    uint32_t                     njobs;
    ngx_uint_t                  *waited, is_request, in_loop;
    ngx_webtorch_run_t          *run;
    ngx_webtorch_runner_t       *runner;
    ngx_webtorch_python_time_t   time;

    runner = batch->runner;

    if (runner->offloaded) {
        ngx_webtorch_offload_run(batch,
                                 (ngx_uint_t) (caller - runner->callers));
        return;
    }

    run = runner->run;

    njobs = batch->api.njobs;
    is_request = (batch->schema->kind == WEBTORCH_HANDLER);
    in_loop = (caller == &runner->loop);

    /* other modes do not learn */
    waited = (is_request && runner->handler->mode == NGX_WEBTORCH_MODE_AUTO)
             ? &batch->waited : NULL;

    (void) __atomic_fetch_add(&run->batch, 1, __ATOMIC_RELAXED);
    (void) __atomic_fetch_add(&run->jobs, njobs, __ATOMIC_RELAXED);
    ngx_webtorch_metrics_running(runner->handler, (ngx_int_t) njobs);

    ngx_webtorch_caller_begin(caller, batch);
    ngx_webtorch_posted_runner = runner;

    if (is_request && in_loop) {
        __atomic_store_n(&ngx_webtorch_posted.in_loop, runner,
                         __ATOMIC_RELAXED);
    }

    ngx_webtorch_python_run(&batch->api, !in_loop, waited, &time);

    batch->elapsed = time.gil + time.call;
    batch->started = time.started;
    batch->in_loop = in_loop;

    ngx_webtorch_metrics_gil(time.gil);

    if (in_loop) {
        ngx_webtorch_metrics_mark = time.ended;
    }

    if (is_request && in_loop) {
        __atomic_store_n(&ngx_webtorch_posted.in_loop, NULL, __ATOMIC_RELAXED);
    }

    ngx_webtorch_posted_runner = NULL;
    ngx_webtorch_caller_end(caller);

    (void) __atomic_fetch_sub(&run->jobs, njobs, __ATOMIC_RELAXED);
    ngx_webtorch_metrics_running(runner->handler, - (ngx_int_t) njobs);

    if (batch->api.shared) {
        ngx_webtorch_batch_copy_outputs(batch);
    }
}


/*
 * Outputs that the handler keeps, and may change while they are encoded or
 * sent, are copied here, as this may be a thread.  Few are left to the event
 * loop, which copies or encodes them when the requests are answered.
 */

static void
ngx_webtorch_batch_copy_outputs(ngx_webtorch_batch_t *batch)
{
    size_t              total, size[WEBTORCH_MAX_TENSORS];
    uint32_t            i;
    ngx_uint_t          start;
    webtorch_schema_t  *schema;

    start = ngx_webtorch_clock_usec();
    schema = &batch->runner->handler->schema;
    total = 0;

    for (i = 0; i < schema->noutputs; i++) {
        size[i] = batch->api.rows
                  * ngx_webtorch_row_size(&schema->outputs[i],
                                          batch->api.sizes);
        total += size[i];
    }

    if (total < NGX_WEBTORCH_MIN_COPY) {
        return;
    }

    for (i = 0; i < schema->noutputs; i++) {

        if (batch->api.outputs[i] == 0) {
            continue;
        }

        batch->copies[i] = ngx_webtorch_buffer_alloc(size[i]);

        if (batch->copies[i] == NULL) {
            return;
        }

        ngx_memcpy(batch->copies[i], (void *) batch->api.outputs[i], size[i]);
        batch->api.outputs[i] = (uintptr_t) batch->copies[i];
    }

    batch->api.shared = 0;
    batch->elapsed += ngx_webtorch_clock_usec() - start;
}


void
ngx_webtorch_batch_finish(ngx_webtorch_batch_t *batch)
{
    uint32_t                i;
    webtorch_job_t         *job;
    ngx_webtorch_runner_t  *runner;
    ngx_webtorch_waiter_t  *waiter;

    runner = batch->runner;
    batch->state = NGX_WEBTORCH_BATCH_DONE;

    ngx_webtorch_batch_count(batch);

    ngx_webtorch_batch_measure(batch);

    if (batch->schema->naxes) {
        ngx_webtorch_batch_resolve(batch);
    }

    for (i = 0; i < batch->api.njobs; i++) {
        job = &batch->api.jobs[i];
        waiter = job->waiter;

        if (waiter) {
            ngx_webtorch_batch_release_waiter(waiter);
            waiter->done(waiter, job);
        }

        ngx_webtorch_job_free(job);
    }

    batch->started = 0;

    runner->njobs -= batch->api.njobs;
    ngx_webtorch_metrics_jobs(runner->handler,
                              - (ngx_int_t) batch->api.njobs);
    ngx_webtorch_batch_del_waiters(runner, batch->nposted);

    ngx_webtorch_queue_sub(batch->held);
    batch->held = 0;

    if (batch->nholds == 0) {
        ngx_webtorch_batch_free(batch);
        return;
    }

    batch->state = NGX_WEBTORCH_BATCH_HELD;
    batch->api.njobs = 0;

    ngx_queue_remove(&batch->queue);
    ngx_queue_init(&batch->queue);
}


/* the sizes of outputs are those of inputs, or were set by Python */

static void
ngx_webtorch_batch_resolve(ngx_webtorch_batch_t *batch)
{
    uint32_t            i;
    webtorch_schema_t  *schema;

    schema = &batch->runner->handler->schema;

    for (i = 0; i < schema->noutputs; i++) {
        ngx_webtorch_resolve(&batch->schema->outputs[i], &schema->outputs[i],
                             batch->api.sizes);
    }
}


webtorch_spec_t *
ngx_webtorch_batch_specs(ngx_webtorch_waiter_t *waiter)
{
    return waiter->batch->schema->outputs;
}


const void *
ngx_webtorch_batch_output(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job,
    ngx_uint_t i)
{
    static const u_char  none[1];

    ngx_webtorch_batch_t  *batch;

    batch = waiter->batch;

    /* a tensor without elements has no memory, but functions need a pointer */

    if (batch->api.outputs[i] == 0) {
        return none;
    }

    return (const u_char *) batch->api.outputs[i]
           + job->first * (size_t) batch->schema->outputs[i].row_size;
}


ngx_int_t
ngx_webtorch_batch_hold(ngx_webtorch_batch_t *batch)
{
    size_t                  size;
    ngx_webtorch_runner_t  *runner;

    if (batch->nholds == 0) {

        runner = batch->runner;
        size = ngx_webtorch_batch_output_size(batch);

        if (runner->nheld >= NGX_WEBTORCH_MAX_HELD
            || (runner->nheld
                && runner->held + size > NGX_WEBTORCH_MAX_HELD_SIZE))
        {
            return NGX_DECLINED;
        }
    }

    return ngx_webtorch_batch_keep(batch);
}


ngx_int_t
ngx_webtorch_batch_keep(ngx_webtorch_batch_t *batch)
{
    /* the handler keeps these outputs, and may change them during sending */

    if (batch->api.shared) {
        return NGX_DECLINED;
    }

    if (batch->nholds == 0) {
        batch->runner->nheld++;
        batch->runner->held += ngx_webtorch_batch_output_size(batch);
    }

    batch->nholds++;

    return NGX_OK;
}


void
ngx_webtorch_batch_release(void *data)
{
    ngx_webtorch_batch_t *batch = data;

    if (--batch->nholds) {
        return;
    }

    batch->runner->nheld--;
    batch->runner->held -= ngx_webtorch_batch_output_size(batch);

    /* a request may end before the others of its batch are answered */

    if (batch->state == NGX_WEBTORCH_BATCH_HELD) {
        ngx_webtorch_batch_free(batch);
    }
}


static size_t
ngx_webtorch_batch_output_size(ngx_webtorch_batch_t *batch)
{
    size_t              size;
    uint32_t            i;
    webtorch_schema_t  *schema;

    size = 0;
    schema = batch->schema;

    for (i = 0; i < schema->noutputs; i++) {
        size += batch->api.rows * (size_t) schema->outputs[i].row_size;
    }

    return size;
}


void
ngx_webtorch_batch_set_timeout(ngx_webtorch_runner_t *runner)
{
    if (!runner->timeout.event.timer_set) {
        ngx_add_timer(&runner->timeout.event, runner->handler->timeout);
    }
}


void
ngx_webtorch_batch_timeout_handler(ngx_event_t *ev)
{
    ngx_webtorch_runner_t  *runner;
    ngx_webtorch_waiter_t  *waiter;

    runner = ngx_webtorch_timer_data(ev);

    for ( ;; ) {
        waiter = ngx_webtorch_batch_find_oldest(runner);

        if (waiter == NULL) {
            return;
        }

        if ((ngx_msec_int_t) (waiter->deadline - ngx_current_msec) > 0) {
            break;
        }

        ngx_webtorch_batch_expire(waiter);
        waiter->done(waiter, NULL);
    }

    if (!ev->timer_set) {
        ngx_add_timer(ev, waiter->deadline - ngx_current_msec);
    }
}


/* a job that is in a call already is not counted again when that is over */

static void
ngx_webtorch_batch_expire(ngx_webtorch_waiter_t *waiter)
{
    uint64_t                 added;
    ngx_int_t                rc;
    ngx_webtorch_handler_t  *handler;

    handler = waiter->batch->runner->handler;
    added = waiter->job->caller ? 0 : waiter->added;

    waiter->job->expired = 1;

    rc = ngx_webtorch_batch_cancel(waiter);

    ngx_webtorch_batch_measure_expired(handler, added, rc == NGX_OK);
}


/*
 * Batches are in the order of their first jobs.  Of several batches that were
 * open at the same time, each may have jobs that are younger than those of the
 * next; so as many batches as may be open are searched.
 */

static ngx_webtorch_waiter_t *
ngx_webtorch_batch_find_oldest(ngx_webtorch_runner_t *runner)
{
    uint32_t                i;
    ngx_uint_t              n;
    ngx_queue_t            *q;
    ngx_webtorch_batch_t   *batch;
    ngx_webtorch_waiter_t  *waiter, *oldest;

    oldest = NULL;
    n = ngx_webtorch_runner_has_key(runner)
        ? NGX_WEBTORCH_MAX_OPEN : 1;

    for (q = ngx_queue_head(&runner->batches);
         q != ngx_queue_sentinel(&runner->batches);
         q = ngx_queue_next(q))
    {
        batch = ngx_queue_data(q, ngx_webtorch_batch_t, queue);

        for (i = 0; i < batch->api.njobs; i++) {
            waiter = batch->api.jobs[i].waiter;

            if (waiter
                && (oldest == NULL
                    || (ngx_msec_int_t) (waiter->deadline - oldest->deadline)
                       < 0))
            {
                oldest = waiter;
            }
        }

        if (oldest && --n == 0) {
            break;
        }
    }

    return oldest;
}


static void
ngx_webtorch_batch_release_waiter(ngx_webtorch_waiter_t *waiter)
{
    waiter->job->waiter = NULL;
    waiter->job = NULL;

    ngx_webtorch_batch_del_waiters(waiter->batch->runner, 1);
}


static void
ngx_webtorch_batch_del_waiters(ngx_webtorch_runner_t *runner, ngx_uint_t n)
{
    runner->nwaiters -= n;

    if (runner->nwaiters) {
        return;
    }

    /* a worker that shuts down gracefully waits for timers */

    if (runner->timeout.event.timer_set) {
        ngx_del_timer(&runner->timeout.event);
    }

    if (runner->close.event.timer_set) {
        ngx_del_timer(&runner->close.event);
    }
}
