
/*
 * Each worker holds a mutex in its slot until it exits, when the kernel passes
 * it on: so others see that it runs.  The slot also has the batches that Python
 * runs: the next worker logs which of them a worker was running when it
 * crashed.
 */

#include "ngx_webtorch_worker.h"
#include "ngx_webtorch_robust.h"


static ngx_webtorch_slot_t *ngx_webtorch_worker_find_slot(ngx_log_t *log);
static uint64_t ngx_webtorch_worker_new_serial(ngx_webtorch_slot_t *slot);
static void ngx_webtorch_worker_log_crash(ngx_webtorch_slot_t *slot,
    ngx_log_t *log);
static void ngx_webtorch_worker_free_slot(ngx_webtorch_slot_t *slot);
static ngx_uint_t ngx_webtorch_worker_alive(ngx_webtorch_slot_t *slot);
static void ngx_webtorch_worker_clear_user(uint64_t *users, ngx_uint_t n);


/* the slot of this worker; NULL: it has none */
static ngx_webtorch_slot_t  *ngx_webtorch_worker_slot;

/* shared by handlers beyond NGX_WEBTORCH_MAX_RUNS, never logged */
static ngx_webtorch_run_t    ngx_webtorch_worker_unlogged;


void
ngx_webtorch_worker_init(ngx_webtorch_conf_t *conf, ngx_log_t *log)
{
    ngx_webtorch_slot_t  *slot;

    ngx_webtorch_worker_slot = NULL;

    ngx_webtorch_zone_lock();

    slot = ngx_webtorch_worker_find_slot(log);

    if (slot) {
        ngx_memzero(slot, sizeof(ngx_webtorch_slot_t));
        ngx_webtorch_robust_init(&slot->alive);
        (void) pthread_mutex_lock(&slot->alive);
        slot->generation = conf->generation;
        slot->serial = ngx_webtorch_worker_new_serial(slot);
        slot->pid = ngx_pid;

        ngx_webtorch_worker_slot = slot;
    }

    ngx_webtorch_zone_unlock();

    if (slot == NULL) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "more than %d worker processes use webtorch",
                      NGX_WEBTORCH_MAX_WORKERS);
    }
}


/* finds a free slot, reaps slots of exited workers */

static ngx_webtorch_slot_t *
ngx_webtorch_worker_find_slot(ngx_log_t *log)
{
    ngx_uint_t            i;
    ngx_webtorch_slot_t  *slot, *found;

    found = NULL;

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS; i++) {
        slot = &ngx_webtorch_zone.shared->slots[i];

        if (slot->pid && !ngx_webtorch_worker_alive(slot)) {
            ngx_webtorch_worker_log_crash(slot, log);
            ngx_webtorch_worker_free_slot(slot);
        }

        if (slot->pid == 0 && found == NULL) {
            found = slot;
        }
    }

    return found;
}


/* the slot is found by the serial */

static uint64_t
ngx_webtorch_worker_new_serial(ngx_webtorch_slot_t *slot)
{
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    return ++shared->serial * NGX_WEBTORCH_MAX_WORKERS
           + (uint64_t) (slot - shared->slots);
}


static void
ngx_webtorch_worker_log_crash(ngx_webtorch_slot_t *slot, ngx_log_t *log)
{
    ngx_uint_t           i;
    ngx_webtorch_run_t  *run;

    for (i = 0; i < slot->nruns; i++) {
        run = &slot->runs[i];

        if (run->jobs) {
            ngx_log_error(NGX_LOG_ALERT, log, 0,
                          "worker process %P exited while webtorch handler "
                          "\"%s\" ran, in its batch %uL of %uD requests",
                          slot->pid, run->name, run->batch, run->jobs);
        }
    }
}


void
ngx_webtorch_worker_ready(void)
{
    if (ngx_webtorch_worker_slot) {
        ngx_webtorch_worker_slot->ready = 1;
    }
}


void
ngx_webtorch_worker_exit(void)
{
    ngx_webtorch_slot_t  *slot;

    slot = ngx_webtorch_worker_slot;

    if (slot == NULL) {
        return;
    }

    ngx_webtorch_zone_lock();

    ngx_webtorch_worker_free_slot(slot);
    (void) pthread_mutex_unlock(&slot->alive);

    ngx_webtorch_zone_unlock();

    ngx_webtorch_worker_slot = NULL;
}


static void
ngx_webtorch_worker_free_slot(ngx_webtorch_slot_t *slot)
{
    ngx_uint_t                   i;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        ngx_webtorch_worker_clear_user(shared->blocks[i].users,
                                       slot - shared->slots);
    }

    slot->pid = 0;
}


int
ngx_webtorch_exiting(void)
{
    return ngx_exiting || ngx_quit || ngx_terminate;
}


ngx_webtorch_run_t *
ngx_webtorch_worker_run(ngx_str_t *name)
{
    ngx_webtorch_run_t   *run;
    ngx_webtorch_slot_t  *slot;

    slot = ngx_webtorch_worker_slot;

    if (slot == NULL || slot->nruns == NGX_WEBTORCH_MAX_RUNS) {
        return &ngx_webtorch_worker_unlogged;
    }

    run = &slot->runs[slot->nruns++];

    (void) ngx_cpystrn(run->name, name->data,
                       ngx_min(name->len + 1, WEBTORCH_NAME_LEN));

    return run;
}


ngx_int_t
ngx_webtorch_worker_add_user(uint64_t *users)
{
    ngx_uint_t  n;

    if (ngx_webtorch_worker_slot == NULL) {
        return NGX_DECLINED;
    }

    n = ngx_webtorch_worker_slot - ngx_webtorch_zone.shared->slots;

    (void) __sync_fetch_and_or(&users[n / 64], (uint64_t) 1 << n % 64);

    return NGX_OK;
}


void
ngx_webtorch_worker_remove_user(uint64_t *users)
{
    if (ngx_webtorch_worker_slot) {
        ngx_webtorch_worker_clear_user(users,
                                       ngx_webtorch_worker_slot
                                       - ngx_webtorch_zone.shared->slots);
    }
}


static void
ngx_webtorch_worker_clear_user(uint64_t *users, ngx_uint_t n)
{
    (void) __sync_fetch_and_and(&users[n / 64], ~((uint64_t) 1 << n % 64));
}


ngx_uint_t
ngx_webtorch_worker_count_users(uint64_t *users)
{
    uint64_t              bits;
    ngx_uint_t            i, n;
    ngx_webtorch_slot_t  *slot;

    n = 0;

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS / 64; i++) {

        for (bits = users[i]; bits; bits &= bits - 1) {
            slot = &ngx_webtorch_zone.shared->slots[i * 64
                                                    + __builtin_ctzll(bits)];
            n += ngx_webtorch_worker_alive(slot);
        }
    }

    return n;
}


static ngx_uint_t
ngx_webtorch_worker_alive(ngx_webtorch_slot_t *slot)
{
    if (slot == ngx_webtorch_worker_slot) {
        return 1;
    }

    if (slot->pid == 0) {
        return 0;
    }

    return ngx_webtorch_robust_held(&slot->alive);
}


uint64_t
ngx_webtorch_worker_serial(void)
{
    return ngx_webtorch_worker_slot ? ngx_webtorch_worker_slot->serial : 0;
}


ngx_uint_t
ngx_webtorch_worker_runs(uint64_t serial)
{
    ngx_webtorch_slot_t  *slot;

    slot = &ngx_webtorch_zone.shared->slots[serial % NGX_WEBTORCH_MAX_WORKERS];

    return slot->serial == serial && ngx_webtorch_worker_alive(slot);
}


void
ngx_webtorch_orders_followed(uint64_t number)
{
    if (ngx_webtorch_worker_slot) {
        ngx_webtorch_worker_slot->orders = number;
    }
}


/* workers that are not ready yet read the orders when they start */

uint32_t
ngx_webtorch_orders_behind(uint64_t number)
{
    uint32_t              n;
    ngx_uint_t            i;
    ngx_webtorch_slot_t  *slot;

    n = 0;

    ngx_webtorch_zone_lock();

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS; i++) {
        slot = &ngx_webtorch_zone.shared->slots[i];

        n += (slot->pid
              && slot->ready
              && slot->generation == ngx_webtorch_zone.shared->in_force
              && slot->orders < number
              && ngx_webtorch_worker_alive(slot));
    }

    ngx_webtorch_zone_unlock();

    return n;
}


int
ngx_webtorch_rounds_last(void)
{
    int                   last;
    ngx_uint_t            i;
    ngx_webtorch_slot_t  *slot;

    last = 1;

    ngx_webtorch_zone_lock();

    if (ngx_webtorch_worker_slot) {
        ngx_webtorch_worker_slot->trained = 1;
    }

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS; i++) {
        slot = &ngx_webtorch_zone.shared->slots[i];

        if (slot->pid && !slot->trained && ngx_webtorch_worker_alive(slot)) {
            last = 0;
        }
    }

    ngx_webtorch_zone_unlock();

    return last;
}
