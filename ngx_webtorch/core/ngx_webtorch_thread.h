
/* Threads beside the event loop. */


#ifndef _NGX_WEBTORCH_THREAD_H_INCLUDED_
#define _NGX_WEBTORCH_THREAD_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <pthread.h>
#include <signal.h>


/*
 * Blocks signals in the calling thread and those that it starts, as they are
 * for the event loop.  Those of a crash stay: Python's faulthandler writes a
 * traceback in the thread that crashed.
 */
void ngx_webtorch_thread_block_signals(sigset_t *before);
void ngx_webtorch_thread_restore_signals(const sigset_t *before);

/* starts a thread with signals blocked; a failure is logged */
ngx_int_t ngx_webtorch_thread_create(pthread_t *thread,
    void *(*start)(void *data), void *data, ngx_log_t *log);

/* NGX_BUSY: the thread is still running after the time, in seconds */
ngx_int_t ngx_webtorch_thread_join(pthread_t thread, time_t timeout);


#endif /* _NGX_WEBTORCH_THREAD_H_INCLUDED_ */
