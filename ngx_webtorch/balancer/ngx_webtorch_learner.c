
#include "ngx_webtorch_learner.h"
#include "ngx_webtorch_balancer.h"
#include "ngx_webtorch_balancer_place.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_thread.h"
#include "ngx_webtorch_timer.h"


/* milliseconds between a worker's checks of its requests and the others */
#define NGX_WEBTORCH_LEARNER_TICK   200

/* microseconds until a policy that failed is tried again */
#define NGX_WEBTORCH_LEARNER_RETRY  10000000

/* microseconds of a round after which another worker learns instead */
#define NGX_WEBTORCH_LEARNER_LOST   30000000

/* seconds that a worker that exits waits for a policy */
#define NGX_WEBTORCH_LEARNER_EXIT   1


typedef struct {
    ngx_webtorch_balancer_t  **balancers;
    ngx_uint_t                 n;
    ngx_webtorch_timer_t       tick;
    ngx_log_t                 *log;

    ngx_uint_t                 started;    /* the thread */
    pthread_t                  thread;
    pthread_mutex_t            mutex;
    pthread_cond_t             cond;
    ngx_uint_t                 stop;       /* mutex */
} ngx_webtorch_learner_t;


static void ngx_webtorch_learner_tick(ngx_event_t *ev);
static void ngx_webtorch_learner_elect(ngx_webtorch_balancer_t *balancer);
static void ngx_webtorch_learner_start(void);
static void *ngx_webtorch_learner_cycle(void *data);
static uint64_t ngx_webtorch_learner_run_due(ngx_webtorch_learner_t *learner);
static uint64_t ngx_webtorch_learner_round(ngx_webtorch_balancer_t *balancer);


static ngx_webtorch_learner_t  ngx_webtorch_learner;


void
ngx_webtorch_learner_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf)
{
    pthread_condattr_t       attr;
    ngx_webtorch_learner_t  *learner;

    learner = &ngx_webtorch_learner;

    ngx_memzero(learner, sizeof(ngx_webtorch_learner_t));

    if (conf->balancers.nelts == 0) {
        return;
    }

    learner->balancers = conf->balancers.elts;
    learner->n = conf->balancers.nelts;
    learner->log = cycle->log;

    (void) pthread_mutex_init(&learner->mutex, NULL);
    (void) pthread_condattr_init(&attr);
    (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void) pthread_cond_init(&learner->cond, &attr);
    (void) pthread_condattr_destroy(&attr);

    ngx_webtorch_timer_init(&learner->tick, ngx_webtorch_learner_tick, learner,
                            cycle->log);
    learner->tick.event.cancelable = 1;

    ngx_add_timer(&learner->tick.event, 1);
}


static void
ngx_webtorch_learner_tick(ngx_event_t *ev)
{
    ngx_uint_t               i;
    ngx_webtorch_learner_t  *learner;

    learner = ngx_webtorch_timer_data(ev);

    for (i = 0; i < learner->n; i++) {
        learner->balancers[i]->watch(learner->balancers[i]);
        ngx_webtorch_balancer_place_reap(learner->balancers[i]);
        ngx_webtorch_learner_elect(learner->balancers[i]);
    }

    ngx_add_timer(ev, NGX_WEBTORCH_LEARNER_TICK);
}


/*
 * The first worker to notice that none learns, or that the one that does is
 * stuck in a round, takes over.  The place of a learner that has exited was
 * released before; those that share the last place are found by time alone.
 */

static void
ngx_webtorch_learner_elect(ngx_webtorch_balancer_t *balancer)
{
    uint64_t                         now;
    ngx_uint_t                       elected;
    ngx_webtorch_balancer_memory_t  *memory;

    memory = balancer->memory;

    ngx_shmtx_lock(balancer->mutex);

    now = ngx_webtorch_clock_usec();
    elected = ngx_webtorch_balancer_place_learns(balancer);

    if (ngx_exiting || balancer->policy->interval == 0) {

        /* this worker leaves, or its policy was not loaded */

        if (elected) {
            memory->learner_pid = 0;
            elected = 0;
        }

    } else if (!elected
               && (memory->learner_pid == 0
                   || ngx_webtorch_elapsed_usec(now, memory->learned)
                      > NGX_WEBTORCH_LEARNER_LOST))
    {
        memory->learner = balancer->place;
        memory->learner_pid = ngx_pid;
        memory->learned = now;
        elected = 1;
    }

    ngx_shmtx_unlock(balancer->mutex);

    if (elected == balancer->elected) {
        return;
    }

    (void) pthread_mutex_lock(&ngx_webtorch_learner.mutex);
    balancer->elected = elected;
    balancer->due = now;
    (void) pthread_mutex_unlock(&ngx_webtorch_learner.mutex);

    if (elected) {
        ngx_log_error(NGX_LOG_INFO, ngx_webtorch_learner.log, 0,
                      "webtorch: this worker learns for upstream \"%V\"",
                      &balancer->name);
        ngx_webtorch_learner_start();
    }
}


static void
ngx_webtorch_learner_start(void)
{
    ngx_webtorch_learner_t  *learner;

    learner = &ngx_webtorch_learner;

    if (learner->started) {
        (void) pthread_cond_signal(&learner->cond);
        return;
    }

    if (ngx_webtorch_thread_create(&learner->thread,
                                   ngx_webtorch_learner_cycle, learner,
                                   learner->log)
        == NGX_OK)
    {
        learner->started = 1;
    }
}


static void *
ngx_webtorch_learner_cycle(void *data)
{
    ngx_webtorch_learner_t *learner = data;

    void             *state;
    uint64_t          next;
    struct timespec   ts;

    state = ngx_webtorch_python_thread_begin(1);

    (void) pthread_mutex_lock(&learner->mutex);

    while (!learner->stop) {
        next = ngx_webtorch_learner_run_due(learner);

        if (learner->stop) {
            break;
        }

        ts.tv_sec = (time_t) (next / 1000000);
        ts.tv_nsec = (long) (next % 1000000) * 1000;

        (void) pthread_cond_timedwait(&learner->cond, &learner->mutex, &ts);
    }

    (void) pthread_mutex_unlock(&learner->mutex);

    ngx_webtorch_python_thread_end(state);

    return NULL;
}


/*
 * Runs the rounds that are due, and returns when the next one is.  The mutex is
 * locked, but not while a round runs.
 */

static uint64_t
ngx_webtorch_learner_run_due(ngx_webtorch_learner_t *learner)
{
    uint64_t                  now, next, due;
    ngx_uint_t                i;
    ngx_webtorch_balancer_t  *balancer;

    now = ngx_webtorch_clock_usec();
    next = now + NGX_WEBTORCH_LEARNER_RETRY;

    for (i = 0; i < learner->n && !learner->stop; i++) {
        balancer = learner->balancers[i];

        if (!balancer->elected) {
            continue;
        }

        if (balancer->due <= now) {
            (void) pthread_mutex_unlock(&learner->mutex);
            due = ngx_webtorch_learner_round(balancer);
            (void) pthread_mutex_lock(&learner->mutex);

            balancer->due = due;
        }

        next = ngx_min(next, balancer->due);
    }

    return next;
}


/* returns when the next round is due */

static uint64_t
ngx_webtorch_learner_round(ngx_webtorch_balancer_t *balancer)
{
    uint64_t   now;
    ngx_int_t  rc;

    rc = ngx_webtorch_python_learn(balancer->policy, balancer->index);

    ngx_shmtx_lock(balancer->mutex);

    now = ngx_webtorch_clock_usec();

    if (ngx_webtorch_balancer_place_learns(balancer)) {
        balancer->memory->learned = now;
    }

    ngx_shmtx_unlock(balancer->mutex);

    return now + (rc == NGX_OK ? (uint64_t) balancer->policy->interval * 1000
                               : NGX_WEBTORCH_LEARNER_RETRY);
}


ngx_int_t
ngx_webtorch_learner_exit_process(ngx_cycle_t *cycle)
{
    ngx_webtorch_learner_t  *learner;

    learner = &ngx_webtorch_learner;

    if (!learner->started) {
        return NGX_OK;
    }

    (void) pthread_mutex_lock(&learner->mutex);
    learner->stop = 1;
    (void) pthread_mutex_unlock(&learner->mutex);

    (void) pthread_cond_signal(&learner->cond);

    if (ngx_webtorch_thread_join(learner->thread, NGX_WEBTORCH_LEARNER_EXIT)
        == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                  "a policy of webtorch_balancer is still running, the worker "
                  "exits without waiting for it");

    return NGX_BUSY;
}
