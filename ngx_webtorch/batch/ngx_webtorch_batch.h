
/*
 * Jobs, batches, queues.  A request adds its rows to its handler's open batch
 * and waits; the batch runs in the event loop or in the handler's thread.
 * Nothing here knows HTTP.
 */


#ifndef _NGX_WEBTORCH_BATCH_H_INCLUDED_
#define _NGX_WEBTORCH_BATCH_H_INCLUDED_


#include <ngx_event.h>

#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_codec.h"


typedef struct ngx_webtorch_batch_s   ngx_webtorch_batch_t;
typedef struct ngx_webtorch_waiter_s  ngx_webtorch_waiter_t;
typedef struct ngx_webtorch_shared_s  ngx_webtorch_shared_t;


/*
 * Who waits for a job; it lies in the waiting request's memory.  A job does
 * not: it may outlive its request, which must cancel it then.
 */

struct ngx_webtorch_waiter_s {
    webtorch_job_t         *job;          /* NULL: no job waits for an answer */
    ngx_webtorch_batch_t   *batch;
    ngx_msec_t              deadline;

    /*
     * called once in the event loop; the job and the batch's outputs are there
     * while it is called; NULL: the job was not done in time
     */
    void                  (*done)(ngx_webtorch_waiter_t *waiter,
                                  webtorch_job_t *job);
    void                   *data;
};


ngx_int_t ngx_webtorch_batch_init_process(ngx_cycle_t *cycle,
    ngx_int_t threads);

/* NGX_BUSY: a handler runs still */
ngx_int_t ngx_webtorch_batch_exit_process(ngx_cycle_t *cycle,
    ngx_array_t *handlers);

ngx_webtorch_runner_t *ngx_webtorch_runner_create(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);

/* whether another request would be one too many */
ngx_uint_t ngx_webtorch_runner_full(ngx_webtorch_runner_t *runner);

/*
 * makes room in the open batch for the rows and the text of a layout, and tells
 * the sink where they go; they are part of the batch only when added
 */
ngx_int_t ngx_webtorch_batch_reserve(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink);

/* adds what was reserved last as a job, which the waiter or nobody waits for */
webtorch_job_t *ngx_webtorch_batch_add(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter);

/*
 * Runs a job by itself before it returns, done() is called on the way;
 * NGX_DECLINED: the handler is not for the event loop, or not now.
 */
ngx_int_t ngx_webtorch_batch_now(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter,
    void (*fill)(ngx_webtorch_waiter_t *waiter, ngx_webtorch_sink_t *sink));

/* the waiter goes away: its job is dropped, unless it runs already */
void ngx_webtorch_batch_cancel(ngx_webtorch_waiter_t *waiter);

/* the outputs as they are in a job's batch, from within done() */
webtorch_spec_t *ngx_webtorch_batch_specs(ngx_webtorch_waiter_t *waiter);

/* an output's rows of a job, from within done() */
const void *ngx_webtorch_batch_output(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job, ngx_uint_t i);


/*
 * From within done(): keeps the outputs until they are released as often;
 * NGX_DECLINED: too many batches are kept.
 */
ngx_int_t ngx_webtorch_batch_hold(ngx_webtorch_batch_t *batch);
void ngx_webtorch_batch_release(void *batch);


/*
 * Shares memory between a request of nginx and a job: each of the two gives it
 * up by ngx_webtorch_release(); NULL: no memory.
 */
ngx_webtorch_shared_t *ngx_webtorch_share(void *data, size_t mapped);


#endif /* _NGX_WEBTORCH_BATCH_H_INCLUDED_ */
