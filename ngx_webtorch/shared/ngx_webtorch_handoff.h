
/*
 * Batches that workers offload to one of them, the owner, in memory that the
 * master maps for a configuration and its workers inherit.
 *
 * Each worker has slots of its own, and uses a slot for one batch at a time.
 * The state of a slot says who may read and write it:
 *
 *     free      its worker: it writes the batch
 *     posted    no process: the owner may take it, its worker may withdraw it
 *     taken     the owner: it reads the batch and writes the results
 *     done      its worker: it reads the results
 *
 * A state is changed by an atomic operation, so that a process may be killed
 * between any two of its instructions.  What it had is judged by the others:
 * the owner holds a robust mutex for its life, and its number is in the state
 * of what it has taken.  A worker finds its batch lost if that number is not
 * the one of an owner that is alive; what is posted waits for the next owner.
 * The worker that replaces another one withdraws what that has posted, and uses
 * a slot again when the owner has finished with it.
 *
 * No process waits for a lock: a thread waits for the state of its slot to
 * change, the owner's one for the bell, both by futexes with a timeout.
 *
 * The mapping has the same address in all processes, so there are pointers in
 * it.  Nothing here knows nginx's events, handlers or Python.
 */


#ifndef _NGX_WEBTORCH_HANDOFF_H_INCLUDED_
#define _NGX_WEBTORCH_HANDOFF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"

#include <pthread.h>


typedef struct ngx_webtorch_handoff_s  ngx_webtorch_handoff_t;


typedef enum {
    NGX_WEBTORCH_HANDOFF_FREE = 0,
    NGX_WEBTORCH_HANDOFF_POSTED,
    NGX_WEBTORCH_HANDOFF_TAKEN,
    NGX_WEBTORCH_HANDOFF_DONE,
    NGX_WEBTORCH_HANDOFF_LOST             /* not a state: the owner that had
                                             taken it has exited */
} ngx_webtorch_handoff_state_e;


/* a request's part of a batch */

typedef struct {
    uint32_t                      rows;
    int32_t                       status; /* 0, or that of the failure */
    webtorch_failure_t           *failure;    /* in the slot; or NULL */
    uint32_t                      traced;
    webtorch_trace_t              trace;
} ngx_webtorch_handoff_job_t;


typedef struct {
    uint32_t                      state;  /* atomic, a futex: the number of the
                                             owner, and one of the above in
                                             three bits */
    uint32_t                      number; /* of all slots */
    uint32_t                      serves; /* atomic, of the owner's slots: it
                                             runs such batches */

    /* the batch */
    uint32_t                      handler;    /* its index */
    uint32_t                      njobs;
    uint32_t                      rows;
    uint32_t                      watch;
    int64_t                       sizes[WEBTORCH_NSIZES];
    char                          version_set[WEBTORCH_VERSION_SET_LEN];
    ngx_webtorch_handoff_job_t   *jobs;
    void                         *inputs[WEBTORCH_MAX_BUFFERS];
    char                         *text;
    uint64_t                      text_len;

    /* its results; sizes have those of outputs, too */
    uint64_t                      started;    /* us of the clock */
    uint64_t                      elapsed;    /* us */
    uint32_t                      outgrown;   /* they had no room */
    char                          steps[WEBTORCH_WATCH_LEN];
    char                          versions[WEBTORCH_WATCH_LEN];
    void                         *outputs[WEBTORCH_MAX_TENSORS];

    /* where the above is */
    u_char                       *data;
    size_t                        size;
    size_t                        used;
} ngx_webtorch_handoff_slot_t;


/*
 * Maps memory for workers from 0 on, each of which has a slot of each size; the
 * owner is worker 0, whose slots have no memory.  NULL: ngx_errno is set.
 * Pages are allocated when they are written.
 */
ngx_webtorch_handoff_t *ngx_webtorch_handoff_create(ngx_uint_t nworkers,
    const size_t *sizes, ngx_uint_t nsizes);
void ngx_webtorch_handoff_free(ngx_webtorch_handoff_t *handoff);


/*
 * Of workers.  They are called by the thread that uses the slot, but for the
 * first, which the main thread calls once: it is the one that holds the mutex
 * for as long as the process exists.
 */

void ngx_webtorch_handoff_join(ngx_webtorch_handoff_t *handoff,
    ngx_uint_t worker);

ngx_webtorch_handoff_slot_t *ngx_webtorch_handoff_slot(
    ngx_webtorch_handoff_t *handoff, ngx_uint_t worker, ngx_uint_t i);

/* NGX_AGAIN: the owner still has it for a worker before */
ngx_int_t ngx_webtorch_handoff_begin(ngx_webtorch_handoff_t *handoff,
    ngx_webtorch_handoff_slot_t *slot);

void ngx_webtorch_handoff_post(ngx_webtorch_handoff_t *handoff,
    ngx_webtorch_handoff_slot_t *slot);

/* waits until it is done or lost, or for some ms; returns what it is */
ngx_webtorch_handoff_state_e ngx_webtorch_handoff_wait(
    ngx_webtorch_handoff_t *handoff, ngx_webtorch_handoff_slot_t *slot,
    ngx_msec_t timeout);

/* NGX_DECLINED: it is not posted any more */
ngx_int_t ngx_webtorch_handoff_withdraw(ngx_webtorch_handoff_slot_t *slot);

/* it is free when the batch is done or lost; large memory is returned */
void ngx_webtorch_handoff_release(ngx_webtorch_handoff_slot_t *slot);

/* in any thread but the main one of the owner: whether there is an owner */
ngx_uint_t ngx_webtorch_handoff_owned(ngx_webtorch_handoff_t *handoff);


/* in the same threads: whether there is one that runs batches of this slot */
ngx_uint_t ngx_webtorch_handoff_served(ngx_webtorch_handoff_t *handoff,
    ngx_uint_t i);


/* Of the owner. */

/* in its main thread; what the owner before had taken is lost */
void ngx_webtorch_handoff_own(ngx_webtorch_handoff_t *handoff);

/* whether it runs batches of this slot of workers; 0 at first */
void ngx_webtorch_handoff_serve(ngx_webtorch_handoff_t *handoff, ngx_uint_t i,
    ngx_uint_t serves);

/* a slot that was posted; NULL: none was when the bell was read before */
ngx_webtorch_handoff_slot_t *ngx_webtorch_handoff_take(
    ngx_webtorch_handoff_t *handoff);

/* waits until the bell has another value, or for a second */
uint32_t ngx_webtorch_handoff_bell(ngx_webtorch_handoff_t *handoff);
void ngx_webtorch_handoff_sleep(ngx_webtorch_handoff_t *handoff,
    uint32_t bell);
void ngx_webtorch_handoff_ring(ngx_webtorch_handoff_t *handoff);

/* the results are complete */
void ngx_webtorch_handoff_finish(ngx_webtorch_handoff_t *handoff,
    ngx_webtorch_handoff_slot_t *slot);

/* whether workers but the owner run */
ngx_uint_t ngx_webtorch_handoff_joined(ngx_webtorch_handoff_t *handoff);


/* memory of a slot for its worker or the owner, aligned; NULL: no room */
void *ngx_webtorch_handoff_alloc(ngx_webtorch_handoff_slot_t *slot,
    size_t size);


#endif /* _NGX_WEBTORCH_HANDOFF_H_INCLUDED_ */
