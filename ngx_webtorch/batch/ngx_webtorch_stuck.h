
/*
 * stuck=: a call that does not return blocks its handler in this worker, which
 * is replaced then.
 */


#ifndef _NGX_WEBTORCH_STUCK_H_INCLUDED_
#define _NGX_WEBTORCH_STUCK_H_INCLUDED_


#include "ngx_webtorch_batch.h"


/*
 * Sets the numbers of two signals that write stacks of Python to the standard
 * error output, whichever thread has the GIL: those of all threads, 0: no
 * handler has "stuck="; and that of the thread which receives it, 0: no handler
 * has "webtorch_slow".
 */
void ngx_webtorch_stuck_signals(ngx_array_t *handlers, int *signals);

/* starts a thread that watches the calls of handlers, if one has such a time */
ngx_int_t ngx_webtorch_stuck_init_process(ngx_cycle_t *cycle,
    ngx_array_t *handlers);

/* stops the thread */
void ngx_webtorch_stuck_exit_process(void);

/* whether a call is stuck in this worker */
ngx_uint_t ngx_webtorch_stuck_found(void);

/* whether no call of a handler can begin: all of its threads are stuck */
ngx_uint_t ngx_webtorch_stuck_blocks(ngx_webtorch_runner_t *runner);

/* called in the event loop when the thread has written to its eventfd */
void ngx_webtorch_stuck_handler(void);


#endif /* _NGX_WEBTORCH_STUCK_H_INCLUDED_ */
