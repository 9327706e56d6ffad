
/*
 * shared: the memory that all workers share, and what they agree on by it.
 *
 *     zone      its mapping, its layout and its lock
 *     worker    which workers run, and the batches that they run
 *     space     which part of the memory each model has
 *     plan      the space that models of a checked configuration need
 *     block     the calls of Python for the memory of a model
 *     training  the lock of training, and how a step is undone
 *     graceful  a reload: old workers serve until the new ones do
 *     leave     a worker exits when few clients have to wait for the next one
 *     memory    workers that outgrow webtorch_worker_memory
 *     retire    a worker that cannot serve any more, for example without its
 *               device
 *     record    a stream that survives its worker: its states, its answers
 *     segment   blocks of the zone with records
 *     records   which worker has each, and when they expire
 *     upkeep    what a worker does for the zone while no batch does it
 *
 * Beside it, in memory of their own:
 *
 *     accept    which worker accepts the next connection, with accept_slots
 *     drain     readiness fails in all workers
 *     handoff   batches that one worker, the owner, runs for all; with owner
 *     split     rewards of webtorch_split
 *
 * A file calls only files above it in this list.  They include api/, core/ and
 * nginx's core and event headers, nothing of HTTP or Python.
 *
 * The memory is an unnamed file, and each process maps it at an address of its
 * own, so all references in it are offsets.  A configuration that makes it
 * larger and a new binary continue to use the same file.
 */


#ifndef _NGX_WEBTORCH_ZONE_H_INCLUDED_
#define _NGX_WEBTORCH_ZONE_H_INCLUDED_


#include "ngx_webtorch.h"

#include <pthread.h>


/* workers at a time, including those that shut down */
#define NGX_WEBTORCH_MAX_WORKERS   512

/* handlers of a worker that are in the log when the worker crashes */
#define NGX_WEBTORCH_MAX_RUNS      32

#define NGX_WEBTORCH_MAX_BLOCKS    1024

#define NGX_WEBTORCH_ZONE_NAME     64

/* the offset where blocks begin */
#define NGX_WEBTORCH_ZONE_BASE                                                \
    ngx_align(sizeof(ngx_webtorch_shared_zone_t), 4096)


/* batches that a handler runs in a worker; atomic: several threads write */

typedef struct {
    u_char                  name[WEBTORCH_NAME_LEN];
    uint64_t                batch;        /* the number of the last one */
    uint32_t                jobs;         /* requests that run */
} ngx_webtorch_run_t;


typedef struct {
    pthread_mutex_t         alive;        /* locked while the worker runs */
    ngx_pid_t               pid;          /* 0: the slot is free */
    uint32_t                ready;        /* the worker is in its event loop */
    uint32_t                trained;      /* it has made its last step */
    uint64_t                generation;   /* of its configuration */
    uint64_t                serial;       /* identifies the worker, not 0 */
    uint64_t                orders;       /* the last order of an operator that
                                             it has followed */
    uint32_t                nruns;
    ngx_webtorch_run_t      runs[NGX_WEBTORCH_MAX_RUNS];
} ngx_webtorch_slot_t;


typedef enum {
    NGX_WEBTORCH_BLOCK_FREE = 0,
    NGX_WEBTORCH_BLOCK_FILLING,
    NGX_WEBTORCH_BLOCK_READY
} ngx_webtorch_block_state_e;


/* in addition to those of ngx_webtorch_api.h: what a step changes is here */
#define NGX_WEBTORCH_BLOCK_COPY     2

/* records of streams, see ngx_webtorch_records.h */
#define NGX_WEBTORCH_BLOCK_STREAMS  3


/*
 * The tensors of a model, the state of an optimizer of it, or the copy of one
 * of them that training in strict order takes.  At offset are its layout, and
 * its data; see ngx_webtorch_space.h.  Workers with another optimizer, or with
 * another order of training, have the same tensors.
 */

typedef struct {
    uint32_t                state;
    uint32_t                kind;
    uint32_t                copy;         /* index of the block for its copy,
                                             plus 1; 0: none */
    uint32_t                owner;        /* of a copy: index of the block that
                                             it is for, plus 1 */
    uint32_t                partner;      /* index of the optimizer's block that
                                             was copied too, plus 1; 0: none */
    uint32_t                pinned;       /* a worker without a slot uses it */
    uint32_t                superseded;   /* no lookup finds it */
    uint32_t                successor;    /* index of the block that replaced
                                             it, plus 1; 0: none */
    uint64_t                generation;   /* last configuration that used it */
    uint64_t                version;      /* a higher one is a later block */
    uint64_t                offset;
    uint64_t                layout_len;
    uint64_t                size;         /* bytes of the data */
    webtorch_counters_t     counters;
    uint64_t                undo_steps;   /* counters when it was copied */
    uint64_t                undo_applied;
    uint64_t                users[NGX_WEBTORCH_MAX_WORKERS / 64];
    char                    name[WEBTORCH_MODEL_LEN];
} ngx_webtorch_block_t;


/*
 * Mutexes are robust: if the owner exits, the next process to lock it repairs
 * the state.
 */

typedef struct {
    uint64_t                magic;        /* version of this layout and of
                                             libc's mutexes */
    u_char                  name[NGX_WEBTORCH_ZONE_NAME];
    pthread_mutex_t         mutex;        /* protects slots and blocks */
    pthread_mutex_t         training;
    pthread_mutex_t         saver;
    pthread_mutex_t         uploader;
    pthread_mutex_t         rounds;       /* held by the worker that does those
                                             with other hosts */
    pthread_mutex_t         leaving;
    pthread_mutex_t         streams;      /* protects who has which record, and
                                             blocks of records; with it the
                                             zone is only tried to lock */
    uint64_t                generation;   /* number of configurations so far */
    uint64_t                in_force;     /* configuration of new workers */
    uint64_t                previous;     /* configuration before that one */
    uint32_t                nworkers;     /* workers of in_force */
    uint64_t                version;      /* of the last block */
    uint64_t                joined;       /* the models are those of the
                                             cluster */
    uint64_t                swaps;        /* number of blocks that were
                                             replaced so far */
    uint64_t                serial;       /* of workers so far */
    uint64_t                owner;        /* of records so far */
    uint64_t                segments;     /* changes with blocks of records */
    uint64_t                taken;        /* records that were taken over from
                                             another worker so far */
    ngx_webtorch_slot_t     slots[NGX_WEBTORCH_MAX_WORKERS];
    ngx_webtorch_block_t    blocks[NGX_WEBTORCH_MAX_BLOCKS];
} ngx_webtorch_shared_zone_t;


/* a mapping; configurations that need no larger one share it */

struct ngx_webtorch_zone_s {
    ngx_webtorch_shared_zone_t  *shared;
    size_t                       mapped;  /* bytes */
    ngx_fd_t                     fd;
    ngx_uint_t                   refs;
};


/* the zone as this process uses it */

typedef struct {
    ngx_webtorch_shared_zone_t  *shared;  /* NULL: it does not */
    size_t                       mapped;  /* bytes */
    size_t                       size;    /* bytes for models; 0: workers share
                                             no models */
    uint64_t                     generation;
    ngx_fd_t                     fd;
    ngx_log_t                   *log;
} ngx_webtorch_zone_view_t;


/*
 * Called when a configuration is read: the memory of the configuration before
 * or of the old binary is used again.
 */
ngx_int_t ngx_webtorch_zone_init(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* called once in a worker and in a check of handlers, before the other files */
void ngx_webtorch_zone_use(ngx_webtorch_conf_t *conf, ngx_log_t *log);

/*
 * The lock of slots and blocks; its owner may lock it again.  trylock returns
 * NGX_BUSY if another thread or process has it.
 */
void ngx_webtorch_zone_lock(void);
ngx_int_t ngx_webtorch_zone_trylock(void);
void ngx_webtorch_zone_unlock(void);


extern ngx_webtorch_zone_view_t  ngx_webtorch_zone;


#endif /* _NGX_WEBTORCH_ZONE_H_INCLUDED_ */
