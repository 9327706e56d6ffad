
#include "ngx_webtorch_balancer.h"
#include "ngx_webtorch_python.h"

#include <ngx_event.h>
#include <math.h>
#include <pthread.h>


/* how often workers look after each other, in milliseconds */
#define NGX_WEBTORCH_BALANCER_TICK      200

/* in microseconds: until a failed policy is tried again */
#define NGX_WEBTORCH_BALANCER_RETRY     10000000

/* in microseconds: a round that takes longer is another worker's */
#define NGX_WEBTORCH_BALANCER_LOST      30000000

/* samples that are copied while picks wait */
#define NGX_WEBTORCH_BALANCER_CHUNK     128

/* how long a worker that exits waits for a policy, in seconds */
#define NGX_WEBTORCH_BALANCER_EXIT      1


typedef struct {
    ngx_webtorch_balancer_t  **balancers;
    ngx_uint_t                 n;
    ngx_event_t                tick;
    ngx_connection_t           dumb;            /* of it, as nginx expects */
    ngx_log_t                 *log;

    ngx_uint_t                 started;         /* the thread */
    pthread_t                  thread;
    pthread_mutex_t            mutex;
    pthread_cond_t             cond;
    ngx_uint_t                 stop;            /* mutex, as is elected */
} ngx_webtorch_balancer_worker_t;


static ngx_int_t ngx_webtorch_balancer_init_zone(ngx_shm_zone_t *zone,
    void *data);
static void ngx_webtorch_balancer_join(ngx_webtorch_balancer_t *balancer,
    ngx_log_t *log);
static void ngx_webtorch_balancer_reap(ngx_webtorch_balancer_t *balancer);
static void ngx_webtorch_balancer_elect(ngx_webtorch_balancer_t *balancer);
static ngx_uint_t ngx_webtorch_balancer_dead(ngx_pid_t pid);
static void ngx_webtorch_balancer_tick(ngx_event_t *ev);
static void ngx_webtorch_balancer_start(void);
static void *ngx_webtorch_balancer_cycle(void *data);
static uint64_t ngx_webtorch_balancer_round(ngx_webtorch_balancer_t *balancer);
static ngx_int_t ngx_webtorch_balancer_stop(void);
static ngx_webtorch_balancer_t *ngx_webtorch_balancer_get(uint32_t index);


static ngx_webtorch_balancer_worker_t  ngx_webtorch_balancer_worker;


ngx_webtorch_balancer_t *
ngx_webtorch_balancer_add(ngx_conf_t *cf, ngx_webtorch_conf_t *conf,
    ngx_str_t *name)
{
    size_t                     size;
    ngx_str_t                  zone;
    ngx_webtorch_balancer_t   *balancer, **p;

    balancer = ngx_pcalloc(cf->pool, sizeof(ngx_webtorch_balancer_t));
    if (balancer == NULL) {
        return NULL;
    }

    balancer->name = *name;

    zone.len = sizeof("webtorch_balancer:") - 1 + name->len;
    zone.data = ngx_pnalloc(cf->pool, zone.len);

    if (zone.data == NULL) {
        return NULL;
    }

    (void) ngx_sprintf(zone.data, "webtorch_balancer:%V", name);

    /*
     * Always the same size, with room for the slab's pages: nginx keeps the
     * memory over a reload then, and what is not used is not in memory.
     */

    size = sizeof(ngx_webtorch_balancer_memory_t);
    size = ngx_align(size + size / 64 + 16 * ngx_pagesize, ngx_pagesize);

    balancer->zone = ngx_shared_memory_add(cf, &zone, size,
                                           &ngx_webtorch_module);
    if (balancer->zone == NULL) {
        return NULL;
    }

    balancer->zone->init = ngx_webtorch_balancer_init_zone;
    balancer->zone->data = balancer;

    p = ngx_array_push(&conf->balancers);
    if (p == NULL) {
        return NULL;
    }

    *p = balancer;
    balancer->index = conf->balancers.nelts - 1;

    return balancer;
}


static ngx_int_t
ngx_webtorch_balancer_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t          *shpool;
    ngx_webtorch_balancer_t  *balancer;

    balancer = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    balancer->mutex = &shpool->mutex;

    if (data || zone->shm.exists) {
        balancer->memory = shpool->data;
        return NGX_OK;
    }

    /* new shared memory is zero */

    balancer->memory = ngx_slab_alloc(shpool,
                                      sizeof(ngx_webtorch_balancer_memory_t));
    if (balancer->memory == NULL) {
        return NGX_ERROR;
    }

    shpool->data = balancer->memory;

    ngx_webtorch_balance_init(&balancer->memory->balance, 0);

    return NGX_OK;
}


ngx_int_t
ngx_webtorch_balancers_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf)
{
    ngx_uint_t                       i;
    pthread_condattr_t               attr;
    ngx_webtorch_balancer_worker_t  *worker;

    worker = &ngx_webtorch_balancer_worker;

    if (conf->balancers.nelts == 0) {
        return NGX_OK;
    }

    ngx_memzero(worker, sizeof(ngx_webtorch_balancer_worker_t));

    worker->balancers = conf->balancers.elts;
    worker->n = conf->balancers.nelts;
    worker->log = cycle->log;

    (void) pthread_mutex_init(&worker->mutex, NULL);
    (void) pthread_condattr_init(&attr);
    (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void) pthread_cond_init(&worker->cond, &attr);
    (void) pthread_condattr_destroy(&attr);

    for (i = 0; i < worker->n; i++) {
        ngx_webtorch_balancer_join(worker->balancers[i], cycle->log);
    }

    worker->tick.handler = ngx_webtorch_balancer_tick;
    worker->dumb.fd = (ngx_socket_t) -1;
    worker->tick.data = &worker->dumb;
    worker->tick.log = cycle->log;
    worker->tick.cancelable = 1;

    ngx_add_timer(&worker->tick, 1);

    return NGX_OK;
}


/* a place for what this process has in flight */

static void
ngx_webtorch_balancer_join(ngx_webtorch_balancer_t *balancer, ngx_log_t *log)
{
    uint32_t                 i;
    ngx_webtorch_balance_t  *b;

    b = &balancer->memory->balance;

    ngx_webtorch_balancer_reap(balancer);

    ngx_shmtx_lock(balancer->mutex);

    for (i = 0; i < NGX_WEBTORCH_BALANCE_ALL_OTHERS; i++) {
        if (b->workers[i].process == 0) {
            b->workers[i].process = (uint32_t) ngx_pid;
            break;
        }
    }

    ngx_shmtx_unlock(balancer->mutex);

    balancer->worker = i;

    if (i == NGX_WEBTORCH_BALANCE_ALL_OTHERS) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "more than %ui processes use the balancer of upstream "
                      "\"%V\"", (ngx_uint_t) i, &balancer->name);
    }
}


/* what is in flight in processes that are dead is not any more */

static void
ngx_webtorch_balancer_reap(ngx_webtorch_balancer_t *balancer)
{
    uint32_t                 i;
    ngx_webtorch_balance_t  *b;

    b = &balancer->memory->balance;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_ALL_OTHERS; i++) {

        if (b->workers[i].process == 0
            || !ngx_webtorch_balancer_dead((ngx_pid_t) b->workers[i].process))
        {
            continue;
        }

        ngx_shmtx_lock(balancer->mutex);

        if (b->workers[i].process
            && ngx_webtorch_balancer_dead((ngx_pid_t) b->workers[i].process))
        {
            ngx_webtorch_balance_reap(b, i);
        }

        ngx_shmtx_unlock(balancer->mutex);
    }
}


static ngx_uint_t
ngx_webtorch_balancer_dead(ngx_pid_t pid)
{
    return kill(pid, 0) == -1 && ngx_errno == ESRCH;
}


static void
ngx_webtorch_balancer_tick(ngx_event_t *ev)
{
    ngx_uint_t                       i;
    ngx_webtorch_balancer_worker_t  *worker;

    worker = &ngx_webtorch_balancer_worker;

    for (i = 0; i < worker->n; i++) {
        ngx_webtorch_balancer_reap(worker->balancers[i]);
        ngx_webtorch_balancer_elect(worker->balancers[i]);
    }

    ngx_add_timer(ev, NGX_WEBTORCH_BALANCER_TICK);
}


/* one worker learns: who comes first when the last one is gone, or is stuck */

static void
ngx_webtorch_balancer_elect(ngx_webtorch_balancer_t *balancer)
{
    uint64_t                         now;
    ngx_uint_t                       elected;
    ngx_webtorch_balancer_memory_t  *memory;

    memory = balancer->memory;
    now = ngx_webtorch_balancer_now();

    ngx_shmtx_lock(balancer->mutex);

    if (ngx_exiting || balancer->policy->interval == 0) {

        /* it leaves, or its policy did not load */

        if (memory->learner == ngx_pid) {
            memory->learner = 0;
        }

    } else if (memory->learner == 0
               || ngx_webtorch_balancer_dead(memory->learner)
               || now - memory->learned > NGX_WEBTORCH_BALANCER_LOST)
    {
        memory->learner = ngx_pid;
        memory->learned = now;
    }

    elected = (memory->learner == ngx_pid);

    ngx_shmtx_unlock(balancer->mutex);

    if (elected == balancer->elected) {
        return;
    }

    (void) pthread_mutex_lock(&ngx_webtorch_balancer_worker.mutex);
    balancer->elected = elected;
    balancer->due = now;
    (void) pthread_mutex_unlock(&ngx_webtorch_balancer_worker.mutex);

    if (elected) {
        ngx_log_error(NGX_LOG_INFO, ngx_webtorch_balancer_worker.log, 0,
                      "webtorch: this worker learns for upstream \"%V\"",
                      &balancer->name);
        ngx_webtorch_balancer_start();
    }
}


static void
ngx_webtorch_balancer_start(void)
{
    int                              err;
    sigset_t                         set, mask;
    ngx_webtorch_balancer_worker_t  *worker;

    worker = &ngx_webtorch_balancer_worker;

    if (worker->started) {
        (void) pthread_cond_signal(&worker->cond);
        return;
    }

    /* signals are for the event loop */

    sigfillset(&set);
    (void) pthread_sigmask(SIG_BLOCK, &set, &mask);

    err = pthread_create(&worker->thread, NULL, ngx_webtorch_balancer_cycle,
                         worker);

    (void) pthread_sigmask(SIG_SETMASK, &mask, NULL);

    if (err) {
        ngx_log_error(NGX_LOG_ALERT, worker->log, err,
                      "pthread_create() failed");
        return;
    }

    worker->started = 1;
}


static void *
ngx_webtorch_balancer_cycle(void *data)
{
    ngx_webtorch_balancer_worker_t *worker = data;

    void                     *state;
    uint64_t                  now, next, due;
    ngx_uint_t                i;
    struct timespec           ts;
    ngx_webtorch_balancer_t  *balancer;

    state = ngx_webtorch_python_thread_begin(1);

    (void) pthread_mutex_lock(&worker->mutex);

    while (!worker->stop) {
        now = ngx_webtorch_balancer_now();
        next = now + NGX_WEBTORCH_BALANCER_RETRY;

        for (i = 0; i < worker->n && !worker->stop; i++) {
            balancer = worker->balancers[i];

            if (!balancer->elected) {
                continue;
            }

            if (balancer->due <= now) {
                (void) pthread_mutex_unlock(&worker->mutex);
                due = ngx_webtorch_balancer_round(balancer);
                (void) pthread_mutex_lock(&worker->mutex);

                balancer->due = due;
            }

            next = ngx_min(next, balancer->due);
        }

        if (worker->stop) {
            break;
        }

        ts.tv_sec = (time_t) (next / 1000000);
        ts.tv_nsec = (long) (next % 1000000) * 1000;

        (void) pthread_cond_timedwait(&worker->cond, &worker->mutex, &ts);
    }

    (void) pthread_mutex_unlock(&worker->mutex);

    ngx_webtorch_python_thread_end(state);

    return NULL;
}


/* returns when the next one is due */

static uint64_t
ngx_webtorch_balancer_round(ngx_webtorch_balancer_t *balancer)
{
    ngx_int_t  rc;

    rc = ngx_webtorch_python_learn(balancer->policy, balancer->index);

    ngx_shmtx_lock(balancer->mutex);

    if (balancer->memory->learner == ngx_pid) {
        balancer->memory->learned = ngx_webtorch_balancer_now();
    }

    ngx_shmtx_unlock(balancer->mutex);

    return ngx_webtorch_balancer_now()
           + (rc == NGX_OK ? (uint64_t) balancer->policy->interval * 1000
                           : NGX_WEBTORCH_BALANCER_RETRY);
}


ngx_int_t
ngx_webtorch_balancers_exit_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf)
{
    ngx_uint_t                        i;
    ngx_webtorch_balancer_t         **balancer;
    ngx_webtorch_balancer_memory_t   *memory;

    if (ngx_webtorch_balancer_worker.n == 0) {
        return NGX_OK;
    }

    balancer = conf->balancers.elts;

    for (i = 0; i < conf->balancers.nelts; i++) {
        memory = balancer[i]->memory;

        ngx_shmtx_lock(balancer[i]->mutex);

        if (memory->learner == ngx_pid) {
            memory->learner = 0;
        }

        if (balancer[i]->worker != NGX_WEBTORCH_BALANCE_ALL_OTHERS) {
            ngx_webtorch_balance_reap(&memory->balance, balancer[i]->worker);
        }

        ngx_shmtx_unlock(balancer[i]->mutex);
    }

    return ngx_webtorch_balancer_stop();
}


static ngx_int_t
ngx_webtorch_balancer_stop(void)
{
    struct timespec                  ts;
    ngx_webtorch_balancer_worker_t  *worker;

    worker = &ngx_webtorch_balancer_worker;

    if (!worker->started) {
        return NGX_OK;
    }

    (void) pthread_mutex_lock(&worker->mutex);
    worker->stop = 1;
    (void) pthread_mutex_unlock(&worker->mutex);

    (void) pthread_cond_signal(&worker->cond);

    (void) clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += NGX_WEBTORCH_BALANCER_EXIT;

    if (pthread_timedjoin_np(worker->thread, NULL, &ts) == 0) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_WARN, worker->log, 0,
                  "a policy of webtorch_balancer is running still, the worker "
                  "exits without waiting for it");

    return NGX_BUSY;
}


uint64_t
ngx_webtorch_balancer_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}


/* for Python, in the thread */


static ngx_webtorch_balancer_t *
ngx_webtorch_balancer_get(uint32_t index)
{
    return ngx_webtorch_balancer_worker.balancers[index];
}


uint32_t
ngx_webtorch_balancer_samples(uint32_t index, uint64_t *next,
    webtorch_sample_t *samples, uint32_t n)
{
    uint32_t                  i, got;
    ngx_webtorch_balancer_t  *balancer;

    balancer = ngx_webtorch_balancer_get(index);

    for (i = 0; i < n; i += got) {
        ngx_shmtx_lock(balancer->mutex);
        got = ngx_webtorch_balance_samples(&balancer->memory->balance, next,
                                  &samples[i],
                                  ngx_min(n - i, NGX_WEBTORCH_BALANCER_CHUNK));
        ngx_shmtx_unlock(balancer->mutex);

        if (got == 0) {
            break;
        }
    }

    return i;
}


uint32_t
ngx_webtorch_balancer_servers(uint32_t index, webtorch_server_t *servers,
    uint32_t n)
{
    uint32_t                        i;
    uint64_t                        now;
    ngx_webtorch_balance_t         *b;
    ngx_webtorch_balancer_t        *balancer;
    ngx_webtorch_balance_server_t  *s;

    balancer = ngx_webtorch_balancer_get(index);
    b = &balancer->memory->balance;
    now = ngx_webtorch_balancer_now();

    ngx_shmtx_lock(balancer->mutex);

    for (i = 0; i < n && i < b->nservers; i++) {
        s = &b->servers[i];

        servers[i].server = i;
        servers[i].inflight = s->inflight;
        servers[i].ejected = (s->probe != 0);
        servers[i].service = s->base;
        servers[i].concurrency = s->concurrency;
        servers[i].error = s->error;

        ngx_webtorch_balance_features(b, i, servers[i].features, now);
    }

    ngx_shmtx_unlock(balancer->mutex);

    return i;
}


int
ngx_webtorch_balancer_publish(uint32_t index, const webtorch_params_t *params)
{
    int                       rc;
    ngx_webtorch_balancer_t  *balancer;

    balancer = ngx_webtorch_balancer_get(index);

    rc = 0;

    ngx_shmtx_lock(balancer->mutex);

    if (balancer->memory->learner == ngx_pid) {
        rc = ngx_webtorch_balance_publish(&balancer->memory->balance, params,
                                          ngx_webtorch_balancer_now());
    }

    ngx_shmtx_unlock(balancer->mutex);

    return rc;
}


int
ngx_webtorch_balancer_scale(uint32_t index, const float *scales, uint32_t n)
{
    uint32_t                  i;
    ngx_webtorch_balance_t   *b;
    ngx_webtorch_balancer_t  *balancer;

    for (i = 0; i < n; i++) {
        if (!isfinite(scales[i]) || scales[i] <= 0) {
            return -1;
        }
    }

    balancer = ngx_webtorch_balancer_get(index);
    b = &balancer->memory->balance;

    ngx_shmtx_lock(balancer->mutex);

    if (balancer->memory->learner == ngx_pid) {

        for (i = 0; i < n && i < b->nservers; i++) {
            b->servers[i].scale = scales[i];
        }
    }

    ngx_shmtx_unlock(balancer->mutex);

    return 0;
}
