
/*
 * metrics: numbers that workers count, and that any of them reads for all.
 * They are in memory that all processes of a master share, over reloads and
 * without a zone.  Each worker has a slot in it and writes to that alone, so
 * that counting needs no lock.  A slot is held by a robust mutex.  When its
 * worker has exited, in whatever way, the next worker that takes the slot
 * continues its counters: their sums never go back.  Gauges are read from slots
 * that are held only.
 *
 * A series is a range of cells that each slot has: counters, then gauges.  It
 * is found by its kind and key, which is why a handler that stays over a reload
 * continues its counters.
 *
 * The folder includes headers of api/ and core/, and nginx's core and events.
 */


#ifndef _NGX_WEBTORCH_METRICS_H_INCLUDED_
#define _NGX_WEBTORCH_METRICS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"

#include <pthread.h>


/* workers at once, with those of configurations before that still run */
#define NGX_WEBTORCH_METRICS_SLOTS    256

/* cells of a slot, 8 bytes each; unused pages take no memory */
#define NGX_WEBTORCH_METRICS_CELLS    65536

#define NGX_WEBTORCH_METRICS_SERIES   2048

/* bytes of a key */
#define NGX_WEBTORCH_METRICS_KEY      256

/* upper bounds of a user's histogram */
#define NGX_WEBTORCH_METRICS_BOUNDS   32

/* statuses that are counted for a handler; the last one is for all others */
#define NGX_WEBTORCH_METRICS_CODES    24

/* microseconds without a refusal after which a queue is not full any more */
#define NGX_WEBTORCH_METRICS_FULL     5000000

/* buckets of seconds, the last one has no bound */
#define NGX_WEBTORCH_METRICS_BUCKETS  20

/* buckets of rows: 1, 2, 4 to 65536, and without a bound */
#define NGX_WEBTORCH_METRICS_ROWS     18


/* a worker alone adds to its cells, others read them */
#define ngx_webtorch_metrics_add(cell, n)                                     \
    __atomic_store_n(cell, *(cell) + (n), __ATOMIC_RELAXED)

#define ngx_webtorch_metrics_set(cell, n)                                     \
    __atomic_store_n(cell, n, __ATOMIC_RELAXED)

/* for cells that several threads of a worker add to */
#define ngx_webtorch_metrics_fetch_add(cell, n)                               \
    (void) __atomic_fetch_add(cell, n, __ATOMIC_RELAXED)


typedef enum {
    NGX_WEBTORCH_METRICS_HANDLER = 0,
    NGX_WEBTORCH_METRICS_MODEL,
    NGX_WEBTORCH_METRICS_STAGE,
    NGX_WEBTORCH_METRICS_SHADOW,
    NGX_WEBTORCH_METRICS_CUSTOM
} ngx_webtorch_metrics_kind_e;


typedef struct {
    uint64_t                buckets[NGX_WEBTORCH_METRICS_BUCKETS];
    uint64_t                sum;          /* microseconds */
} ngx_webtorch_metrics_seconds_t;


/* in shared memory; only its codes change when it has been made */

struct ngx_webtorch_series_s {
    uint32_t                kind;
    uint32_t                type;         /* custom: WEBTORCH_COUNTER, ... */
    uint32_t                first;        /* cell */
    uint32_t                ncounters;    /* cells */
    uint32_t                ngauges;      /* cells after those */
    uint32_t                nbounds;
    uint32_t                name_len;     /* of the key's first part */
    uint32_t                key_len;
    char                    key[NGX_WEBTORCH_METRICS_KEY];
    char                    help[128];    /* ends with a zero byte */
    double                  bounds[NGX_WEBTORCH_METRICS_BOUNDS];
    uint32_t                codes[NGX_WEBTORCH_METRICS_CODES];
};


/* measurements of a worker, in its slot */

typedef struct {
    pthread_mutex_t                 alive;       /* held while it runs */
    ngx_pid_t                       pid;         /* 0: the slot is free */
    uint64_t                        started;     /* ms since 1970 */
    uint64_t                        crashed;     /* ms since 1970, the last
                                                    worker here; 0: none */
    uint64_t                        memory;      /* bytes, resident */
    uint64_t                        late;        /* lag of the event loop at the
                                                    last tick, us */
    uint64_t                        owner;       /* 1: it runs what others
                                                    offload */

    /* counters */
    uint64_t                        starts;      /* workers, ever */
    uint64_t                        crashes;     /* of them */
    uint64_t                        gil;         /* waited for it, us */
    ngx_webtorch_metrics_seconds_t  lag;         /* one at each tick */
} ngx_webtorch_metrics_worker_t;


typedef struct {
    ngx_webtorch_metrics_worker_t   worker;
    uint64_t                        cells[NGX_WEBTORCH_METRICS_CELLS]
                                        __attribute__((aligned(4096)));
} ngx_webtorch_metrics_slot_t;


typedef struct {
    pthread_mutex_t                 mutex;       /* of series that are made, and
                                                    of slots' first pages */
    uint32_t                        nseries;     /* atomic */
    uint32_t                        ncells;
    uint32_t                        nslots;      /* atomic: used so far */
    uint64_t                        lost;        /* series without room */
    uint64_t                        started;     /* ms since 1970 */
    uint64_t                        reloads;     /* configurations - 1 */
    struct ngx_webtorch_series_s    series[NGX_WEBTORCH_METRICS_SERIES];
    ngx_webtorch_metrics_slot_t     slots[NGX_WEBTORCH_METRICS_SLOTS]
                                        __attribute__((aligned(4096)));
} ngx_webtorch_metrics_shared_t;


/* key of a lookup, and the series to create if it is not found */

typedef struct {
    ngx_webtorch_metrics_kind_e     kind;
    uint32_t                        type;
    ngx_str_t                       name;
    ngx_str_t                       labels;      /* as they are written, or
                                                    empty */
    uint32_t                        ncounters;
    uint32_t                        ngauges;
    const char                     *help;        /* or NULL */
    const double                   *bounds;
    uint32_t                        nbounds;
} ngx_webtorch_metrics_wanted_t;


/* once in the master, for each configuration; without memory none is counted */
void ngx_webtorch_metrics_init(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf);

/* takes and gives up the worker's slot */
void ngx_webtorch_metrics_init_process(ngx_webtorch_conf_t *conf,
    ngx_log_t *log);
void ngx_webtorch_metrics_exit_process(void);

/*
 * Returns a series, which is made if there is none.  NULL: there is no room for
 * it, or one of this name has another type.  Called in any thread.
 */
ngx_webtorch_series_t *ngx_webtorch_metrics_find(
    const ngx_webtorch_metrics_wanted_t *wanted);

/* the cells of a series in the slot of this worker, which has one */
uint64_t *ngx_webtorch_metrics_cells(ngx_webtorch_series_t *series);

/* counts workers that have exited without giving up their slots */
void ngx_webtorch_metrics_reap(void);

/* whether the worker of a slot runs; called under the mutex */
ngx_uint_t ngx_webtorch_metrics_alive(ngx_uint_t slot);


extern ngx_webtorch_metrics_shared_t  *ngx_webtorch_metrics_shared;

/* slot of this worker; NULL: it does not count */
extern ngx_webtorch_metrics_slot_t    *ngx_webtorch_metrics_own;

/* upper bounds of buckets, microseconds */
extern const uint64_t
    ngx_webtorch_metrics_bounds[NGX_WEBTORCH_METRICS_BUCKETS - 1];

/* the first bucket that a time may be in, by its highest bit */
extern const uint8_t  ngx_webtorch_metrics_first[64];


/* number of series; 0 without shared memory */

static ngx_inline ngx_uint_t
ngx_webtorch_metrics_nseries(void)
{
    return ngx_webtorch_metrics_shared
           ? __atomic_load_n(&ngx_webtorch_metrics_shared->nseries,
                             __ATOMIC_ACQUIRE)
           : 0;
}


static ngx_inline ngx_uint_t
ngx_webtorch_metrics_nslots(void)
{
    return ngx_webtorch_metrics_shared
           ? __atomic_load_n(&ngx_webtorch_metrics_shared->nslots,
                             __ATOMIC_ACQUIRE)
           : 0;
}


/* whether a series is one of a kind and a name, whatever its labels are */

static ngx_inline ngx_uint_t
ngx_webtorch_metrics_is(const ngx_webtorch_series_t *series,
    ngx_webtorch_metrics_kind_e kind, const ngx_str_t *name)
{
    return series->kind == kind
           && series->name_len == name->len
           && ngx_memcmp(series->key, name->data, name->len) == 0;
}


static ngx_inline void
ngx_webtorch_metrics_observe(ngx_webtorch_metrics_seconds_t *seconds,
    uint64_t usec)
{
    ngx_uint_t  i;

    i = ngx_webtorch_metrics_first[63 - __builtin_clzll(usec | 1)];

    while (i < NGX_WEBTORCH_METRICS_BUCKETS - 1
           && usec > ngx_webtorch_metrics_bounds[i])
    {
        i++;
    }

    ngx_webtorch_metrics_add(&seconds->buckets[i], 1);
    ngx_webtorch_metrics_add(&seconds->sum, usec);
}


#endif /* _NGX_WEBTORCH_METRICS_H_INCLUDED_ */
