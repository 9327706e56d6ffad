
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_batch_rows.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_runner_place.h"
#include "ngx_webtorch_runner_thread.h"
#include "ngx_webtorch_stuck.h"


/* iterations of the event loop that may keep a batch open without a delay */
#define NGX_WEBTORCH_MAX_POLLS   16

/* bytes of strings in the inputs of a batch */
#define NGX_WEBTORCH_MAX_TEXT    (64 * 1024 * 1024)


static ngx_int_t ngx_webtorch_runner_open(ngx_webtorch_runner_t *runner,
    const int64_t *sizes);
static void ngx_webtorch_runner_find_open(ngx_webtorch_runner_t *runner,
    const int64_t *sizes);
static ngx_msec_int_t ngx_webtorch_runner_delay(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_runner_schedule(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_runner_close_handler(ngx_event_t *ev);
static void ngx_webtorch_runner_run_ready(ngx_webtorch_runner_t *runner);
static ngx_uint_t ngx_webtorch_runner_keep_open(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_close(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_close_others(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_reopen(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_reopen_others(ngx_webtorch_runner_t *runner);
static ngx_uint_t ngx_webtorch_runner_spent(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_run_inline(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch);


ngx_webtorch_runner_t *
ngx_webtorch_runner_create(ngx_cycle_t *cycle, ngx_webtorch_handler_t *handler)
{
    ngx_webtorch_runner_t  *runner;

    runner = ngx_pcalloc(cycle->pool, sizeof(ngx_webtorch_runner_t));
    if (runner == NULL) {
        return NULL;
    }

    runner->handler = handler;
    runner->offloaded = handler->offloaded;
    runner->log = cycle->log;
    runner->run = ngx_webtorch_worker_run(&handler->name);

    ngx_webtorch_fifo_init(&runner->others);
    ngx_webtorch_fifo_init(&runner->ready);
    ngx_webtorch_fifo_init(&runner->pending);
    ngx_queue_init(&runner->batches);

    runner->loop.runner = runner;

    if (ngx_webtorch_runner_thread_init(runner, cycle) != NGX_OK) {
        return NULL;
    }

    /*
     * The timers are not cancelable: a worker that shuts down gracefully waits
     * for them, that is, as long as a request waits for a job.
     */

    ngx_webtorch_timer_init(&runner->close, ngx_webtorch_runner_close_handler,
                            runner, cycle->log);

    ngx_webtorch_timer_init(&runner->timeout,
                            ngx_webtorch_batch_timeout_handler,
                            runner, cycle->log);

    return runner;
}


ngx_uint_t
ngx_webtorch_runner_full(ngx_webtorch_runner_t *runner, size_t held)
{
    return runner->njobs >= runner->handler->queue
           || ngx_webtorch_queue_full(runner->handler->queue_size, held)
           || ngx_webtorch_stuck_blocks(runner);
}


ngx_int_t
ngx_webtorch_runner_reserve(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink)
{
    const int64_t         *sizes;
    ngx_webtorch_batch_t  *batch;

    sizes = layout->sizes;

    ngx_webtorch_runner_find_open(runner, sizes);

    if (runner->open == NULL
        && ngx_webtorch_runner_open(runner, sizes) != NGX_OK)
    {
        return NGX_ERROR;
    }

    batch = runner->open;

    /* a request with more rows than max_batch is a batch by itself */

    while (batch->api.rows != 0
           && (batch->api.rows + (uint64_t) layout->rows > batch->max_rows
               || batch->api.text_len + layout->text > NGX_WEBTORCH_MAX_TEXT
               || ngx_webtorch_batch_is_outgrown(batch, layout)))
    {
        ngx_webtorch_runner_close(runner);
        ngx_post_event(&runner->close.event, &ngx_posted_events);

        if (ngx_webtorch_runner_open(runner, sizes) != NGX_OK) {
            return NGX_ERROR;
        }

        batch = runner->open;
    }

    return ngx_webtorch_batch_reserve_rows(batch, layout, sink);
}


ngx_int_t
ngx_webtorch_runner_adopt(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink)
{
    ngx_webtorch_batch_t  *batch;

    ngx_webtorch_runner_find_open(runner, layout->sizes);

    if (runner->open && runner->open->api.njobs) {
        ngx_webtorch_runner_close(runner);
        ngx_post_event(&runner->close.event, &ngx_posted_events);
    }

    batch = runner->open;

    if (batch == NULL) {
        batch = ngx_webtorch_batch_get(runner, layout->sizes);
        if (batch == NULL) {
            return NGX_ERROR;
        }

        batch->state = NGX_WEBTORCH_BATCH_OPEN;
        runner->open = batch;
    }

    return ngx_webtorch_batch_adopt_rows(batch, layout, sink);
}


ngx_int_t
ngx_webtorch_runner_copy(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, const ngx_webtorch_sink_t *from)
{
    size_t                size, n;
    uint32_t              i;
    webtorch_text_t      *entry;
    webtorch_schema_t    *schema;
    ngx_webtorch_sink_t   sink;

    schema = &runner->handler->schema;

    if (ngx_webtorch_runner_reserve(runner, layout, &sink) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size = ngx_webtorch_buffer_row_size(schema, i, layout->sizes);

        if (size == 0) {
            continue;
        }

        ngx_memcpy(sink.data[i], from->data[i], layout->rows * size);

        if (i >= schema->ninputs
            || !ngx_webtorch_is_string(schema->inputs[i].dtype))
        {
            continue;
        }

        entry = sink.data[i];

        for (n = layout->rows * size / sizeof(webtorch_text_t); n; n--) {
            entry++->at += sink.at - from->at;
        }
    }

    if (layout->text) {
        ngx_memcpy(sink.text, from->text, layout->text);
    }

    return NGX_OK;
}


ngx_int_t
ngx_webtorch_runner_take(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink, char **text,
    size_t size)
{
    ngx_int_t  rc;

    sink->text = *text;
    sink->at = 0;

    if (size < NGX_WEBTORCH_LARGE_SIZE) {
        return ngx_webtorch_runner_copy(runner, layout, sink);
    }

    rc = ngx_webtorch_runner_adopt(runner, layout, sink);

    *text = sink->text;

    return rc;
}


webtorch_job_t *
ngx_webtorch_runner_add(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter)
{
    webtorch_job_t        *job;
    ngx_webtorch_batch_t  *batch;

    batch = runner->open;
    job = ngx_webtorch_batch_append(batch, layout, waiter);
    runner->nadded++;

    ngx_webtorch_runner_added(runner);

    return job;
}


void
ngx_webtorch_runner_added(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_batch_t  *batch;

    batch = runner->open;

    /* a full batch does not wait for max_delay */

    if (batch->api.rows >= batch->max_rows) {
        ngx_webtorch_runner_close(runner);
        ngx_post_event(&runner->close.event, &ngx_posted_events);

    } else {
        ngx_webtorch_runner_schedule(batch);
    }
}


ngx_int_t
ngx_webtorch_runner_run(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter,
    void (*write)(ngx_webtorch_waiter_t *waiter, ngx_webtorch_sink_t *sink))
{
    ngx_webtorch_sink_t    sink;
    ngx_webtorch_batch_t  *batch;

    if (!ngx_webtorch_runner_may_run_now(runner)
        || ngx_webtorch_runner_spent(runner) >= NGX_WEBTORCH_INLINE_LIMIT)
    {
        return NGX_DECLINED;
    }

    batch = ngx_webtorch_batch_get(runner, layout->sizes);
    if (batch == NULL) {
        return NGX_ERROR;
    }

    if (ngx_webtorch_batch_reserve_rows(batch, layout, &sink) != NGX_OK) {
        ngx_webtorch_batch_free(batch);
        return NGX_ERROR;
    }

    write(waiter, &sink);

    (void) ngx_webtorch_batch_append(batch, layout, waiter);
    ngx_webtorch_batch_set_weight(batch);

    ngx_webtorch_runner_run_inline(runner, batch);
    ngx_webtorch_batch_finish(batch);

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_runner_open(ngx_webtorch_runner_t *runner, const int64_t *sizes)
{
    ngx_webtorch_batch_t  *batch;

    batch = ngx_webtorch_runner_thread_reclaim(runner, sizes);

    if (batch == NULL) {
        batch = ngx_webtorch_batch_get(runner, sizes);
        if (batch == NULL) {
            return NGX_ERROR;
        }
    }

    batch->state = NGX_WEBTORCH_BATCH_OPEN;
    runner->open = batch;

    if (batch->api.njobs) {
        ngx_webtorch_runner_schedule(batch);
    }

    return NGX_OK;
}


/*
 * Makes the open batch for these sizes, if there is one, the one that rows are
 * added to.  If too many are open, the one that has had no new row for the
 * longest time is closed.
 */

static void
ngx_webtorch_runner_find_open(ngx_webtorch_runner_t *runner,
    const int64_t *sizes)
{
    ngx_webtorch_batch_t  *batch;

    runner->chosen |= (sizes[WEBTORCH_VERSION_SET] != 0);

    if (!ngx_webtorch_runner_has_key(runner)) {
        return;
    }

    batch = runner->open;

    if (batch) {

        if (ngx_webtorch_batch_has_sizes(batch, sizes)) {
            return;
        }

        runner->open = NULL;

        if (batch->api.njobs) {
            ngx_webtorch_fifo_add(&runner->others, batch);
            runner->nothers++;

        } else {
            ngx_webtorch_batch_free(batch);
        }
    }

    for (batch = runner->others.head; batch; batch = batch->next) {

        if (ngx_webtorch_batch_has_sizes(batch, sizes)) {
            ngx_webtorch_fifo_remove(&runner->others, batch);
            runner->nothers--;
            runner->open = batch;
            return;
        }
    }

    if (runner->nothers >= NGX_WEBTORCH_MAX_OPEN) {
        runner->open = ngx_webtorch_fifo_get(&runner->others);
        runner->nothers--;

        ngx_webtorch_runner_close(runner);
        ngx_post_event(&runner->close.event, &ngx_posted_events);
    }
}


/* milliseconds until an open batch is closed */

static ngx_msec_int_t
ngx_webtorch_runner_delay(ngx_webtorch_batch_t *batch)
{
    return (ngx_msec_int_t) (batch->opened + batch->runner->handler->max_delay
                             - ngx_current_msec);
}


static void
ngx_webtorch_runner_schedule(ngx_webtorch_batch_t *batch)
{
    ngx_msec_int_t          delay;
    ngx_webtorch_runner_t  *runner;

    runner = batch->runner;
    delay = ngx_webtorch_runner_delay(batch);

    if (delay <= 0) {
        /*
         * The event is posted after those of the connections that are ready
         * now: the batch closes when the loop has read them all.
         */

        if (!runner->close.event.posted) {
            ngx_post_event(&runner->close.event, &ngx_posted_events);
        }

        return;
    }

    /* the timer may be that of another open batch, which is closed later */

    if (runner->close.event.timer_set
        && (ngx_msec_int_t) (runner->close.event.timer.key
                             - (ngx_current_msec + delay))
           > 0)
    {
        ngx_del_timer(&runner->close.event);
    }

    if (!runner->close.event.timer_set) {
        ngx_add_timer(&runner->close.event, delay);
    }

    ngx_webtorch_batch_set_timeout(runner);
}


static void
ngx_webtorch_runner_close_handler(ngx_event_t *ev)
{
    ngx_webtorch_runner_t  *runner;

    runner = ngx_webtorch_timer_data(ev);

    if (ngx_webtorch_runner_keep_open(runner)) {
        return;
    }

    if (runner->nothers) {
        ngx_webtorch_runner_close_others(runner);
    }

    if (runner->open && runner->open->api.njobs) {

        if (ngx_webtorch_runner_delay(runner->open) <= 0) {
            ngx_webtorch_runner_close(runner);

        } else {
            /* the timer may have been that of a batch that is closed already */
            ngx_webtorch_runner_schedule(runner->open);
        }
    }

    if (runner->open == NULL && runner->nothers == 0 && ev->timer_set) {
        ngx_del_timer(ev);
    }

    ngx_webtorch_runner_run_ready(runner);
}


static void
ngx_webtorch_runner_run_ready(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_fifo_t    done;
    ngx_webtorch_batch_t  *batch;
    ngx_webtorch_runner_place_e   place;

    ngx_webtorch_fifo_init(&done);

    while ((batch = runner->ready.head) != NULL) {

        if (batch->api.njobs == 0) {
            (void) ngx_webtorch_fifo_get(&runner->ready);
            ngx_webtorch_batch_free(batch);
            continue;
        }

        place = ngx_webtorch_runner_get_place(runner, batch);

        if (place == NGX_WEBTORCH_RUNNER_LATER) {
            ngx_webtorch_runner_reopen(runner);
            ngx_webtorch_runner_thread_set_spread(runner);
            ngx_webtorch_batch_set_timeout(runner);
            break;
        }

        if (place == NGX_WEBTORCH_RUNNER_LOOP
            && ngx_webtorch_runner_spent(runner) >= NGX_WEBTORCH_INLINE_LIMIT)
        {
            /* a worker that shuts down gracefully waits for timers */
            ngx_webtorch_batch_set_timeout(runner);
            ngx_post_event(&runner->close.event, &ngx_posted_next_events);
            break;
        }

        (void) ngx_webtorch_fifo_get(&runner->ready);

        if (place == NGX_WEBTORCH_RUNNER_THREAD) {
            ngx_webtorch_runner_thread_submit(runner, batch);
            continue;
        }

        ngx_webtorch_runner_run_inline(runner, batch);
        ngx_webtorch_fifo_add(&done, batch);
    }

    runner->overdue = 0;

    /* answered after all calls, so that each call finds the caches warm */

    while ((batch = ngx_webtorch_fifo_get(&done)) != NULL) {
        ngx_webtorch_batch_finish(batch);
    }
}


/*
 * Requests that are also proxied come a few in each iteration of the event
 * loop, between events of upstreams and clients.  A batch of them stays open
 * while each iteration adds some.  With a posted event the loop does not wait
 * for other events, it only polls for them.
 */

static ngx_uint_t
ngx_webtorch_runner_keep_open(ngx_webtorch_runner_t *runner)
{
    if (!runner->handler->keep_open
        || runner->handler->max_delay
        || runner->ready.head
        || runner->nadded == runner->npolled
        || ++runner->npolls > NGX_WEBTORCH_MAX_POLLS)
    {
        runner->npolled = runner->nadded;
        runner->npolls = 0;
        return 0;
    }

    runner->npolled = runner->nadded;

    /* a worker that shuts down gracefully waits for timers */
    ngx_webtorch_batch_set_timeout(runner);
    ngx_post_event(&runner->close.event, &ngx_posted_next_events);

    return 1;
}


static void
ngx_webtorch_runner_close(ngx_webtorch_runner_t *runner)
{
    runner->open->state = NGX_WEBTORCH_BATCH_READY;
    ngx_webtorch_fifo_add(&runner->ready, runner->open);
    runner->open = NULL;
}


/* closes those whose delay has passed, and those that have become empty */

static void
ngx_webtorch_runner_close_others(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_batch_t  *batch, *next;

    batch = runner->others.head;

    ngx_webtorch_fifo_init(&runner->others);
    runner->nothers = 0;

    for ( /* void */ ; batch; batch = next) {
        next = batch->next;

        if (batch->api.njobs == 0 || ngx_webtorch_runner_delay(batch) <= 0) {
            batch->state = NGX_WEBTORCH_BATCH_READY;
            ngx_webtorch_fifo_add(&runner->ready, batch);
            continue;
        }

        ngx_webtorch_fifo_add(&runner->others, batch);
        runner->nothers++;

        ngx_webtorch_runner_schedule(batch);
    }
}


/* opens the last batch again, so that rows are added to it while it waits */

static void
ngx_webtorch_runner_reopen(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_batch_t  *batch;

    batch = runner->ready.head;

    if (ngx_webtorch_runner_has_key(runner)) {
        ngx_webtorch_runner_reopen_others(runner);
        return;
    }

    if (runner->open == NULL
        && batch->next == NULL
        && batch->api.rows < batch->max_rows)
    {
        ngx_webtorch_fifo_remove(&runner->ready, batch);
        batch->state = NGX_WEBTORCH_BATCH_OPEN;
        runner->open = batch;
    }
}


/* opens all batches again or none, so that they keep their order */

static void
ngx_webtorch_runner_reopen_others(ngx_webtorch_runner_t *runner)
{
    ngx_uint_t             n;
    ngx_webtorch_batch_t  *batch, *next;

    n = runner->nothers + (runner->open != NULL);

    for (batch = runner->ready.head; batch; batch = batch->next) {
        n += (batch->api.rows < batch->max_rows);
    }

    if (n > NGX_WEBTORCH_MAX_OPEN) {
        return;
    }

    for (batch = runner->ready.head; batch; batch = next) {
        next = batch->next;

        if (batch->api.rows < batch->max_rows) {
            ngx_webtorch_fifo_remove(&runner->ready, batch);
            batch->state = NGX_WEBTORCH_BATCH_OPEN;

            ngx_webtorch_fifo_add(&runner->others, batch);
            runner->nothers++;
        }
    }
}


/*
 * Microseconds of calls in the event loop since it looked for events.  A client
 * that has sent the next request, or the next chunk of a stream, is read when
 * it is answered, in the same iteration of the loop: the time that nginx has
 * cached does not change until other clients are looked for.
 */

static ngx_uint_t
ngx_webtorch_runner_spent(ngx_webtorch_runner_t *runner)
{
    return (runner->turn == ngx_current_msec) ? runner->spent : 0;
}


static void
ngx_webtorch_runner_run_inline(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch)
{
    ngx_uint_t  spent;

    spent = ngx_webtorch_runner_spent(runner);

    ngx_webtorch_batch_trim(runner, batch);

    batch->state = NGX_WEBTORCH_BATCH_RUNNING;
    batch->adopted = 1;
    ngx_webtorch_batch_run(batch, &runner->loop);
    batch->state = NGX_WEBTORCH_BATCH_DONE;

    runner->turn = ngx_current_msec;
    runner->spent = spent + batch->elapsed;

    ngx_webtorch_runner_learn(runner, batch, 1);
}
