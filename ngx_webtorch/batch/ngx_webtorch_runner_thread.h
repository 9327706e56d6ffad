
/*
 * The threads of handlers: each handler that needs some has its own, so that a
 * slow handler delays others at most while it holds the GIL, which torch
 * releases in its operators.  A function of tensors has one, a function of
 * requests up to "threads=", which are started while calls are slow.
 */


#ifndef _NGX_WEBTORCH_RUNNER_THREAD_H_INCLUDED_
#define _NGX_WEBTORCH_RUNNER_THREAD_H_INCLUDED_


#include "ngx_webtorch_batch.h"


/* torch: threads of a torch operator in each thread of a handler */
ngx_int_t ngx_webtorch_runner_init_process(ngx_cycle_t *cycle,
    ngx_int_t torch);

/* stops the threads; NGX_BUSY: a handler is still running */
ngx_int_t ngx_webtorch_runner_exit_process(ngx_cycle_t *cycle,
    ngx_array_t *handlers);

/* prepares a runner, whose threads are started when they are needed */
ngx_int_t ngx_webtorch_runner_thread_init(ngx_webtorch_runner_t *runner,
    ngx_cycle_t *cycle);

/*
 * Soon, what is pending is taken over by more threads, and the place of what is
 * ready is chosen again.
 */
void ngx_webtorch_runner_thread_set_spread(ngx_webtorch_runner_t *runner);

/* stops the threads of a runner; NGX_BUSY: some are still running */
ngx_int_t ngx_webtorch_runner_thread_stop(ngx_webtorch_runner_t *runner);

/* runs a batch in a thread, which is started if none is; answers waiters */
void ngx_webtorch_runner_thread_submit(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch);

/*
 * Takes the youngest batch back, if no thread has yet begun with it; with
 * variable axes the youngest of these sizes, among as many as may be open.
 * NULL: none, or none with room for a row.
 */
ngx_webtorch_batch_t *ngx_webtorch_runner_thread_reclaim(
    ngx_webtorch_runner_t *runner, const int64_t *sizes);


#endif /* _NGX_WEBTORCH_RUNNER_THREAD_H_INCLUDED_ */
