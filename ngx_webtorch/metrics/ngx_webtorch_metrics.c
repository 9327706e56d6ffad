
#include "ngx_webtorch_metrics.h"
#include "ngx_webtorch_robust.h"

#include <sys/mman.h>


static ngx_webtorch_metrics_shared_t *ngx_webtorch_metrics_create(
    ngx_log_t *log);
static ngx_webtorch_series_t *ngx_webtorch_metrics_search(
    const ngx_webtorch_metrics_wanted_t *wanted, ngx_uint_t *other);
static ngx_webtorch_series_t *ngx_webtorch_metrics_make(
    const ngx_webtorch_metrics_wanted_t *wanted);
static void ngx_webtorch_metrics_take(ngx_webtorch_metrics_slot_t *slot);
static void ngx_webtorch_metrics_fork_child(void);
static uint64_t ngx_webtorch_metrics_time(void);


/* kept over reloads, the module is linked with -z nodelete */
ngx_webtorch_metrics_shared_t  *ngx_webtorch_metrics_shared;

ngx_webtorch_metrics_slot_t    *ngx_webtorch_metrics_own;

static ngx_uint_t               ngx_webtorch_metrics_registered;


const uint64_t
    ngx_webtorch_metrics_bounds[NGX_WEBTORCH_METRICS_BUCKETS - 1] = {
    50, 100, 250, 500,
    1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
    1000000, 2500000, 5000000, 10000000, 30000000, 60000000
};

const uint8_t  ngx_webtorch_metrics_first[64] = {
    0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 14, 15,
    16, 17, 18, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19,
    19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19, 19,
    19, 19, 19
};


void
ngx_webtorch_metrics_init(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    if (!conf->metrics || ngx_test_config || conf->handlers.nelts == 0) {
        return;
    }

    if (ngx_webtorch_metrics_shared) {
        ngx_webtorch_metrics_add(&ngx_webtorch_metrics_shared->reloads, 1);
        return;
    }

    ngx_webtorch_metrics_shared = ngx_webtorch_metrics_create(cycle->log);

    /* an error here would end the master */

    if (ngx_webtorch_metrics_shared == NULL) {
        ngx_log_error(NGX_LOG_ERR, cycle->log, ngx_errno,
                      "no memory for the metrics of webtorch, "
                      "nothing is counted");
    }
}


/* a file without a name: its pages take memory when they are written to */

static ngx_webtorch_metrics_shared_t *
ngx_webtorch_metrics_create(ngx_log_t *log)
{
    ngx_fd_t                        fd;
    ngx_uint_t                      i;
    ngx_webtorch_metrics_shared_t  *shared;

    fd = memfd_create("webtorch_metrics", MFD_CLOEXEC);

    if (fd == NGX_INVALID_FILE) {
        return NULL;
    }

    shared = MAP_FAILED;

    if (ftruncate(fd, sizeof(ngx_webtorch_metrics_shared_t)) == 0) {
        shared = mmap(NULL, sizeof(ngx_webtorch_metrics_shared_t),
                      PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    }

    (void) close(fd);

    if (shared == MAP_FAILED) {
        return NULL;
    }

    ngx_webtorch_robust_init(&shared->mutex);

    for (i = 0; i < NGX_WEBTORCH_METRICS_SLOTS; i++) {
        ngx_webtorch_robust_init(&shared->slots[i].worker.alive);
    }

    shared->started = ngx_webtorch_metrics_time();

    return shared;
}


/*
 * A slot is free if no process holds its mutex: that of a worker that has
 * crashed, too.
 */

void
ngx_webtorch_metrics_init_process(ngx_webtorch_conf_t *conf, ngx_log_t *log)
{
    ngx_uint_t                      i;
    ngx_webtorch_metrics_slot_t    *slot;
    ngx_webtorch_metrics_shared_t  *shared;

    ngx_webtorch_metrics_own = NULL;

    shared = ngx_webtorch_metrics_shared;

    if (!conf->metrics || shared == NULL) {
        return;
    }

    ngx_webtorch_metrics_reap();

    (void) ngx_webtorch_robust_lock(&shared->mutex);

    for (i = 0; i < NGX_WEBTORCH_METRICS_SLOTS; i++) {
        slot = &shared->slots[i];

        if (ngx_webtorch_robust_trylock(&slot->worker.alive) == NGX_BUSY) {
            continue;
        }

        ngx_webtorch_metrics_take(slot);

        if (i >= shared->nslots) {
            __atomic_store_n(&shared->nslots, i + 1, __ATOMIC_RELEASE);
        }

        break;
    }

    (void) pthread_mutex_unlock(&shared->mutex);

    if (ngx_webtorch_metrics_own == NULL) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "more than %d workers, this one counts no metrics",
                      NGX_WEBTORCH_METRICS_SLOTS);
    }

    if (!ngx_webtorch_metrics_registered) {
        ngx_webtorch_metrics_registered = 1;
        (void) pthread_atfork(NULL, NULL, ngx_webtorch_metrics_fork_child);
    }
}


/*
 * What Python forks has the cells of its worker, to which both would write
 * without a lock.  It gets others at the same addresses, which no process
 * reads.  If there is no memory, the child cannot go on.
 */

static void
ngx_webtorch_metrics_fork_child(void)
{
    if (ngx_webtorch_metrics_own == NULL) {
        return;
    }

    if (mmap(ngx_webtorch_metrics_own, sizeof(ngx_webtorch_metrics_slot_t),
             PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)
        == MAP_FAILED)
    {
        _exit(1);
    }
}


/* gauges are those of the worker, counters those of the slot */

static void
ngx_webtorch_metrics_take(ngx_webtorch_metrics_slot_t *slot)
{
    ngx_uint_t              i;
    ngx_webtorch_series_t  *series;

    for (i = 0; i < ngx_webtorch_metrics_shared->nseries; i++) {
        series = &ngx_webtorch_metrics_shared->series[i];

        ngx_memzero(&slot->cells[series->first + series->ncounters],
                    series->ngauges * sizeof(uint64_t));
    }

    slot->worker.pid = ngx_pid;
    slot->worker.started = ngx_webtorch_metrics_time();
    slot->worker.memory = 0;
    slot->worker.late = 0;
    slot->worker.owner = 0;
    slot->worker.starts++;

    ngx_webtorch_metrics_own = slot;
}


void
ngx_webtorch_metrics_exit_process(void)
{
    ngx_webtorch_metrics_worker_t  *worker;

    if (ngx_webtorch_metrics_own == NULL) {
        return;
    }

    /* threads of handlers may count yet, the slot stays theirs until the end */

    worker = &ngx_webtorch_metrics_own->worker;

    (void) ngx_webtorch_robust_lock(&ngx_webtorch_metrics_shared->mutex);
    worker->pid = 0;
    (void) pthread_mutex_unlock(&ngx_webtorch_metrics_shared->mutex);
}


void
ngx_webtorch_metrics_reap(void)
{
    ngx_uint_t                      i;
    ngx_webtorch_metrics_worker_t  *worker;
    ngx_webtorch_metrics_shared_t  *shared;

    shared = ngx_webtorch_metrics_shared;

    (void) ngx_webtorch_robust_lock(&shared->mutex);

    for (i = 0; i < shared->nslots; i++) {
        worker = &shared->slots[i].worker;

        if (worker->pid && !ngx_webtorch_metrics_alive(i)) {
            worker->crashes++;
            worker->crashed = ngx_webtorch_metrics_time();
            worker->pid = 0;
        }
    }

    (void) pthread_mutex_unlock(&shared->mutex);
}


ngx_uint_t
ngx_webtorch_metrics_alive(ngx_uint_t slot)
{
    ngx_webtorch_metrics_slot_t  *s;

    s = &ngx_webtorch_metrics_shared->slots[slot];

    if (s->worker.pid == 0) {
        return 0;
    }

    /* threads of this worker do not hold its own mutex */

    return s == ngx_webtorch_metrics_own
           || ngx_webtorch_robust_held(&s->worker.alive);
}


ngx_webtorch_series_t *
ngx_webtorch_metrics_find(const ngx_webtorch_metrics_wanted_t *wanted)
{
    ngx_uint_t              other;
    ngx_webtorch_series_t  *series;

    if (ngx_webtorch_metrics_shared == NULL) {
        return NULL;
    }

    /* a worker that exits here leaves nothing that is to be repaired */

    (void) ngx_webtorch_robust_lock(&ngx_webtorch_metrics_shared->mutex);

    series = ngx_webtorch_metrics_search(wanted, &other);

    if (series == NULL && !other) {
        series = ngx_webtorch_metrics_make(wanted);

        if (series == NULL) {
            ngx_webtorch_metrics_shared->lost++;
        }
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_metrics_shared->mutex);

    return series;
}


/* other: there is one of the same name and another type */

static ngx_webtorch_series_t *
ngx_webtorch_metrics_search(const ngx_webtorch_metrics_wanted_t *wanted,
    ngx_uint_t *other)
{
    ngx_uint_t              i;
    ngx_webtorch_series_t  *series;

    *other = 0;

    for (i = 0; i < ngx_webtorch_metrics_shared->nseries; i++) {
        series = &ngx_webtorch_metrics_shared->series[i];

        if (series->kind != wanted->kind
            || series->name_len != wanted->name.len
            || ngx_memcmp(series->key, wanted->name.data, wanted->name.len)
               != 0)
        {
            continue;
        }

        if (series->type != wanted->type
            || series->nbounds != wanted->nbounds
            || (wanted->nbounds
                && ngx_memcmp(series->bounds, wanted->bounds,
                              wanted->nbounds * sizeof(double))
                   != 0))
        {
            *other = 1;
            return NULL;
        }

        if (series->key_len == wanted->name.len + wanted->labels.len
            && ngx_memcmp(series->key + series->name_len, wanted->labels.data,
                          wanted->labels.len)
               == 0)
        {
            return series;
        }
    }

    return NULL;
}


static ngx_webtorch_series_t *
ngx_webtorch_metrics_make(const ngx_webtorch_metrics_wanted_t *wanted)
{
    uint32_t                        ncells;
    ngx_webtorch_series_t          *series;
    ngx_webtorch_metrics_shared_t  *shared;

    shared = ngx_webtorch_metrics_shared;
    ncells = wanted->ncounters + wanted->ngauges;

    if (shared->nseries == NGX_WEBTORCH_METRICS_SERIES
        || ncells > NGX_WEBTORCH_METRICS_CELLS - shared->ncells
        || wanted->name.len + wanted->labels.len > NGX_WEBTORCH_METRICS_KEY
        || wanted->nbounds > NGX_WEBTORCH_METRICS_BOUNDS)
    {
        return NULL;
    }

    series = &shared->series[shared->nseries];

    ngx_memzero(series, sizeof(ngx_webtorch_series_t));

    series->kind = wanted->kind;
    series->type = wanted->type;
    series->first = shared->ncells;
    series->ncounters = wanted->ncounters;
    series->ngauges = wanted->ngauges;
    series->name_len = (uint32_t) wanted->name.len;
    series->key_len = (uint32_t) (wanted->name.len + wanted->labels.len);
    series->nbounds = wanted->nbounds;

    ngx_memcpy(series->key, wanted->name.data, wanted->name.len);
    ngx_memcpy(series->key + wanted->name.len, wanted->labels.data,
               wanted->labels.len);

    if (wanted->nbounds) {
        ngx_memcpy(series->bounds, wanted->bounds,
                   wanted->nbounds * sizeof(double));
    }

    if (wanted->help) {
        (void) ngx_cpystrn((u_char *) series->help, (u_char *) wanted->help,
                           sizeof(series->help));
    }

    /*
     * The cells are zero: none of them was used before, unless a process has
     * exited between the next two lines, which leaves a gap.
     */

    shared->ncells += ncells;
    __atomic_store_n(&shared->nseries, shared->nseries + 1, __ATOMIC_RELEASE);

    return series;
}


uint64_t *
ngx_webtorch_metrics_cells(ngx_webtorch_series_t *series)
{
    return &ngx_webtorch_metrics_own->cells[series->first];
}


/* ms since 1970; nginx's cached time may be that of the fork */

static uint64_t
ngx_webtorch_metrics_time(void)
{
    struct timeval  tv;

    ngx_gettimeofday(&tv);

    return (uint64_t) tv.tv_sec * 1000 + (uint64_t) tv.tv_usec / 1000;
}
