
/*
 * The memory of batches: a batch keeps its buffers while it is free.  Each
 * handler has a list of free batches.
 */


#ifndef _NGX_WEBTORCH_BATCH_ROWS_H_INCLUDED_
#define _NGX_WEBTORCH_BATCH_ROWS_H_INCLUDED_


#include "ngx_webtorch_batch.h"


/* an empty batch for rows of these sizes; NULL: no memory */
ngx_webtorch_batch_t *ngx_webtorch_batch_get(ngx_webtorch_runner_t *runner,
    const int64_t *sizes);

/* puts a batch into the list of free ones */
void ngx_webtorch_batch_free(ngx_webtorch_batch_t *batch);

/* whether the rows of a batch have these sizes and absent inputs */
ngx_uint_t ngx_webtorch_batch_has_sizes(ngx_webtorch_batch_t *batch,
    const int64_t *sizes);

/* makes room for the rows, the text and one job, and sets the sink to it */
ngx_int_t ngx_webtorch_batch_reserve_rows(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink);

/* makes room for so many more jobs */
ngx_int_t ngx_webtorch_batch_reserve_jobs(ngx_webtorch_batch_t *batch,
    uint32_t njobs);

/*
 * Removes the rows of a job from a batch, which may become empty.
 * NGX_DECLINED: the event loop would have to move too many bytes.
 */
ngx_int_t ngx_webtorch_batch_remove_job(ngx_webtorch_batch_t *batch,
    webtorch_job_t *job);

/*
 * Before a run of a batch: frees the buffers that slow clients or a long queue
 * made necessary, if it is the only batch in use, those of C here, those of
 * Python by a mark in the slot of the batch.  Another mark makes Python free
 * those of the batch itself after the run, if too much memory is kept.
 */
void ngx_webtorch_batch_trim(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *only);

/*
 * Makes the buffers at the sink those of an empty batch, which is full then;
 * sets them to NULL in the sink.
 */
ngx_int_t ngx_webtorch_batch_adopt_rows(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink);

/*
 * Whether more rows need other buffers, and those in the batch are too large to
 * be copied in the event loop.  The next batches get larger buffers then.  Or
 * the batch would be too large for a worker that runs it for this one.
 */
ngx_uint_t ngx_webtorch_batch_is_outgrown(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout);


#endif /* _NGX_WEBTORCH_BATCH_ROWS_H_INCLUDED_ */
