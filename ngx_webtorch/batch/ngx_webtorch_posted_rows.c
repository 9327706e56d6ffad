
#include "ngx_webtorch_posted_rows.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_posted.h"
#include "ngx_webtorch_runner_thread.h"
#include "ngx_webtorch_stuck.h"
#include "ngx_webtorch_tensor.h"


typedef struct {
    ngx_queue_t               waiting;    /* posted objects in batches */
    ngx_webtorch_handler_t  **made;       /* handlers that no directive names */
    ngx_uint_t                nmade;
} ngx_webtorch_posted_rows_t;


static void ngx_webtorch_posted_handler(void);
static void ngx_webtorch_posted_accept(ngx_webtorch_posted_t *posted);
static ngx_webtorch_runner_t *ngx_webtorch_posted_get_runner(uint32_t n);
static void ngx_webtorch_posted_make(ngx_webtorch_posted_t *posted);
static ngx_int_t ngx_webtorch_posted_write(ngx_webtorch_posted_t *posted,
    ngx_webtorch_runner_t *runner, ngx_webtorch_layout_t *layout);
static void ngx_webtorch_posted_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static int32_t ngx_webtorch_posted_copy_outputs(ngx_webtorch_posted_t *posted,
    webtorch_job_t *job);


static ngx_webtorch_posted_rows_t  ngx_webtorch_posted_rows;


void
ngx_webtorch_posted_init_process(void)
{
    ngx_webtorch_posted.loop = pthread_self();
    ngx_queue_init(&ngx_webtorch_posted.cancelled);
    ngx_queue_init(&ngx_webtorch_posted_rows.waiting);

    ngx_webtorch_done.posted = ngx_webtorch_posted_handler;
}


ngx_int_t
ngx_webtorch_posted_exit_process(void)
{
    ngx_int_t                rc;
    ngx_uint_t               i;
    ngx_queue_t             *q;
    ngx_webtorch_posted_t   *posted, *next;
    ngx_webtorch_handler_t  *handler;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    ngx_webtorch_posted.closed = 1;
    posted = ngx_webtorch_posted.added;
    ngx_webtorch_posted.added = NULL;

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    for ( /* void */ ; posted; posted = next) {
        next = posted->next;
        ngx_webtorch_posted_end(posted, WEBTORCH_ROWS_EXIT);
    }

    while (!ngx_queue_empty(&ngx_webtorch_posted_rows.waiting)) {
        q = ngx_queue_head(&ngx_webtorch_posted_rows.waiting);
        ngx_queue_remove(q);

        posted = ngx_queue_data(q, ngx_webtorch_posted_t, queue);
        ngx_webtorch_posted_end(posted, WEBTORCH_ROWS_EXIT);
    }

    rc = NGX_OK;

    for (i = 0; i < ngx_webtorch_posted_rows.nmade; i++) {
        handler = ngx_webtorch_posted_rows.made[i];

        if (ngx_webtorch_runner_thread_stop(handler->runner) != NGX_OK) {
            rc = NGX_BUSY;
        }
    }

    return rc;
}


static void
ngx_webtorch_posted_handler(void)
{
    ngx_queue_t             cancelled;
    ngx_webtorch_posted_t  *posted, *next, *added;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    posted = ngx_webtorch_posted.added;
    ngx_webtorch_posted.added = NULL;

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    for (added = NULL; posted; posted = next) {
        next = posted->next;
        posted->next = added;
        added = posted;
    }

    for ( /* void */ ; added; added = next) {
        next = added->next;
        ngx_webtorch_posted_accept(added);
    }

    /* rows cancelled before they are added are handled in the next iteration */

    ngx_queue_init(&cancelled);

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    while (!ngx_queue_empty(&ngx_webtorch_posted.cancelled)) {
        posted = ngx_queue_data(ngx_queue_head(&ngx_webtorch_posted.cancelled),
                                ngx_webtorch_posted_t, cancel);

        ngx_queue_remove(&posted->cancel);
        ngx_queue_insert_tail(&cancelled, &posted->cancel);
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    /* only the event loop ends them, so that they stay until they are here */

    while (!ngx_queue_empty(&cancelled)) {
        posted = ngx_queue_data(ngx_queue_head(&cancelled),
                                ngx_webtorch_posted_t, cancel);

        ngx_queue_remove(&posted->cancel);
        ngx_queue_init(&posted->cancel);

        if (posted->waiter.job) {
            (void) ngx_webtorch_batch_cancel(&posted->waiter);
            ngx_queue_remove(&posted->queue);
            ngx_webtorch_posted_end(posted, WEBTORCH_ROWS_CANCELLED);
        }
    }
}


static void
ngx_webtorch_posted_accept(ngx_webtorch_posted_t *posted)
{
    webtorch_job_t         *job;
    ngx_webtorch_layout_t   layout;
    ngx_webtorch_runner_t  *runner;

    if (posted->made) {
        ngx_webtorch_posted_make(posted);
        return;
    }

    /* set by another thread, but from 0 alone */

    if (posted->cancelled) {
        ngx_webtorch_posted_end(posted, WEBTORCH_ROWS_CANCELLED);
        return;
    }

    runner = ngx_webtorch_posted_get_runner(posted->api.handler);

    if (runner == NULL) {
        ngx_webtorch_posted_end(posted, 500);
        return;
    }

    if (ngx_webtorch_runner_full(runner, 0)) {
        ngx_webtorch_posted_end(posted, WEBTORCH_ROWS_FULL);
        return;
    }

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));

    layout.rows = posted->api.rows;
    layout.text = posted->api.text_len;
    ngx_memcpy(layout.sizes, posted->api.sizes, sizeof(posted->api.sizes));
    layout.sizes[WEBTORCH_VERSION_SET] = posted->api.version_set;

    if (ngx_webtorch_posted_write(posted, runner, &layout) != NGX_OK) {
        ngx_webtorch_posted_end(posted, 500);
        return;
    }

    posted->waiter.done = ngx_webtorch_posted_done;
    ngx_queue_insert_tail(&ngx_webtorch_posted_rows.waiting, &posted->queue);

    job = ngx_webtorch_runner_add(runner, &layout, &posted->waiter);
    job->caller = posted->api.caller;
}


static ngx_webtorch_runner_t *
ngx_webtorch_posted_get_runner(uint32_t n)
{
    ngx_uint_t                i;
    ngx_webtorch_conf_t      *conf;
    ngx_webtorch_handler_t  **handler;

    conf = ngx_webtorch_get_conf(ngx_cycle);

    if (n < conf->handlers.nelts) {
        handler = conf->handlers.elts;
        return handler[n]->runner;
    }

    for (i = 0; i < ngx_webtorch_posted_rows.nmade; i++) {
        if (ngx_webtorch_posted_rows.made[i]->index == n) {
            return ngx_webtorch_posted_rows.made[i]->runner;
        }
    }

    return NULL;
}


/* the memory of the handler is that of the posted object, and is kept */

static void
ngx_webtorch_posted_make(ngx_webtorch_posted_t *posted)
{
    ngx_webtorch_handler_t  **made;

    made = realloc(ngx_webtorch_posted_rows.made,
                   (ngx_webtorch_posted_rows.nmade + 1)
                   * sizeof(ngx_webtorch_handler_t *));
    if (made == NULL) {
        return;
    }

    ngx_webtorch_posted_rows.made = made;

    posted->made->runner = ngx_webtorch_runner_create((ngx_cycle_t *) ngx_cycle,
                                                      posted->made);

    if (posted->made->runner) {
        made[ngx_webtorch_posted_rows.nmade++] = posted->made;
    }
}


static ngx_int_t
ngx_webtorch_posted_write(ngx_webtorch_posted_t *posted,
    ngx_webtorch_runner_t *runner, ngx_webtorch_layout_t *layout)
{
    webtorch_rows_t      *rows;
    ngx_webtorch_sink_t   sink;

    rows = &posted->api;

    ngx_memcpy(sink.data, rows->inputs, sizeof(rows->inputs));
    sink.text = rows->text;
    sink.at = 0;

    if (posted->adopted) {
        if (ngx_webtorch_runner_adopt(runner, layout, &sink) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_memcpy(rows->inputs, sink.data, sizeof(rows->inputs));
        rows->text = sink.text;

        return NGX_OK;
    }

    return ngx_webtorch_runner_copy(runner, layout, &sink);
}


/* job is NULL: it was not done in time */

static void
ngx_webtorch_posted_done(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
{
    int32_t                 status;
    ngx_webtorch_posted_t  *posted;

    posted = ngx_queue_data(waiter, ngx_webtorch_posted_t, waiter);

    ngx_queue_remove(&posted->queue);

    if (job == NULL) {
        status = ngx_webtorch_stuck_blocks(waiter->batch->runner)
                     ? WEBTORCH_ROWS_FULL : WEBTORCH_ROWS_LATE;

    } else if (job->status) {
        /* Python has kept the exception, but of another worker's call */
        status = job->status;
        posted->api.failure = job->failure;
        job->failure = NULL;

    } else {
        status = ngx_webtorch_posted_copy_outputs(posted, job);
    }

    ngx_webtorch_posted_end(posted, status);
}


/* into one buffer, the texts of all strings last; returns a status */

static int32_t
ngx_webtorch_posted_copy_outputs(ngx_webtorch_posted_t *posted,
    webtorch_job_t *job)
{
    size_t                  size, n;
    u_char                 *p, *strings;
    uint32_t                i;
    webtorch_rows_t        *rows;
    webtorch_text_t        *text;
    webtorch_schema_t      *schema;
    ngx_webtorch_waiter_t  *waiter;

    rows = &posted->api;
    waiter = &posted->waiter;
    schema = waiter->batch->schema;

    ngx_memcpy(rows->sizes, waiter->batch->api.sizes, sizeof(rows->sizes));

    size = 0;
    rows->text_len = 0;

    for (i = 0; i < schema->noutputs; i++) {
        rows->output_at[i] = size;
        rows->output_size[i] = job->rows
                               * (size_t) schema->outputs[i].row_size;
        size += ngx_align(rows->output_size[i], 16);

        rows->text_len += ngx_webtorch_text_size(&schema->outputs[i],
                              ngx_webtorch_batch_output(waiter, job, i),
                              job->rows);
    }

    rows->text_at = size;
    rows->result_len = size + rows->text_len + 1;
    rows->result = ngx_webtorch_buffer_alloc(rows->result_len);

    if (rows->result == NULL) {
        return 500;
    }

    p = (u_char *) rows->result;
    strings = p + size;

    for (i = 0; i < schema->noutputs; i++) {
        ngx_memcpy(p + rows->output_at[i],
                   ngx_webtorch_batch_output(waiter, job, i),
                   rows->output_size[i]);

        if (!ngx_webtorch_is_string(schema->outputs[i].dtype)) {
            continue;
        }

        text = (webtorch_text_t *) (p + rows->output_at[i]);

        for (n = rows->output_size[i] / sizeof(webtorch_text_t); n; n--) {
            ngx_memcpy(strings, (u_char *) (uintptr_t) text->at, text->len);
            text->at = strings - (p + size);
            strings += text++->len;
        }
    }

    return 0;
}
