
#include "ngx_webtorch_batch_rows.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_offload.h"
#include "ngx_webtorch_tensor.h"


/* rows that a new batch has room for; it grows up to max_batch */
#define NGX_WEBTORCH_FIRST_ROWS      16

/* bytes of inputs that it has room for, if that is less than FIRST_ROWS */
#define NGX_WEBTORCH_FIRST_SIZE      (256 * 1024)

/* bytes of inputs of a batch whose rows have variable axes */
#define NGX_WEBTORCH_MAX_SIZE        (64 * 1024 * 1024)

/* bytes of strings that a free batch keeps room for */
#define NGX_WEBTORCH_KEPT_TEXT       (1024 * 1024)

/* free batches that keep their buffers when the handler has nothing to do */
#define NGX_WEBTORCH_KEPT_BATCHES    4

/* bytes of inputs that a batch keeps when its last request is cancelled */
#define NGX_WEBTORCH_BATCH_KEPT_SIZE       (1024 * 1024)

/* bytes of inputs that all batches of a worker keep for their next rows */
#define NGX_WEBTORCH_MAX_KEPT        (96 * 1024 * 1024)


static ngx_webtorch_batch_t *ngx_webtorch_batch_create(
    ngx_webtorch_runner_t *runner);
static ngx_int_t ngx_webtorch_batch_grow(ngx_webtorch_batch_t *batch,
    uint32_t rows);
static ngx_int_t ngx_webtorch_batch_grow_text(ngx_webtorch_batch_t *batch,
    size_t len);
static void ngx_webtorch_batch_set_sizes(ngx_webtorch_batch_t *batch,
    const int64_t *sizes);
static void ngx_webtorch_batch_free_inputs(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_batch_free_text(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_batch_set_kept(ngx_webtorch_batch_t *batch,
    size_t size);
static void ngx_webtorch_batch_job_moved(webtorch_job_t *job);


/* bytes; the sum of all batches */
static size_t  ngx_webtorch_batch_kept;


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

    if (batch->schema->naxes || batch->schema->noptional) {
        ngx_webtorch_batch_set_sizes(batch, sizes);
    }

    batch->api.sizes[WEBTORCH_ABSENT] = batch->schema->noptional
                                        ? sizes[WEBTORCH_ABSENT] : 0;
    batch->api.sizes[WEBTORCH_VERSION_SET] = sizes[WEBTORCH_VERSION_SET];

    ngx_queue_insert_tail(&runner->batches, &batch->queue);

    return batch;
}


static ngx_webtorch_batch_t *
ngx_webtorch_batch_create(ngx_webtorch_runner_t *runner)
{
    size_t                 size;
    uint32_t               i;
    webtorch_schema_t     *schema;
    ngx_webtorch_batch_t  *batch;

    schema = &runner->handler->schema;
    size = sizeof(ngx_webtorch_batch_t)
           + (schema->naxes || schema->noptional ? sizeof(webtorch_schema_t)
                                                 : 0);

    batch = ngx_calloc(size, runner->log);
    if (batch == NULL) {
        return NULL;
    }

    batch->schema = schema;

    if (schema->naxes || schema->noptional) {
        batch->schema = (webtorch_schema_t *) &batch[1];
        *batch->schema = *schema;
    }

    batch->row_weight = 1;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        batch->row_size += (size_t) schema->inputs[i].row_size;
    }

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

    /* the strings of requests that were cancelled */
    ngx_webtorch_queue_sub(batch->held);
    batch->held = 0;

    if (batch->max_text > NGX_WEBTORCH_KEPT_TEXT) {
        ngx_webtorch_batch_free_text(batch);
    }

    for (i = 0; i < batch->schema->noutputs; i++) {
        if (batch->copies[i]) {
            ngx_webtorch_defer_free(batch->copies[i],
                                    batch->api.rows
                                    * (size_t) batch->schema->outputs[i]
                                                             .row_size);
            batch->copies[i] = NULL;
        }
    }

    if (batch->max_rows == 0) {
        ngx_webtorch_batch_free_inputs(batch);
        batch->api.retained = 1;
    }

    if (batch->api.retained) {
        /* Python has the inputs: the next rows go elsewhere */
        batch->api.retained = 0;
        batch->api.capacity = 0;
        ngx_webtorch_batch_set_kept(batch, 0);

        /* and it may free the outputs now */
        ngx_memzero(batch->api.outputs, sizeof(batch->api.outputs));
        ngx_memzero(batch->api.inputs, sizeof(batch->api.inputs));
        ngx_memzero(batch->api.allocated, sizeof(batch->api.allocated));
    }

    batch->state = NGX_WEBTORCH_BATCH_FREE;
    batch->api.njobs = 0;
    batch->api.rows = 0;
    batch->api.shared = 0;
    batch->api.text_len = 0;
    batch->nposted = 0;

    batch->next = runner->free;
    runner->free = batch;
    runner->nkept += (batch->api.capacity != 0);
}


/* prepares an empty batch for rows of these sizes; absent inputs have none */

static void
ngx_webtorch_batch_set_sizes(ngx_webtorch_batch_t *batch, const int64_t *sizes)
{
    uint32_t            i;
    uint64_t            size, row_size, capacity, max_rows;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = &batch->runner->handler->schema;

    ngx_memzero(api->sizes, sizeof(api->sizes));
    ngx_memcpy(api->sizes, sizes, schema->nbound * sizeof(int64_t));

    capacity = UINT32_MAX;
    row_size = 0;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        ngx_webtorch_resolve(&batch->schema->inputs[i], &schema->inputs[i],
                             sizes);

        size = ngx_webtorch_buffer_row_size(schema, i, sizes);
        batch->schema->inputs[i].row_size = (int64_t) size;

        if (size) {
            row_size += size;
            capacity = ngx_min(capacity, api->allocated[i] / size);
        }
    }

    api->capacity = (uint32_t) capacity;
    batch->row_size = (size_t) row_size;

    if (schema->naxes == 0) {
        return;
    }

    batch->row_weight = row_size;

    max_rows = ngx_min(batch->runner->handler->max_batch,
                       NGX_WEBTORCH_MAX_SIZE / batch->row_weight);
    batch->max_rows = (uint32_t) ngx_max(max_rows, 1);
}


ngx_uint_t
ngx_webtorch_batch_has_sizes(ngx_webtorch_batch_t *batch, const int64_t *sizes)
{
    uint32_t  i;

    if (batch->api.sizes[WEBTORCH_VERSION_SET] != sizes[WEBTORCH_VERSION_SET]) {
        return 0;
    }

    for (i = 0; i < batch->schema->nbound; i++) {
        if (batch->api.sizes[i] != sizes[i]) {
            return 0;
        }
    }

    return batch->schema->noptional == 0
           || batch->api.sizes[WEBTORCH_ABSENT] == sizes[WEBTORCH_ABSENT];
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

    if (ngx_webtorch_batch_reserve_jobs(batch, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    /* Python frees a buffer that it has seen, with its last tensor */

    ngx_webtorch_batch_free_inputs(batch);

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        api->inputs[i] = sink->data[i];
        api->allocated[i] = layout->rows * (size_t) schema->inputs[i].row_size;
        sink->data[i] = NULL;
    }

    if (layout->text) {
        ngx_webtorch_batch_free_text(batch);
        api->text = sink->text;
        batch->max_text = layout->text;
        sink->text = NULL;
    }

    batch->adopted = 0;
    batch->max_rows = 0;
    api->generation++;
    api->capacity = layout->rows;

    return NGX_OK;
}


ngx_uint_t
ngx_webtorch_batch_is_outgrown(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size;
    uint32_t  rows;

    rows = layout->rows;

    if (batch->runner->offloaded
        && ngx_webtorch_offload_exceeds(batch, rows, layout->text))
    {
        return 1;
    }

    if (batch->api.rows + rows <= batch->api.capacity) {
        return 0;
    }

    size = batch->api.rows * batch->row_size;

    if (size < NGX_WEBTORCH_LARGE_SIZE) {
        return 0;
    }

    batch->runner->first_size = ngx_max(batch->runner->first_size, 2 * size);

    return 1;
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
        || ngx_webtorch_batch_reserve_jobs(batch, 1) != NGX_OK)
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

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        sink->data[i] = (u_char *) api->inputs[i]
                        + api->rows * (size_t) schema->inputs[i].row_size;
    }

    return NGX_OK;
}


/* makes room for so many rows in total, and keeps those of the batch */

static ngx_int_t
ngx_webtorch_batch_grow(ngx_webtorch_batch_t *batch, uint32_t rows)
{
    void               *data[WEBTORCH_MAX_BUFFERS];
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
                                       / batch->row_size));
    }

    capacity = ngx_max(rows, ngx_min(capacity, batch->max_rows));

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        data[i] = NULL;

        if (schema->inputs[i].row_size == 0) {
            continue;
        }

        data[i] = ngx_webtorch_buffer_alloc((size_t) capacity
                                        * (size_t) schema->inputs[i].row_size);

        if (data[i] == NULL) {
            while (i) {
                ngx_webtorch_buffer_free(data[--i]);
            }

            return NGX_ERROR;
        }
    }

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        if (api->rows && data[i]) {
            ngx_memcpy(data[i], api->inputs[i],
                       api->rows * (size_t) schema->inputs[i].row_size);
        }

        /* Python frees a buffer that it has seen, with its last tensor */

        if (!batch->adopted) {
            ngx_webtorch_defer_free(api->inputs[i], api->allocated[i]);
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


ngx_int_t
ngx_webtorch_batch_reserve_jobs(ngx_webtorch_batch_t *batch, uint32_t njobs)
{
    uint32_t         i, n;
    webtorch_job_t  *jobs;

    njobs += batch->api.njobs;

    if (njobs <= batch->max_jobs) {
        return NGX_OK;
    }

    n = batch->max_jobs ? 2 * batch->max_jobs
                        : ngx_min(NGX_WEBTORCH_FIRST_ROWS, batch->max_rows);
    n = ngx_max(n, njobs);

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

    text = ngx_webtorch_buffer_realloc(batch->api.text, size);
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
    size_t              size, held;
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

    if (moved * batch->row_size > NGX_WEBTORCH_LARGE_SIZE) {
        return NGX_DECLINED;
    }

    held = rows * batch->row_size;

    if (job->request) {
        held += ngx_webtorch_request_size(job->request);
    }

    ngx_webtorch_job_free(job);

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size = (size_t) schema->inputs[i].row_size;

        if (size == 0) {
            continue;
        }

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

    ngx_webtorch_queue_sub(held);
    batch->held -= held;

    if (api->njobs == 0
        && api->capacity * batch->row_size > NGX_WEBTORCH_BATCH_KEPT_SIZE)
    {
        ngx_webtorch_batch_free_inputs(batch);
    }

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
    size_t                 size;
    uint32_t               i;
    ngx_webtorch_batch_t  *batch;

    size = 0;

    for (i = 0; i < ngx_webtorch_buffers(only->schema); i++) {
        size += only->api.allocated[i];
    }

    only->api.slot &= ~(WEBTORCH_ONLY_SLOT|WEBTORCH_DROP_SLOT);
    ngx_webtorch_batch_set_kept(only, size);

    if (only->max_rows == 0
        || (size && ngx_webtorch_batch_kept > NGX_WEBTORCH_MAX_KEPT))
    {
        only->api.slot |= WEBTORCH_DROP_SLOT;
        ngx_webtorch_batch_set_kept(only, 0);
    }

    /* another thread may run the next batch before this one has begun */

    if (runner->nkept <= NGX_WEBTORCH_KEPT_BATCHES
        || runner->nheld
        || runner->handler->threads > 1
        || ngx_queue_head(&runner->batches) != ngx_queue_last(&runner->batches))
    {
        return;
    }

    for (batch = runner->free; batch; batch = batch->next) {

        /* Python drops those that it has seen, see below */

        if (batch->adopted) {
            batch->adopted = 0;
            batch->api.capacity = 0;
            ngx_memzero(batch->api.inputs, sizeof(batch->api.inputs));
            ngx_memzero(batch->api.allocated, sizeof(batch->api.allocated));
            ngx_webtorch_batch_set_kept(batch, 0);

        } else {
            ngx_webtorch_batch_free_inputs(batch);
        }

        ngx_webtorch_batch_free_text(batch);
    }

    runner->nkept = 0;
    only->api.slot |= WEBTORCH_ONLY_SLOT;
}


/* not those that Python has seen: it has tensors over them */

static void
ngx_webtorch_batch_free_inputs(ngx_webtorch_batch_t *batch)
{
    uint32_t  i;

    if (batch->adopted) {
        return;
    }

    for (i = 0; i < ngx_webtorch_buffers(batch->schema); i++) {
        ngx_webtorch_defer_free(batch->api.inputs[i], batch->api.allocated[i]);
    }

    batch->api.capacity = 0;
    ngx_memzero(batch->api.inputs, sizeof(batch->api.inputs));
    ngx_memzero(batch->api.allocated, sizeof(batch->api.allocated));
    ngx_webtorch_batch_set_kept(batch, 0);
}


static void
ngx_webtorch_batch_free_text(ngx_webtorch_batch_t *batch)
{
    ngx_webtorch_defer_free(batch->api.text, batch->max_text);
    batch->api.text = NULL;
    batch->max_text = 0;
}


static void
ngx_webtorch_batch_set_kept(ngx_webtorch_batch_t *batch, size_t size)
{
    ngx_webtorch_batch_kept += size - batch->kept;
    batch->kept = size;
}
