
/*
 * Rows that Python code of this worker posts, which are computed in batches
 * together with those of requests.  Any thread posts them: they are copied, and
 * the event loop, which owns batches, adds them to one.
 *
 * ngx_webtorch_posted.c has the functions that Python calls for this, which
 * ngx_webtorch_api.h declares.
 */


#ifndef _NGX_WEBTORCH_POSTED_H_INCLUDED_
#define _NGX_WEBTORCH_POSTED_H_INCLUDED_


#include "ngx_webtorch_batch_private.h"

#include <semaphore.h>


typedef struct ngx_webtorch_posted_s  ngx_webtorch_posted_t;

struct ngx_webtorch_posted_s {
    webtorch_rows_t           api;
    ngx_webtorch_waiter_t     waiter;     /* event loop */
    ngx_webtorch_posted_t    *next;
    ngx_webtorch_handler_t   *made;       /* a runner is made, no rows */
    ngx_uint_t                adopted;    /* inputs are buffers */
    ngx_uint_t                cancelled;  /* mutex: it is in "cancelled" */
    ngx_uint_t                ended;      /* mutex */
    ngx_queue_t               queue;      /* event loop: of those that wait */
    ngx_queue_t               cancel;     /* mutex: in "cancelled" */
    sem_t                     done;
};


/* "mutex" is that of ngx_webtorch_done */

typedef struct {
    pthread_t                 loop;       /* the event loop */
    ngx_webtorch_runner_t    *in_loop;    /* atomic: of the function of requests
                                             that the event loop calls; or
                                             NULL */
    ngx_uint_t                closed;     /* mutex: the worker exits */
    ngx_webtorch_posted_t    *added;      /* mutex: the youngest first */
    ngx_queue_t               cancelled;  /* mutex */
    ngx_webtorch_posted_t    *gathered;   /* asyncio's thread: not added yet */
    ngx_webtorch_posted_t    *finished;   /* mutex: for asyncio's thread */
} ngx_webtorch_posted_lists_t;


/*
 * Called in the event loop once for each object, with a status; the thread that
 * waits for it frees it from then on.
 */
void ngx_webtorch_posted_end(ngx_webtorch_posted_t *posted, int32_t status);


extern ngx_webtorch_posted_lists_t       ngx_webtorch_posted;

/* the runner whose call this thread makes; NULL: none */
extern __thread ngx_webtorch_runner_t   *ngx_webtorch_posted_runner;


#endif /* _NGX_WEBTORCH_POSTED_H_INCLUDED_ */
