
/*
 * Callers: what makes the calls of a handler, one of its threads or the event
 * loop.  Each makes one call at a time.
 */


#ifndef _NGX_WEBTORCH_CALLER_H_INCLUDED_
#define _NGX_WEBTORCH_CALLER_H_INCLUDED_


#include "ngx_webtorch_batch.h"

#include <pthread.h>


typedef struct ngx_webtorch_caller_s  ngx_webtorch_caller_t;


struct ngx_webtorch_caller_s {
    ngx_webtorch_runner_t  *runner;
    ngx_webtorch_caller_t  *next;         /* see ngx_webtorch_caller_watch() */
    pthread_t               thread;

    uint64_t                ncalls;       /* atomic; twice the number of calls,
                                             odd while one runs; asyncio's: 1
                                             while any runs, as coroutines
                                             mostly wait */

    /* set around a call if the handler has "stuck=" or "webtorch_slow"; atomic */
    uint64_t                since;        /* its start, microseconds; 0: none */
    uint64_t                reported;     /* "since" of the call found stuck */
    uint64_t                slow;         /* and of the last one found slow */
    ngx_webtorch_batch_t   *batch;        /* NULL: asyncio's */

    /* event loop: the last sample of a thread that is watched */
    clockid_t               clock;        /* of its processor time */
    ngx_uint_t              unknown;      /* it has no such clock */
    uint64_t                sampled;      /* microseconds; 0: never */
    uint64_t                used;         /* processor time, microseconds */
    uint64_t                call;         /* "ncalls" */
    ngx_uint_t              computes;
};


/* around a call; in the thread that makes it */
void ngx_webtorch_caller_begin(ngx_webtorch_caller_t *caller,
    ngx_webtorch_batch_t *batch);
void ngx_webtorch_caller_end(ngx_webtorch_caller_t *caller);

/* whether its call has been found to take longer than "stuck=" */
ngx_uint_t ngx_webtorch_caller_is_stuck(ngx_webtorch_caller_t *caller);

/* the thread is among those of ngx_webtorch_callers_compute() from now on */
void ngx_webtorch_caller_watch(ngx_webtorch_caller_t *caller);

/*
 * Whether a thread that is watched computes in its call.  One that waits, for
 * example for a server, uses no processor time and does not hold the GIL; it
 * counts as computing until that has been seen.  Called in the event loop.
 */
ngx_uint_t ngx_webtorch_callers_compute(void);


#endif /* _NGX_WEBTORCH_CALLER_H_INCLUDED_ */
