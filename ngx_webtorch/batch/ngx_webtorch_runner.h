
/*
 * A runner: one handler in one worker.  It collects rows in open batches and
 * decides when and where they run.
 */


#ifndef _NGX_WEBTORCH_RUNNER_H_INCLUDED_
#define _NGX_WEBTORCH_RUNNER_H_INCLUDED_


#include "ngx_webtorch_batch.h"


/* NULL: no memory */
ngx_webtorch_runner_t *ngx_webtorch_runner_create(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);

/*
 * Whether another request, which holds so many bytes of the queue already,
 * would be one too many, or a call is stuck.
 */
ngx_uint_t ngx_webtorch_runner_full(ngx_webtorch_runner_t *runner, size_t held);

/*
 * Makes room in the open batch for the rows and the text of a layout, and sets
 * the sink to it.  The rows become part of the batch when they are added.
 */
ngx_int_t ngx_webtorch_runner_reserve(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink);

/* reserves and copies rows and text; strings begin at from->at */
ngx_int_t ngx_webtorch_runner_copy(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, const ngx_webtorch_sink_t *from);

/*
 * Makes rows and text, which are in buffers at the sink, an open batch of their
 * own instead of copying them into another one.  The batch owns what it sets to
 * NULL in the sink.  The rows become part of the batch when they are added.
 */
ngx_int_t ngx_webtorch_runner_adopt(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink);

/*
 * Copies rows and text from buffers with so many bytes together, or adopts them
 * if they are many.  The codec has advanced the sink's text and its offset.
 */
ngx_int_t ngx_webtorch_runner_take(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink, char **text,
    size_t size);

/*
 * Adds the rows that were reserved or adopted last as a job; waiter: NULL if
 * none waits.
 */
webtorch_job_t *ngx_webtorch_runner_add(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter);

/*
 * Runs a job as a batch by itself before it returns.  It calls write(), which
 * writes the rows into the sink, and then the waiter's done().
 * NGX_DECLINED: the handler does not run in the event loop, or not now.
 */
ngx_int_t ngx_webtorch_runner_run(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter,
    void (*write)(ngx_webtorch_waiter_t *waiter, ngx_webtorch_sink_t *sink));


#endif /* _NGX_WEBTORCH_RUNNER_H_INCLUDED_ */
