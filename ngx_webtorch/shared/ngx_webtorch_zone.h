
/*
 * The memory that all workers share: what each of them does, and the models.
 *
 * It is a file without a name, mapped anywhere, so all in it is by offset: a
 * configuration that makes it larger, and a new binary, go on with the same.
 */


#ifndef _NGX_WEBTORCH_ZONE_H_INCLUDED_
#define _NGX_WEBTORCH_ZONE_H_INCLUDED_


#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_robust.h"

#include <pthread.h>


/* workers at a time, those that shut down included */
#define NGX_WEBTORCH_MAX_WORKERS   512

/* handlers of a worker that are told of when it dies */
#define NGX_WEBTORCH_MAX_RUNS      32

#define NGX_WEBTORCH_MAX_BLOCKS    512

#define NGX_WEBTORCH_ZONE_NAME     64


/* a handler in a worker: whether it runs a batch */

typedef struct {
    u_char                  name[WEBTORCH_NAME_LEN];
    uint64_t                batch;        /* of this handler in this worker */
    uint32_t                jobs;         /* 0: none runs */
} ngx_webtorch_run_t;


typedef struct {
    pthread_mutex_t         alive;        /* held for the worker's life */
    ngx_pid_t               pid;          /* 0: free */
    uint32_t                ready;        /* it is in its event loop */
    uint64_t                generation;   /* of its configuration */
    uint32_t                nruns;
    ngx_webtorch_run_t      runs[NGX_WEBTORCH_MAX_RUNS];
} ngx_webtorch_slot_t;


typedef enum {
    NGX_WEBTORCH_BLOCK_FREE = 0,
    NGX_WEBTORCH_BLOCK_FILLING,
    NGX_WEBTORCH_BLOCK_READY
} ngx_webtorch_block_state_e;


/* layout, data and, if there is to be one, a copy of the data lie at offset */

typedef struct {
    uint32_t                state;
    uint32_t                has_undo;
    uint32_t                pinned;       /* used by a worker without a slot */
    uint32_t                superseded;
    uint32_t                successor;    /* the block that replaced it + 1 */
    uint64_t                generation;   /* youngest configuration that uses it */
    uint64_t                version;
    uint64_t                offset;
    uint64_t                layout_len;
    uint64_t                size;         /* of the data */
    webtorch_counters_t     counters;
    webtorch_counters_t     undo;
    uint64_t                users[NGX_WEBTORCH_MAX_WORKERS / 64];
    char                    name[WEBTORCH_MODEL_LEN];
} ngx_webtorch_block_t;


/* all mutexes are robust: who dies with one does not stop the others */

typedef struct {
    uint64_t                magic;        /* of this layout, and of libc's */
    u_char                  name[NGX_WEBTORCH_ZONE_NAME];
    pthread_mutex_t         mutex;        /* of slots and blocks */
    pthread_mutex_t         training;
    pthread_mutex_t         saver;
    pthread_mutex_t         leaving;
    uint64_t                generation;   /* of configurations */
    uint64_t                in_force;     /* generation that workers run with */
    uint64_t                previous;     /* and with which they did before */
    uint32_t                nworkers;     /* of that one */
    uint64_t                version;      /* of blocks */
    uint64_t                swaps;        /* models whose block was replaced */
    ngx_webtorch_slot_t     slots[NGX_WEBTORCH_MAX_WORKERS];
    ngx_webtorch_block_t    blocks[NGX_WEBTORCH_MAX_BLOCKS];
} ngx_webtorch_shared_zone_t;


/* a mapping, of one or several configurations */

struct ngx_webtorch_zone_s {
    ngx_webtorch_shared_zone_t  *shared;
    size_t                       mapped;
    ngx_fd_t                     fd;
    ngx_uint_t                   refs;
};


/* while a configuration is read: takes over the memory of the one before */
ngx_int_t ngx_webtorch_zone_init(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* in a process that uses it: a worker, or the check of handlers */
ngx_int_t ngx_webtorch_zone_use(ngx_webtorch_conf_t *conf, ngx_log_t *log,
    ngx_uint_t check);

/* how large the zone must be at least, after models did not fit; 0: they did */
size_t ngx_webtorch_zone_needed(void);

/* whether models were replaced since this was asked last */
ngx_uint_t ngx_webtorch_zone_models_replaced(void);

/* slots and blocks are under this lock */
void ngx_webtorch_zone_lock(ngx_webtorch_shared_zone_t *shared);
void ngx_webtorch_zone_unlock(ngx_webtorch_shared_zone_t *shared);

/* clears what a worker that has ended used */
void ngx_webtorch_zone_release_slot(ngx_webtorch_shared_zone_t *shared,
    ngx_uint_t slot);


/* what this worker does, for others to see: ngx_webtorch_worker.c */

void ngx_webtorch_worker_init(ngx_webtorch_conf_t *conf, ngx_log_t *log);
void ngx_webtorch_worker_ready(void);
void ngx_webtorch_worker_exit(void);

/* the slot of this worker; -1: none */
ngx_int_t ngx_webtorch_worker_slot(void);

/* whether the worker of a slot lives; under the zone's lock */
ngx_uint_t ngx_webtorch_worker_alive(ngx_webtorch_slot_t *slot);

/* where a handler writes what it runs */
ngx_webtorch_run_t *ngx_webtorch_worker_run(ngx_str_t *name);


/* reloads that nobody waits for: ngx_webtorch_handover.c */

/* in the master, before it starts the workers of a configuration */
void ngx_webtorch_handover_announce(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* whether all of its workers are in their event loops */
ngx_uint_t ngx_webtorch_handover_ready(ngx_webtorch_shared_zone_t *shared);

/* in a worker, before its event loop */
void ngx_webtorch_handover_init(ngx_webtorch_conf_t *conf, ngx_log_t *log);


/* in a worker, before its event loop: ngx_webtorch_memory.c */
void ngx_webtorch_memory_init(ngx_webtorch_conf_t *conf, ngx_log_t *log);


#endif /* _NGX_WEBTORCH_ZONE_H_INCLUDED_ */
