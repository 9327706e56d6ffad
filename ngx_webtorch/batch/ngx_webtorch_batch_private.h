
/*
 * The structs of batches and runners, and functions of ngx_webtorch_batch.c.
 * Only files of this folder include this header.
 */


#ifndef _NGX_WEBTORCH_BATCH_PRIVATE_H_INCLUDED_
#define _NGX_WEBTORCH_BATCH_PRIVATE_H_INCLUDED_


#include <ngx_event.h>

#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_caller.h"
#include "ngx_webtorch_done.h"
#include "ngx_webtorch_fifo.h"
#include "ngx_webtorch_job.h"
#include "ngx_webtorch_queue.h"
#include "ngx_webtorch_runner.h"
#include "ngx_webtorch_tensor.h"
#include "ngx_webtorch_timer.h"
#include "ngx_webtorch_worker.h"

#include <pthread.h>


/* open batches of a handler, each for rows of other sizes */
#define NGX_WEBTORCH_MAX_OPEN   32


typedef enum {
    NGX_WEBTORCH_BATCH_FREE = 0,
    NGX_WEBTORCH_BATCH_OPEN,              /* rows are added */
    NGX_WEBTORCH_BATCH_READY,             /* closed, in runner->ready */
    NGX_WEBTORCH_BATCH_PENDING,           /* in runner->pending */
    NGX_WEBTORCH_BATCH_RUNNING,           /* in Python */
    NGX_WEBTORCH_BATCH_DONE,
    NGX_WEBTORCH_BATCH_HELD               /* answered, outputs are being sent */
} ngx_webtorch_batch_state_e;


struct ngx_webtorch_batch_s {
    webtorch_batch_t             api;

    /* the handler's; with variable axes, a copy with the sizes of this batch */
    webtorch_schema_t           *schema;
    uint32_t                     max_rows;    /* 0: the buffers are those of
                                                 its only request */
    uint64_t                     row_weight;  /* bytes if they vary, or 1 */
    size_t                       row_size;    /* bytes of all inputs */

    size_t                       max_text;
    uint32_t                     max_jobs;
    size_t                       held;    /* bytes, see ngx_webtorch_queue.h */
    size_t                       kept;    /* bytes of inputs that are used
                                             again */
    uint32_t                     nposted; /* jobs without a waiter */
    uint64_t                     weight;  /* the time of the call is expected
                                             to grow with this */
    ngx_uint_t                   adopted; /* Python owns the input buffers */
    ngx_webtorch_batch_state_e   state;
    ngx_uint_t                   nholds;
    ngx_msec_t                   opened;
    ngx_uint_t                   elapsed; /* microseconds in Python, and for
                                             the GIL */
    uint64_t                     started; /* us of the clock */
    ngx_uint_t                   in_loop; /* it has run in the event loop */
    ngx_uint_t                   waited;  /* the function of a request waited
                                             for something */
    void                        *copies[WEBTORCH_MAX_TENSORS];  /* of outputs
                                             that may change */
    ngx_uint_t                   cancelling;  /* mutex: see below */
    ngx_queue_t                  cancelled;   /* mutex: of a coroutine, until
                                                 asyncio's loop has seen it */
    ngx_webtorch_runner_t       *runner;
    ngx_webtorch_batch_t        *next;    /* in a fifo or runner->free */
    ngx_queue_t                  queue;   /* in runner->batches */
};


/*
 * One handler in one worker.  Used by the event loop only, except fields marked
 * "mutex", which ngx_webtorch_done.mutex protects.  The event loop
 * also owns the batches, each until it is put into "pending", and again after
 * the loop has taken it from there or from "done".
 */

struct ngx_webtorch_runner_s {
    ngx_webtorch_handler_t  *handler;
    ngx_uint_t               offloaded;   /* another worker makes the calls */
    uint64_t                 row_share;   /* atomic: bytes that a row and its
                                             results take in shared memory */
    ngx_webtorch_run_t      *run;         /* what runs, for a crash's log */
    ngx_log_t               *log;

    ngx_webtorch_batch_t    *open;        /* the next rows are added to it */
    ngx_webtorch_fifo_t      others;      /* open batches for other sizes */
    ngx_uint_t               nothers;
    ngx_uint_t               chosen;      /* requests have chosen versions */
    ngx_webtorch_fifo_t      ready;
    ngx_webtorch_batch_t    *free;
    ngx_queue_t              batches;     /* not free, the oldest first */
    uint32_t                 nslots;
    uint32_t                 nkept;       /* free ones with buffers */
    size_t                   first_size;  /* bytes of rows that an empty batch
                                             makes room for */

    ngx_uint_t               nthreaded;   /* batches given to threads */
    ngx_uint_t               njobs;       /* in batches, with a waiter or not */
    ngx_uint_t               nwaiters;    /* and jobs without one */
    ngx_uint_t               nheld;       /* batches */
    size_t                   held;        /* bytes of their outputs */

    ngx_webtorch_timer_t     close;       /* when open batches close */
    ngx_uint_t               nadded;      /* jobs, ever */
    ngx_uint_t               npolled;     /* nadded at the last poll */
    ngx_uint_t               npolls;
    ngx_webtorch_timer_t     timeout;     /* when the oldest waiter times out */

    /* see ngx_webtorch_runner_spent() */
    ngx_msec_t               turn;        /* of the event loop's last call */
    ngx_uint_t               spent;       /* usec */

    /* mode=auto */
    uint64_t                 fast_weight; /* batch weight of a fast call */
    ngx_uint_t               penalty;     /* fast calls in the thread that the
                                             last slow one inline required */
    ngx_uint_t               penalty_left;
    ngx_uint_t               nfast;       /* fast calls inline in a row */
    ngx_uint_t               slow;        /* as the last call in a thread was */

    ngx_webtorch_caller_t    loop;        /* the event loop */
    ngx_webtorch_caller_t   *callers;     /* threads */
    ngx_uint_t               ncallers;    /* atomic: threads that are started */
    ngx_webtorch_timer_t     spread;      /* when more threads take over what is
                                             pending */
    ngx_uint_t               overdue;     /* "spread" has expired */
    ngx_uint_t               waits;       /* atomic: calls wait for batches, so
                                             they never run in the event loop */
    pthread_cond_t           cond;
    ngx_webtorch_fifo_t      pending;     /* mutex */
    ngx_uint_t               npending;    /* mutex */
    ngx_uint_t               nidle;       /* mutex: threads that wait */
    ngx_uint_t               nwoken;      /* mutex: those that are signalled */
    ngx_uint_t               stop;        /* mutex */

    /* the thread that watches calls, see ngx_webtorch_slow.c */
    uint64_t                 slow_logged; /* us of the clock; 0: never */
    ngx_uint_t               nslow;       /* not logged since then */

    /* asyncio's thread */
    ngx_uint_t               ncoroutines; /* that run */
    ngx_webtorch_runner_t   *beating;     /* the next, see
                                             ngx_webtorch_async_beat() */
};


/* shared by the threads of all handlers in a worker */

typedef struct {
    ngx_uint_t               nthreaded;   /* batches of functions of tensors
                                             on the CPU given to threads */
    ngx_int_t                torch;       /* threads of a torch operator */
} ngx_webtorch_runner_threads_t;


/* whether some requests share no batch with others */

static ngx_inline ngx_uint_t
ngx_webtorch_runner_has_key(ngx_webtorch_runner_t *runner)
{
    return runner->chosen || ngx_webtorch_has_key(&runner->handler->schema);
}


/*
 * Whether its calls may wait without the GIL, so that the use of the processor
 * by its threads is sampled.
 */

static ngx_inline ngx_uint_t
ngx_webtorch_runner_is_watched(ngx_webtorch_runner_t *runner)
{
    return runner->offloaded
           || runner->handler->schema.kind == WEBTORCH_HANDLER
           || ngx_webtorch_handler_on_device(runner->handler);
}


/* adds the rows that were reserved last as a job */
webtorch_job_t *ngx_webtorch_batch_append(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter);

/* after one or several jobs were appended to the open batch */
void ngx_webtorch_runner_added(ngx_webtorch_runner_t *runner);

/* makes the call; in the thread of the caller, or in the event loop */
void ngx_webtorch_batch_run(ngx_webtorch_batch_t *batch,
    ngx_webtorch_caller_t *caller);

/* sets the weight, before the place of the batch is chosen */
void ngx_webtorch_batch_set_weight(ngx_webtorch_batch_t *batch);

/* answers all waiters; the batch is free afterwards, or held */
void ngx_webtorch_batch_finish(ngx_webtorch_batch_t *batch);

/*
 * Sets the timer of waiters, unless it is set.  Needed for every batch that
 * does not run in this iteration of the event loop: the others cannot time out.
 */
void ngx_webtorch_batch_set_timeout(ngx_webtorch_runner_t *runner);
void ngx_webtorch_batch_timeout_handler(ngx_event_t *ev);


extern ngx_webtorch_runner_threads_t  ngx_webtorch_runner_threads;


#endif /* _NGX_WEBTORCH_BATCH_PRIVATE_H_INCLUDED_ */
