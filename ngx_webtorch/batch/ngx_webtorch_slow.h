
/*
 * webtorch_slow: a call that takes longer is written to the error log while it
 * runs, with the stack of its thread.
 */


#ifndef _NGX_WEBTORCH_SLOW_H_INCLUDED_
#define _NGX_WEBTORCH_SLOW_H_INCLUDED_


#include "ngx_webtorch_caller.h"

#include <signal.h>


/* on it a thread writes its stack of Python to the standard error output */
#define NGX_WEBTORCH_SLOW_SIGNAL  (SIGRTMAX - 2)


/*
 * The least time of a call, ms, that is looked for: of "stuck=" or of
 * "webtorch_slow"; 0: the handler has neither.
 */
ngx_msec_t ngx_webtorch_slow_time(ngx_webtorch_handler_t *handler);

/* lets the calling thread, which is one of a handler's, receive the signal */
void ngx_webtorch_slow_watch(void);

/* called in the thread that watches calls; elapsed: us */
void ngx_webtorch_slow_report(ngx_webtorch_caller_t *caller, uint64_t elapsed);


#endif /* _NGX_WEBTORCH_SLOW_H_INCLUDED_ */
