
#include "ngx_webtorch_offload.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_handoff.h"
#include "ngx_webtorch_graceful.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_tensor.h"
#include "ngx_webtorch_version_set.h"


/* ms between polls for the exit of this worker */
#define NGX_WEBTORCH_OFFLOAD_POLL  100

/* batches in which most of what was learned of a larger one is forgotten */
#define NGX_WEBTORCH_OFFLOAD_FORGET  64


typedef struct {
    int32_t      status;
    const char  *code;
    const char  *message;
    ngx_uint_t   retry;                   /* the client may send it again */
} ngx_webtorch_offload_error_t;


static ngx_webtorch_offload_error_t *ngx_webtorch_offload_try(
    ngx_webtorch_batch_t *batch, ngx_webtorch_handoff_slot_t *slot,
    uint64_t begun);
static ngx_webtorch_offload_error_t *ngx_webtorch_offload_wait(
    ngx_webtorch_batch_t *batch, ngx_webtorch_handoff_slot_t *slot,
    uint64_t begun);
static ngx_webtorch_offload_error_t *ngx_webtorch_offload_check(
    ngx_webtorch_batch_t *batch, uint64_t begun);
static void ngx_webtorch_offload_learn(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot);
static ngx_int_t ngx_webtorch_offload_write(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot);
static ngx_webtorch_offload_error_t *ngx_webtorch_offload_read(
    ngx_webtorch_batch_t *batch, ngx_webtorch_handoff_slot_t *slot);
static ngx_int_t ngx_webtorch_offload_read_output(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot, uint32_t i);
static void ngx_webtorch_offload_fail(ngx_webtorch_batch_t *batch,
    ngx_webtorch_offload_error_t *error);


static ngx_webtorch_offload_error_t  ngx_webtorch_offload_too_large = {
    413, "too_large", "a batch with its results is larger than \"owner=\" of "
    "the device allows", 0
};

static ngx_webtorch_offload_error_t  ngx_webtorch_offload_lost = {
    503, "owner_lost", "the worker that owns the device has exited while it "
    "had the request", 1
};

static ngx_webtorch_offload_error_t  ngx_webtorch_offload_none = {
    503, "owner_lost", "no worker owns the device any more", 1
};

static ngx_webtorch_offload_error_t  ngx_webtorch_offload_late = {
    504, "timeout", "the worker that owns the device did not begin in time", 0
};

static ngx_webtorch_offload_error_t  ngx_webtorch_offload_memory = {
    500, "no_memory", "no memory for the results", 0
};


void
ngx_webtorch_offload_run(ngx_webtorch_batch_t *batch, ngx_uint_t n)
{
    ngx_webtorch_conf_t           *conf;
    ngx_webtorch_runner_t         *runner;
    ngx_webtorch_offload_error_t  *error;
    ngx_webtorch_handoff_slot_t   *slot;

    runner = batch->runner;
    conf = ngx_webtorch_get_conf(ngx_cycle);

    slot = ngx_webtorch_handoff_slot(conf->handoff, ngx_worker,
                                     runner->handler->offload_slot + n);

    batch->started = 0;
    batch->elapsed = 0;
    batch->in_loop = 0;

    ngx_webtorch_metrics_offloaded(runner->handler, 1);

    error = ngx_webtorch_offload_try(batch, slot, ngx_webtorch_clock_usec());

    if (error) {
        ngx_webtorch_offload_fail(batch, error);
    }

    ngx_webtorch_metrics_offloaded(runner->handler, -1);

    if (error == &ngx_webtorch_offload_lost) {
        ngx_webtorch_metrics_lost(runner->handler);
    }

    /* in place of Python, which would free the inputs */

    if (batch->api.slot & WEBTORCH_DROP_SLOT) {
        batch->max_rows = 0;
    }
}


/* NULL: the results are there; begun: us of the clock */

static ngx_webtorch_offload_error_t *
ngx_webtorch_offload_try(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot, uint64_t begun)
{
    ngx_webtorch_conf_t           *conf;
    ngx_webtorch_offload_error_t  *error;

    conf = ngx_webtorch_get_conf(ngx_cycle);

    while (ngx_webtorch_handoff_begin(conf->handoff, slot) != NGX_OK) {

        error = ngx_webtorch_offload_check(batch, begun);

        if (error) {
            return error;
        }

        (void) usleep(NGX_WEBTORCH_OFFLOAD_POLL * 1000);
    }

    if (ngx_webtorch_offload_write(batch, slot) != NGX_OK) {
        ngx_webtorch_handoff_release(slot);
        return &ngx_webtorch_offload_too_large;
    }

    ngx_webtorch_handoff_post(conf->handoff, slot);

    error = ngx_webtorch_offload_wait(batch, slot, begun);

    if (error) {
        return error;
    }

    ngx_webtorch_offload_learn(batch, slot);

    error = ngx_webtorch_offload_read(batch, slot);

    ngx_webtorch_handoff_release(slot);

    return error;
}


/*
 * A batch that the owner has taken is left to it when this worker exits: the
 * slot is not used again before the owner has finished.
 */

static ngx_webtorch_offload_error_t *
ngx_webtorch_offload_wait(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot, uint64_t begun)
{
    ngx_webtorch_conf_t           *conf;
    ngx_webtorch_offload_error_t  *error;
    ngx_webtorch_handoff_state_e   state;

    conf = ngx_webtorch_get_conf(ngx_cycle);

    for ( ;; ) {
        state = ngx_webtorch_handoff_wait(conf->handoff, slot,
                                          NGX_WEBTORCH_OFFLOAD_POLL);

        if (state == NGX_WEBTORCH_HANDOFF_DONE) {
            return NULL;
        }

        if (state == NGX_WEBTORCH_HANDOFF_LOST) {
            ngx_webtorch_handoff_release(slot);
            return &ngx_webtorch_offload_lost;
        }

        if (state == NGX_WEBTORCH_HANDOFF_TAKEN) {

            if (__atomic_load_n(&batch->runner->stop, __ATOMIC_RELAXED)) {
                return &ngx_webtorch_offload_none;
            }

            continue;
        }

        error = ngx_webtorch_offload_check(batch, begun);

        if (error && ngx_webtorch_handoff_withdraw(slot) == NGX_OK) {
            return error;
        }
    }
}


/*
 * Why a batch waits no longer for the owner; NULL: it waits.  The master starts
 * another owner, but not for a worker that was shutting down, or that serves in
 * a reload until the new ones do.
 */

static ngx_webtorch_offload_error_t *
ngx_webtorch_offload_check(ngx_webtorch_batch_t *batch, uint64_t begun)
{
    ngx_webtorch_conf_t    *conf;
    ngx_webtorch_runner_t  *runner;

    runner = batch->runner;
    conf = ngx_webtorch_get_conf(ngx_cycle);

    if (__atomic_load_n(&runner->stop, __ATOMIC_RELAXED)
        || ((ngx_exiting || ngx_webtorch_graceful_begun())
            && !ngx_webtorch_handoff_owned(conf->handoff)))
    {
        return &ngx_webtorch_offload_none;
    }

    if (ngx_webtorch_elapsed_usec(ngx_webtorch_clock_usec(), begun)
        > runner->handler->timeout * 1000)
    {
        return &ngx_webtorch_offload_late;
    }

    return NULL;
}


/* NGX_DECLINED: there is no room */

static ngx_int_t
ngx_webtorch_offload_write(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot)
{
    size_t                       size;
    uint32_t                     i;
    webtorch_job_t              *job;
    webtorch_batch_t            *api;
    ngx_webtorch_handoff_job_t  *part;

    api = &batch->api;

    slot->handler = api->handler;
    slot->njobs = api->njobs;
    slot->rows = api->rows;
    slot->watch = api->watch;
    slot->started = 0;
    slot->elapsed = 0;
    slot->outgrown = 0;

    ngx_memcpy(slot->sizes, api->sizes, sizeof(slot->sizes));

    /* numbers of versions are those of a process */

    slot->version_set[0] = '\0';

    if (api->sizes[WEBTORCH_VERSION_SET]) {
        (void) ngx_webtorch_version_set_name(
                                  (uint32_t) api->sizes[WEBTORCH_VERSION_SET],
                                  slot->version_set);
    }

    slot->jobs = ngx_webtorch_handoff_alloc(slot, api->njobs
                                       * sizeof(ngx_webtorch_handoff_job_t));
    if (slot->jobs == NULL) {
        return NGX_DECLINED;
    }

    for (i = 0; i < api->njobs; i++) {
        job = &api->jobs[i];
        part = &slot->jobs[i];

        part->rows = job->rows;
        part->status = 0;
        part->failure = NULL;
        part->traced = (job->trace != NULL);

        if (job->trace) {
            part->trace = *job->trace;
        }
    }

    for (i = 0; i < ngx_webtorch_buffers(batch->schema); i++) {
        size = api->rows * (size_t) batch->schema->inputs[i].row_size;

        slot->inputs[i] = ngx_webtorch_handoff_alloc(slot, size);
        if (slot->inputs[i] == NULL) {
            return NGX_DECLINED;
        }

        if (size) {
            ngx_memcpy(slot->inputs[i], api->inputs[i], size);
        }
    }

    slot->text_len = api->text_len;
    slot->text = ngx_webtorch_handoff_alloc(slot, api->text_len);

    if (slot->text == NULL) {
        return NGX_DECLINED;
    }

    if (api->text_len) {
        ngx_memcpy(slot->text, api->text, api->text_len);
    }

    return NGX_OK;
}


ngx_uint_t
ngx_webtorch_offload_exceeds(ngx_webtorch_batch_t *batch, uint64_t rows,
    uint64_t text)
{
    uint64_t            row;
    uint32_t            i;
    webtorch_schema_t  *schema;

    schema = &batch->runner->handler->schema;
    row = batch->row_size + sizeof(ngx_webtorch_handoff_job_t);

    /* 0 of outputs with axes that they alone have, whose sizes are not known */

    for (i = 0; i < schema->noutputs; i++) {
        row += ngx_webtorch_row_size(&schema->outputs[i], batch->api.sizes);
    }

    rows += batch->api.rows;

    return rows * row + batch->api.text_len + text
               > batch->runner->handler->owner / 2
           || rows * __atomic_load_n(&batch->runner->row_share,
                                     __ATOMIC_RELAXED)
              > batch->runner->handler->owner;
}


/*
 * How large strings and axes of outputs are is seen when they come.  A row is
 * taken to be as large as the largest of late; threads may overwrite what
 * another one has learned.
 */

static void
ngx_webtorch_offload_learn(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot)
{
    uint64_t                share, found;
    ngx_webtorch_runner_t  *runner;

    if (slot->rows == 0 || (slot->outgrown && slot->njobs == 1)) {
        return;
    }

    runner = batch->runner;

    /* the size of results that did not fit is unknown: assume twice the slot */

    found = (slot->outgrown ? 2 * slot->size : slot->used) / slot->rows;
    share = __atomic_load_n(&runner->row_share, __ATOMIC_RELAXED);

    share = (found > share)
            ? found : share - (share - found) / NGX_WEBTORCH_OFFLOAD_FORGET;

    __atomic_store_n(&runner->row_share, share, __ATOMIC_RELAXED);
}


static ngx_webtorch_offload_error_t *
ngx_webtorch_offload_read(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot)
{
    int64_t                      set;
    uint32_t                     i;
    ngx_uint_t                   served;
    webtorch_batch_t            *api;
    ngx_webtorch_handoff_job_t  *part;

    api = &batch->api;
    served = 0;

    batch->started = slot->started;
    batch->elapsed = (ngx_uint_t) slot->elapsed;

    for (i = 0; i < api->njobs; i++) {
        part = &slot->jobs[i];

        if (part->status == 0) {
            served = 1;
            continue;
        }

        ngx_webtorch_job_fail(&api->jobs[i], part->status, part->failure);
    }

    set = api->sizes[WEBTORCH_VERSION_SET];
    ngx_memcpy(api->sizes, slot->sizes, sizeof(slot->sizes));
    api->sizes[WEBTORCH_VERSION_SET] = set;

    ngx_memcpy(api->steps, slot->steps, WEBTORCH_WATCH_LEN);
    ngx_memcpy(api->versions, slot->versions, WEBTORCH_WATCH_LEN);

    if (!served) {
        return NULL;
    }

    for (i = 0; i < batch->schema->noutputs; i++) {
        if (ngx_webtorch_offload_read_output(batch, slot, i) != NGX_OK) {
            return &ngx_webtorch_offload_memory;
        }
    }

    return NULL;
}


/* strings are behind the rows that have their addresses */

static ngx_int_t
ngx_webtorch_offload_read_output(ngx_webtorch_batch_t *batch,
    ngx_webtorch_handoff_slot_t *slot, uint32_t i)
{
    size_t            size;
    u_char           *p;
    uint64_t          text;
    webtorch_spec_t   spec;

    ngx_webtorch_resolve(&spec, &batch->runner->handler->schema.outputs[i],
                         batch->api.sizes);

    size = batch->api.rows * (size_t) spec.row_size;
    text = ngx_webtorch_text_size(&spec, slot->outputs[i], batch->api.rows);

    batch->api.outputs[i] = 0;

    if (size == 0) {
        return NGX_OK;
    }

    p = ngx_webtorch_buffer_alloc(size + text);
    if (p == NULL) {
        return NGX_ERROR;
    }

    batch->copies[i] = p;
    batch->api.outputs[i] = (uintptr_t) p;

    ngx_memcpy(p, slot->outputs[i], size);

    if (!ngx_webtorch_is_string(spec.dtype)) {
        return NGX_OK;
    }

    (void) ngx_webtorch_text_move((webtorch_text_t *) p,
                                  size / sizeof(webtorch_text_t), p + size);

    return NGX_OK;
}


static void
ngx_webtorch_offload_fail(ngx_webtorch_batch_t *batch,
    ngx_webtorch_offload_error_t *error)
{
    uint32_t            i;
    webtorch_failure_t  failure;

    ngx_webtorch_failure_set(&failure, error->code, error->message,
                             error->retry);

    for (i = 0; i < batch->api.njobs; i++) {
        ngx_webtorch_job_fail(&batch->api.jobs[i], error->status, &failure);
    }
}
