
/*
 * Where a batch runs: in the event loop, or in the thread of its handler.
 * "mode=auto" decides that by the time of the calls before.
 */


#ifndef _NGX_WEBTORCH_RUNNER_PLACE_H_INCLUDED_
#define _NGX_WEBTORCH_RUNNER_PLACE_H_INCLUDED_


#include "ngx_webtorch_batch.h"


/*
 * The modes "inline" and "auto" run batches in the event loop.  "auto" does so
 * while calls are shorter than this, in microseconds: about what the loop
 * itself takes for a batch of 64 requests.  After that time in calls, the loop
 * polls for other events before it continues with the batches that are ready.
 */
#define NGX_WEBTORCH_INLINE_LIMIT   1000


typedef enum {
    NGX_WEBTORCH_RUNNER_LOOP = 0,
    NGX_WEBTORCH_RUNNER_THREAD,
    NGX_WEBTORCH_RUNNER_LATER              /* in the loop, soon */
} ngx_webtorch_runner_place_e;


ngx_webtorch_runner_place_e ngx_webtorch_runner_get_place(
    ngx_webtorch_runner_t *runner, ngx_webtorch_batch_t *batch);

/* whether a request may wait for a call in the event loop */
ngx_uint_t ngx_webtorch_runner_may_run_now(ngx_webtorch_runner_t *runner);

/* updates what "auto" knows by the time of a call */
void ngx_webtorch_runner_learn(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch, ngx_uint_t in_loop);


#endif /* _NGX_WEBTORCH_RUNNER_PLACE_H_INCLUDED_ */
