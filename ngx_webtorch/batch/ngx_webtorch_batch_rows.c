
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_batch_rows.h"
#include "ngx_webtorch_tensor.h"


/* rows that a new batch has room for; it grows up to max_batch */
#define NGX_WEBTORCH_FIRST_ROWS      16

/* bytes of inputs that it has room for, if that is less than FIRST_ROWS */
#define NGX_WEBTORCH_FIRST_SIZE      (256 * 1024)

/* bytes of rows that the event loop copies or moves, in a millisecond */
#define NGX_WEBTORCH_MAX_MOVE        (1024 * 1024)

/* bytes of inputs of a batch whose rows have variable axes */
#define NGX_WEBTORCH_MAX_SIZE        (64 * 1024 * 1024)

/* bytes of strings that a free batch keeps room for */
#define NGX_WEBTORCH_KEPT_TEXT       (1024 * 1024)

/* free batches that keep their buffers when the handler has nothing to do */
#define NGX_WEBTORCH_KEPT_BATCHES    4


static ngx_webtorch_batch_t *ngx_webtorch_batch_create(
    ngx_webtorch_runner_t *runner);
static ngx_int_t ngx_webtorch_batch_grow(ngx_webtorch_batch_t *batch,
    uint32_t rows);
static ngx_int_t ngx_webtorch_batch_grow_jobs(ngx_webtorch_batch_t *batch);
static ngx_int_t ngx_webtorch_batch_grow_text(ngx_webtorch_batch_t *batch,
    size_t len);
static void ngx_webtorch_batch_set_sizes(ngx_webtorch_batch_t *batch,
    const int64_t *sizes);
static void ngx_webtorch_batch_job_moved(webtorch_job_t *job);
static void ngx_webtorch_batch_free_inputs(ngx_webtorch_batch_t *batch);
static size_t ngx_webtorch_batch_row_size(ngx_webtorch_batch_t *batch);


ngx_webtorch_batch_t *
ngx_webtorch_batch_get(ngx_webtorch_runner_t *runner, const int64_t *sizes)
{
    ngx_webtorch_batch_t  *batch;

    batch = runner->free;

    if (batch) {
        runner->free = batch->next;
        runner->nkept -= (batch->api.capacity != 0);

    } else {
        batch = ngx_webtorch_batch_create(runner);
        if (batch == NULL) {
            return NULL;
        }
    }

    batch->max_rows = (uint32_t) runner->handler->max_batch;

    if (batch->schema->naxes) {
        ngx_webtorch_batch_set_sizes(batch, sizes);
    }

    ngx_queue_insert_tail(&runner->batches, &batch->queue);

    return batch;
}


static ngx_webtorch_batch_t *
ngx_webtorch_batch_create(ngx_webtorch_runner_t *runner)
{
    size_t                 size;
    webtorch_schema_t     *schema;
    ngx_webtorch_batch_t  *batch;

    schema = &runner->handler->schema;
    size = sizeof(ngx_webtorch_batch_t)
           + (schema->naxes ? sizeof(webtorch_schema_t) : 0);

    batch = ngx_calloc(size, runner->log);
    if (batch == NULL) {
        return NULL;
    }

    batch->schema = schema;

    if (schema->naxes) {
        batch->schema = (webtorch_schema_t *) &batch[1];
        *batch->schema = *schema;
    }

    batch->row_weight = 1;

    batch->runner = runner;
    batch->api.handler = (uint32_t) runner->handler->index;
    batch->api.slot = runner->nslots++;

    return batch;
}


void
ngx_webtorch_batch_free(ngx_webtorch_batch_t *batch)
{
    uint32_t                i;
    ngx_webtorch_runner_t  *runner;

    runner = batch->runner;

    ngx_queue_remove(&batch->queue);

    batch->state = NGX_WEBTORCH_BATCH_FREE;
    batch->api.njobs = 0;
    batch->api.rows = 0;
    batch->api.shared = 0;
    batch->api.text_len = 0;
    batch->nposted = 0;

    if (batch->max_text > NGX_WEBTORCH_KEPT_TEXT) {
        free(batch->api.text);
        batch->api.text = NULL;
        batch->max_text = 0;
    }

    for (i = 0; i < batch->schema->noutputs; i++) {
        free(batch->copies[i]);
        batch->copies[i] = NULL;
    }

    if (batch->api.slot & WEBTORCH_USED_ONCE) {
        batch->api.slot &= ~WEBTORCH_USED_ONCE;
        batch->api.retained = 1;

        if (!batch->adopted) {
            ngx_webtorch_batch_free_inputs(batch);
        }
    }

    if (batch->api.retained) {
        /* Python keeps a tensor over the input: the next rows go elsewhere */
        batch->api.retained = 0;
        batch->api.capacity = 0;
        ngx_memzero(batch->api.inputs, sizeof(batch->api.inputs));
        ngx_memzero(batch->api.allocated, sizeof(batch->api.allocated));
    }

    batch->next = runner->free;
    runner->free = batch;
    runner->nkept += (batch->api.capacity != 0);
}


/* prepares an empty batch for rows of these sizes */

static void
ngx_webtorch_batch_set_sizes(ngx_webtorch_batch_t *batch, const int64_t *sizes)
{
    uint32_t            i;
    uint64_t            size, capacity, max_rows;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = &batch->runner->handler->schema;

    ngx_memzero(api->sizes, sizeof(api->sizes));
    ngx_memcpy(api->sizes, sizes, schema->nbound * sizeof(int64_t));

    capacity = UINT32_MAX;
    batch->row_weight = 0;

    for (i = 0; i < schema->ninputs; i++) {
        ngx_webtorch_resolve(&batch->schema->inputs[i], &schema->inputs[i],
                             sizes);

        size = (uint64_t) batch->schema->inputs[i].row_size;
        batch->row_weight += size;
        capacity = ngx_min(capacity, api->allocated[i] / size);
    }

    api->capacity = (uint32_t) capacity;

    max_rows = ngx_min(batch->runner->handler->max_batch,
                       NGX_WEBTORCH_MAX_SIZE / batch->row_weight);
    batch->max_rows = (uint32_t) ngx_max(max_rows, 1);
}


ngx_uint_t
ngx_webtorch_batch_has_sizes(ngx_webtorch_batch_t *batch, const int64_t *sizes)
{
    uint32_t  i;

    for (i = 0; i < batch->schema->nbound; i++) {
        if (batch->api.sizes[i] != sizes[i]) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_webtorch_batch_adopt_rows(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink)
{
    uint32_t            i;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = batch->schema;

    if (ngx_webtorch_batch_grow_jobs(batch) != NGX_OK) {
        return NGX_ERROR;
    }

    /* Python frees a buffer that it has seen, with its last tensor */

    if (!batch->adopted) {
        ngx_webtorch_batch_free_inputs(batch);
    }

    for (i = 0; i < schema->ninputs; i++) {
        api->inputs[i] = sink->data[i];
        api->allocated[i] = layout->rows * (size_t) schema->inputs[i].row_size;
        sink->data[i] = NULL;
    }

    if (layout->text) {
        free(api->text);
        api->text = sink->text;
        batch->max_text = layout->text;
        sink->text = NULL;
    }

    batch->adopted = 0;
    batch->max_rows = 0;
    api->generation++;
    api->capacity = layout->rows;
    api->slot |= WEBTORCH_USED_ONCE;

    return NGX_OK;
}


static void
ngx_webtorch_batch_free_inputs(ngx_webtorch_batch_t *batch)
{
    uint32_t  i;

    for (i = 0; i < batch->schema->ninputs; i++) {
        if (batch->api.inputs[i]) {
            ngx_free(batch->api.inputs[i]);
            batch->api.inputs[i] = NULL;
        }
    }
}


ngx_uint_t
ngx_webtorch_batch_is_outgrown(ngx_webtorch_batch_t *batch, uint32_t rows)
{
    size_t  size;

    if (batch->api.rows + rows <= batch->api.capacity) {
        return 0;
    }

    size = batch->api.rows * ngx_webtorch_batch_row_size(batch);

    if (size < NGX_WEBTORCH_MAX_MOVE) {
        return 0;
    }

    batch->runner->first_size = ngx_max(batch->runner->first_size, 2 * size);

    return 1;
}


static size_t
ngx_webtorch_batch_row_size(ngx_webtorch_batch_t *batch)
{
    size_t    size;
    uint32_t  i;

    size = 0;

    for (i = 0; i < batch->schema->ninputs; i++) {
        size += (size_t) batch->schema->inputs[i].row_size;
    }

    return size;
}


ngx_int_t
ngx_webtorch_batch_reserve_rows(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink)
{
    uint32_t            i;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = batch->schema;

    if (ngx_webtorch_batch_grow(batch, api->rows + layout->rows) != NGX_OK
        || ngx_webtorch_batch_grow_jobs(batch) != NGX_OK)
    {
        return NGX_ERROR;
    }

    sink->text = NULL;
    sink->at = api->text_len;

    if (layout->text) {
        if (ngx_webtorch_batch_grow_text(batch, api->text_len + layout->text)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        sink->text = api->text + api->text_len;
    }

    for (i = 0; i < schema->ninputs; i++) {
        sink->data[i] = (u_char *) api->inputs[i]
                        + api->rows * (size_t) schema->inputs[i].row_size;
    }

    return NGX_OK;
}


/* makes room for so many rows in total, and keeps those of the batch */

static ngx_int_t
ngx_webtorch_batch_grow(ngx_webtorch_batch_t *batch, uint32_t rows)
{
    void               *data[WEBTORCH_MAX_TENSORS];
    uint32_t            i, capacity;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = batch->schema;

    if (rows <= api->capacity) {
        return NGX_OK;
    }

    capacity = ngx_min(NGX_WEBTORCH_FIRST_ROWS,
                       NGX_WEBTORCH_FIRST_SIZE / batch->row_weight);
    capacity = ngx_max(2 * api->capacity, capacity);

    if (batch->runner->first_size) {
        capacity = ngx_max(capacity,
                           (uint32_t) (batch->runner->first_size
                                       / ngx_webtorch_batch_row_size(batch)));
    }

    capacity = ngx_max(rows, ngx_min(capacity, batch->max_rows));

    for (i = 0; i < schema->ninputs; i++) {
        data[i] = ngx_alloc((size_t) capacity
                            * (size_t) schema->inputs[i].row_size,
                            batch->runner->log);

        if (data[i] == NULL) {
            while (i) {
                ngx_free(data[--i]);
            }

            return NGX_ERROR;
        }
    }

    for (i = 0; i < schema->ninputs; i++) {
        if (api->rows) {
            ngx_memcpy(data[i], api->inputs[i],
                       api->rows * (size_t) schema->inputs[i].row_size);
        }

        /* Python frees a buffer that it has seen, with its last tensor */

        if (!batch->adopted && api->inputs[i]) {
            ngx_free(api->inputs[i]);
        }

        api->inputs[i] = data[i];
        api->allocated[i] = (size_t) capacity
                            * (size_t) schema->inputs[i].row_size;
    }

    batch->adopted = 0;
    api->generation++;
    api->capacity = capacity;

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_batch_grow_jobs(ngx_webtorch_batch_t *batch)
{
    uint32_t         i, n;
    webtorch_job_t  *jobs;

    if (batch->api.njobs < batch->max_jobs) {
        return NGX_OK;
    }

    n = batch->max_jobs ? 2 * batch->max_jobs
                        : ngx_min(NGX_WEBTORCH_FIRST_ROWS, batch->max_rows);

    jobs = ngx_alloc(n * sizeof(webtorch_job_t), batch->runner->log);
    if (jobs == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < batch->api.njobs; i++) {
        jobs[i] = batch->api.jobs[i];
        ngx_webtorch_batch_job_moved(&jobs[i]);
    }

    if (batch->api.jobs) {
        ngx_free(batch->api.jobs);
    }

    batch->api.jobs = jobs;
    batch->max_jobs = n;

    return NGX_OK;
}


/* the text may move, as rows have the offsets of their strings in it */

static ngx_int_t
ngx_webtorch_batch_grow_text(ngx_webtorch_batch_t *batch, size_t len)
{
    char    *text;
    size_t   size;

    if (len <= batch->max_text) {
        return NGX_OK;
    }

    size = ngx_max(len, 2 * batch->max_text);

    text = realloc(batch->api.text, size);
    if (text == NULL) {
        return NGX_ERROR;
    }

    batch->api.text = text;
    batch->max_text = size;

    return NGX_OK;
}


/*
 * The rows of the last job replace those of the job if they are as many;
 * otherwise all later rows move.  A pending batch that has become empty stays
 * in the queue of the thread, which passes it on without a call.
 */

ngx_int_t
ngx_webtorch_batch_remove_job(ngx_webtorch_batch_t *batch, webtorch_job_t *job)
{
    size_t              size;
    u_char             *p;
    uint32_t            i, first, rows, moved;
    webtorch_job_t     *last;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = batch->schema;
    last = &api->jobs[api->njobs - 1];
    first = job->first;
    rows = job->rows;
    moved = (job == last) ? 0 : (last->rows == rows) ? rows
                                                     : api->rows - first - rows;

    if (moved * ngx_webtorch_batch_row_size(batch) > NGX_WEBTORCH_MAX_MOVE) {
        return NGX_DECLINED;
    }

    ngx_webtorch_job_free(job);

    for (i = 0; i < schema->ninputs; i++) {
        size = (size_t) schema->inputs[i].row_size;
        p = (u_char *) api->inputs[i] + first * size;

        if (last->rows == rows) {
            ngx_memcpy(p, (u_char *) api->inputs[i] + last->first * size,
                       moved * size);

        } else {
            ngx_memmove(p, p + rows * size, moved * size);
        }
    }

    if (last->rows == rows) {
        if (job != last) {
            *job = *last;
            job->first = first;
        }

    } else {
        ngx_memmove(job, job + 1, (u_char *) last - (u_char *) job);
    }

    api->njobs--;
    api->rows -= rows;

    for (i = 0, first = 0; i < api->njobs; i++) {
        api->jobs[i].first = first;
        first += api->jobs[i].rows;
        ngx_webtorch_batch_job_moved(&api->jobs[i]);
    }

    return NGX_OK;
}


static void
ngx_webtorch_batch_job_moved(webtorch_job_t *job)
{
    ngx_webtorch_waiter_t  *waiter;

    waiter = job->waiter;

    if (waiter) {
        waiter->job = job;
    }
}


void
ngx_webtorch_batch_trim(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *only)
{
    ngx_webtorch_batch_t  *batch;

    only->api.slot &= ~WEBTORCH_ONLY_SLOT;

    if (runner->nkept <= NGX_WEBTORCH_KEPT_BATCHES
        || runner->nheld
        || ngx_queue_head(&runner->batches) != ngx_queue_last(&runner->batches))
    {
        return;
    }

    for (batch = runner->free; batch; batch = batch->next) {

        if (!batch->adopted) {
            ngx_webtorch_batch_free_inputs(batch);
        }

        ngx_memzero(batch->api.inputs, sizeof(batch->api.inputs));
        ngx_memzero(batch->api.allocated, sizeof(batch->api.allocated));

        free(batch->api.text);
        batch->api.text = NULL;
        batch->max_text = 0;

        batch->adopted = 0;
        batch->api.capacity = 0;
    }

    runner->nkept = 0;
    only->api.slot |= WEBTORCH_ONLY_SLOT;
}
