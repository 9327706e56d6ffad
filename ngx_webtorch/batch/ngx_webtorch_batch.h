
/*
 * batch: requests of one handler wait for one call of Python.  A request adds
 * its rows to its handler's open batch as a job and waits for the answer; the
 * batch runs in the event loop or in the handler's thread.
 *
 * This folder includes headers of api, tensor, core, metrics, shared, and of
 * nginx's core and events.  It includes neither HTTP nor Python.h.  Other
 * folders include this header, ngx_webtorch_runner.h and ngx_webtorch_job.h.
 */


#ifndef _NGX_WEBTORCH_BATCH_H_INCLUDED_
#define _NGX_WEBTORCH_BATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_codec.h"


typedef struct ngx_webtorch_batch_s   ngx_webtorch_batch_t;
typedef struct ngx_webtorch_waiter_s  ngx_webtorch_waiter_t;


/*
 * What a request keeps while it waits for its job.  It is in the memory of the
 * request.  The job is not: it may outlive the request, which must cancel it
 * when it ends before the answer.
 */

struct ngx_webtorch_waiter_s {
    webtorch_job_t         *job;          /* NULL: it waits for no job */
    ngx_webtorch_batch_t   *batch;
    ngx_msec_t              deadline;
    uint64_t                added;        /* us of the clock; 0: no time of the
                                             handler is needed */

    /*
     * Called once in the event loop.  The job and the outputs of the batch are
     * valid until it returns.  NULL: the job was not done in time.
     */
    void                  (*done)(ngx_webtorch_waiter_t *waiter,
                                  webtorch_job_t *job);
    void                   *data;
};


/* gives the job the request that its handler takes */
void ngx_webtorch_batch_set_request(ngx_webtorch_waiter_t *waiter,
    webtorch_request_t *request);

/* gives the job the trace of its request, which is copied */
void ngx_webtorch_batch_set_trace(ngx_webtorch_waiter_t *waiter,
    const webtorch_trace_t *trace);

/*
 * The request ends: its job is removed from the batch.  NGX_DECLINED: the batch
 * is running already, the job stays in it without a waiter.
 */
ngx_int_t ngx_webtorch_batch_cancel(ngx_webtorch_waiter_t *waiter);

/* from within done(): the outputs, with the sizes of their axes in the batch */
webtorch_spec_t *ngx_webtorch_batch_specs(ngx_webtorch_waiter_t *waiter);

/* from within done(): the rows of a job in an output */
const void *ngx_webtorch_batch_output(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job, ngx_uint_t i);

/*
 * From within done(): keeps the outputs until ngx_webtorch_batch_release() has
 * been called as often.  NGX_DECLINED: they cannot be kept, as they may change
 * or too many are kept.
 */
ngx_int_t ngx_webtorch_batch_hold(ngx_webtorch_batch_t *batch);

/*
 * The same without a limit, for as long as the outputs are read in a thread, in
 * which they are not kept by slow clients.  NGX_DECLINED: they may change.
 */
ngx_int_t ngx_webtorch_batch_keep(ngx_webtorch_batch_t *batch);

/* a cleanup handler; data is the batch */
void ngx_webtorch_batch_release(void *data);


#endif /* _NGX_WEBTORCH_BATCH_H_INCLUDED_ */
