
/*
 * Coroutines: functions of requests that asyncio's loop runs, in a thread of
 * its own in each worker.  The event loop hands all batches of an iteration
 * over by one write to an eventfd, which asyncio's loop watches; so it never
 * waits for the GIL.  They come back as those of threads do.
 *
 * ngx_webtorch_async.c also has the functions that Python calls for this, which
 * ngx_webtorch_api.h declares.
 */


#ifndef _NGX_WEBTORCH_ASYNC_H_INCLUDED_
#define _NGX_WEBTORCH_ASYNC_H_INCLUDED_


#include "ngx_webtorch_batch.h"


/* in the event loop, when asyncio's loop has begun */
void ngx_webtorch_async_watch(void);

/* NGX_ERROR: asyncio's loop does not run */
ngx_int_t ngx_webtorch_async_submit(ngx_webtorch_batch_t *batch);

/* asyncio's loop has something to take; called with the mutex of the threads */
void ngx_webtorch_async_notify(void);

/* a request ends whose coroutine runs; called with the mutex of the threads */
void ngx_webtorch_async_cancel(ngx_webtorch_batch_t *batch);


#endif /* _NGX_WEBTORCH_ASYNC_H_INCLUDED_ */
