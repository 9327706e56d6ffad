
#include "ngx_webtorch_offload_batch.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_stuck.h"


static void ngx_webtorch_offload_batch_not_done(
    ngx_webtorch_offload_batch_t *received, ngx_webtorch_handoff_job_t *answer,
    ngx_webtorch_batch_t *batch);
static void ngx_webtorch_offload_batch_outgrown(
    ngx_webtorch_handoff_slot_t *slot, ngx_webtorch_handoff_job_t *answer,
    ngx_webtorch_batch_t *batch);
static ngx_int_t ngx_webtorch_offload_batch_lay_out(
    ngx_webtorch_offload_batch_t *received, ngx_webtorch_batch_t *batch);
static uint64_t ngx_webtorch_offload_batch_size(
    ngx_webtorch_offload_batch_t *received, ngx_webtorch_batch_t *batch);
static ngx_int_t ngx_webtorch_offload_batch_copy_text(
    ngx_webtorch_offload_batch_t *received, webtorch_text_t *entry, size_t n);
static void ngx_webtorch_offload_batch_failure(
    ngx_webtorch_handoff_slot_t *slot, ngx_webtorch_handoff_job_t *part,
    int32_t status, const webtorch_failure_t *failure);
static void ngx_webtorch_offload_batch_error(
    ngx_webtorch_handoff_slot_t *slot, ngx_webtorch_handoff_job_t *part,
    int32_t status, const char *code, const char *message);


ngx_webtorch_offload_batch_t *
ngx_webtorch_offload_batch_create(ngx_webtorch_handoff_slot_t *slot)
{
    uint32_t                       i, at;
    ngx_webtorch_offload_batch_t  *received;

    received = calloc(1, sizeof(ngx_webtorch_offload_batch_t)
                      + slot->njobs * sizeof(ngx_webtorch_offload_job_t));
    if (received == NULL) {
        return NULL;
    }

    received->slot = slot;
    received->nleft = slot->njobs;

    for (i = 0, at = 0; i < slot->njobs; i++) {
        received->jobs[i].at = at;
        received->jobs[i].waiter.data = received;
        at += slot->jobs[i].rows;
    }

    return received;
}


void
ngx_webtorch_offload_batch_free(ngx_webtorch_offload_batch_t *received)
{
    uint32_t  i;

    if (received->adopted) {
        for (i = 0; i < WEBTORCH_MAX_BUFFERS; i++) {
            ngx_webtorch_buffer_free(received->sink.data[i]);
        }

        ngx_webtorch_buffer_free(received->sink.text);
    }

    free(received);
}


void
ngx_webtorch_offload_batch_fail(ngx_webtorch_handoff_slot_t *slot,
    int32_t status, const char *code, const char *message)
{
    uint32_t  i;

    for (i = 0; i < slot->njobs; i++) {
        ngx_webtorch_offload_batch_error(slot, &slot->jobs[i], status, code,
                                         message);
    }
}


/*
 * All requests of the slot are in one batch, so that the outputs have the same
 * sizes.  A request may have timed out before, in this worker, too.
 */

void
ngx_webtorch_offload_batch_result(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_offload_job_t *part, webtorch_job_t *job)
{
    ngx_webtorch_batch_t         *batch;
    ngx_webtorch_handoff_job_t   *answer;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = received->slot;
    answer = &slot->jobs[part - received->jobs];
    batch = part->waiter.batch;

    if (job == NULL) {
        ngx_webtorch_offload_batch_not_done(received, answer, batch);
        return;
    }

    slot->started = batch->started;
    slot->elapsed = batch->elapsed;

    ngx_memcpy(slot->steps, batch->api.steps, WEBTORCH_WATCH_LEN);
    ngx_memcpy(slot->versions, batch->api.versions, WEBTORCH_WATCH_LEN);

    if (job->status) {
        ngx_webtorch_offload_batch_failure(slot, answer, job->status,
                                           job->failure);
        return;
    }

    if (!received->laid
        && ngx_webtorch_offload_batch_lay_out(received, batch) != NGX_OK)
    {
        ngx_webtorch_offload_batch_outgrown(slot, answer, batch);
        return;
    }

    part->first = job->first;
    part->served = 1;

    if (received->kept) {
        return;
    }

    if (ngx_webtorch_offload_batch_size(received, batch)
            > NGX_WEBTORCH_LARGE_SIZE
        && ngx_webtorch_batch_keep(batch) == NGX_OK)
    {
        received->kept = batch;
        return;
    }

    ngx_webtorch_offload_batch_copy(received, part, batch);
}


/* requests not yet passed to a hung call can be retried */

static void
ngx_webtorch_offload_batch_not_done(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_handoff_job_t *answer, ngx_webtorch_batch_t *batch)
{
    if (batch->state != NGX_WEBTORCH_BATCH_RUNNING
        && batch->state != NGX_WEBTORCH_BATCH_DONE
        && ngx_webtorch_stuck_blocks(batch->runner))
    {
        ngx_webtorch_offload_batch_error(received->slot, answer, 503,
                                         "queue_full", "a call of the function "
                                         "does not return");
        return;
    }

    ngx_webtorch_offload_batch_error(received->slot, answer, 504, "timeout",
                                     "no answer in time");
}


/*
 * Results of several requests have no room: alone, or in the smaller batches
 * that follow, each may have it.  A step cannot be made again.
 */

static void
ngx_webtorch_offload_batch_outgrown(ngx_webtorch_handoff_slot_t *slot,
    ngx_webtorch_handoff_job_t *answer, ngx_webtorch_batch_t *batch)
{
    int32_t  status;

    slot->outgrown = 1;

    status = (slot->njobs > 1 && batch->schema->kind == WEBTORCH_INFER)
             ? 503 : 413;

    ngx_webtorch_offload_batch_error(slot, answer, status, "too_large",
                                     "a batch with its results is larger than "
                                     "\"owner=\" of the device allows");
}


/* rows of requests that failed have no strings */

static ngx_int_t
ngx_webtorch_offload_batch_lay_out(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_batch_t *batch)
{
    size_t                        size;
    uint32_t                      i;
    webtorch_spec_t              *spec;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = received->slot;

    ngx_memcpy(slot->sizes, batch->api.sizes, sizeof(slot->sizes));

    for (i = 0; i < batch->schema->noutputs; i++) {
        spec = &batch->schema->outputs[i];
        size = slot->rows * (size_t) spec->row_size;

        slot->outputs[i] = ngx_webtorch_handoff_alloc(slot, size);
        if (slot->outputs[i] == NULL) {
            return NGX_DECLINED;
        }

        if (ngx_webtorch_is_string(spec->dtype)) {
            ngx_memzero(slot->outputs[i], size);
        }
    }

    received->laid = 1;

    return NGX_OK;
}


static uint64_t
ngx_webtorch_offload_batch_size(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_batch_t *batch)
{
    uint64_t  size;
    uint32_t  i;

    size = 0;

    for (i = 0; i < batch->schema->noutputs; i++) {
        size += received->slot->rows
                * (uint64_t) batch->schema->outputs[i].row_size;
    }

    return size;
}


void
ngx_webtorch_offload_batch_copy(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_offload_job_t *part, ngx_webtorch_batch_t *batch)
{
    size_t                        row, size;
    u_char                       *to;
    uint32_t                      i;
    webtorch_spec_t              *spec;
    ngx_webtorch_handoff_job_t   *answer;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = received->slot;
    answer = &slot->jobs[part - received->jobs];

    for (i = 0; i < batch->schema->noutputs; i++) {
        spec = &batch->schema->outputs[i];
        row = (size_t) spec->row_size;
        size = answer->rows * row;

        /* a tensor without elements has no memory */

        if (size == 0 || batch->api.outputs[i] == 0) {
            continue;
        }

        to = (u_char *) slot->outputs[i] + part->at * row;

        ngx_memcpy(to, (u_char *) batch->api.outputs[i] + part->first * row,
                   size);

        if (ngx_webtorch_is_string(spec->dtype)
            && ngx_webtorch_offload_batch_copy_text(received,
                                              (webtorch_text_t *) to,
                                              size / sizeof(webtorch_text_t))
               != NGX_OK)
        {
            ngx_memzero(to, size);
            ngx_webtorch_offload_batch_outgrown(slot, answer, batch);
            return;
        }
    }
}


static ngx_int_t
ngx_webtorch_offload_batch_copy_text(ngx_webtorch_offload_batch_t *received,
    webtorch_text_t *entry, size_t n)
{
    size_t   i, size;
    u_char  *p;

    for (i = 0, size = 0; i < n; i++) {
        size += entry[i].len;
    }

    p = ngx_webtorch_handoff_alloc(received->slot, size);
    if (p == NULL) {
        return NGX_DECLINED;
    }

    (void) ngx_webtorch_text_move(entry, n, p);

    return NGX_OK;
}


/* without room the text is only in this worker's log */

static void
ngx_webtorch_offload_batch_failure(ngx_webtorch_handoff_slot_t *slot,
    ngx_webtorch_handoff_job_t *part, int32_t status,
    const webtorch_failure_t *failure)
{
    part->status = status;
    part->failure = failure ? ngx_webtorch_handoff_alloc(slot,
                                          ngx_webtorch_failure_size(failure))
                            : NULL;

    if (part->failure) {
        ngx_webtorch_failure_write(part->failure, failure);
    }
}


static void
ngx_webtorch_offload_batch_error(ngx_webtorch_handoff_slot_t *slot,
    ngx_webtorch_handoff_job_t *part, int32_t status, const char *code,
    const char *message)
{
    webtorch_failure_t  failure;

    ngx_webtorch_failure_set(&failure, code, message, status == 503);
    ngx_webtorch_offload_batch_failure(slot, part, status, &failure);
}
