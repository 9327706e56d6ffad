
/*
 * What each worker does, for the others to see: that it lives, by a mutex that
 * the kernel takes from the dead, and the batches that Python runs, so that the
 * worker that comes after one that died can tell what it died of.
 */

#include "ngx_webtorch_zone.h"


static ngx_webtorch_slot_t *ngx_webtorch_worker_claim(
    ngx_webtorch_shared_zone_t *shared, ngx_log_t *log);
static void ngx_webtorch_worker_log_crash(ngx_webtorch_slot_t *slot,
    ngx_log_t *log);


static ngx_webtorch_shared_zone_t  *ngx_webtorch_worker_shared;
static ngx_webtorch_slot_t         *ngx_webtorch_worker_own;

/* of handlers beyond NGX_WEBTORCH_MAX_RUNS */
static ngx_webtorch_run_t           ngx_webtorch_worker_untold;


void
ngx_webtorch_worker_init(ngx_webtorch_conf_t *conf, ngx_log_t *log)
{
    ngx_webtorch_slot_t         *slot;
    ngx_webtorch_shared_zone_t  *shared;

    shared = conf->zone->shared;

    ngx_webtorch_worker_shared = shared;
    ngx_webtorch_worker_own = NULL;

    ngx_webtorch_zone_lock(shared);

    slot = ngx_webtorch_worker_claim(shared, log);

    if (slot) {
        ngx_memzero(slot, sizeof(ngx_webtorch_slot_t));
        ngx_webtorch_robust_init(&slot->alive);
        (void) pthread_mutex_lock(&slot->alive);
        slot->generation = conf->generation;
        slot->pid = ngx_pid;

        ngx_webtorch_worker_own = slot;
    }

    ngx_webtorch_zone_unlock(shared);

    if (slot == NULL) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "more than %d worker processes use webtorch",
                      NGX_WEBTORCH_MAX_WORKERS);
    }
}


/* finds a free slot, and frees those of the dead */

static ngx_webtorch_slot_t *
ngx_webtorch_worker_claim(ngx_webtorch_shared_zone_t *shared, ngx_log_t *log)
{
    ngx_uint_t            i;
    ngx_webtorch_slot_t  *slot, *found;

    found = NULL;

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS; i++) {
        slot = &shared->slots[i];

        if (slot->pid && !ngx_webtorch_worker_alive(slot)) {
            ngx_webtorch_worker_log_crash(slot, log);
            ngx_webtorch_zone_release_slot(shared, i);
            slot->pid = 0;
        }

        if (slot->pid == 0 && found == NULL) {
            found = slot;
        }
    }

    return found;
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
                          "worker process %P died while webtorch handler "
                          "\"%s\" ran, in its batch %uL of %uD requests",
                          slot->pid, run->name, run->batch, run->jobs);
        }
    }
}


void
ngx_webtorch_worker_ready(void)
{
    if (ngx_webtorch_worker_own) {
        ngx_webtorch_worker_own->ready = 1;
    }
}


void
ngx_webtorch_worker_exit(void)
{
    ngx_webtorch_slot_t  *slot;

    slot = ngx_webtorch_worker_own;

    if (slot == NULL) {
        return;
    }

    ngx_webtorch_zone_lock(ngx_webtorch_worker_shared);

    ngx_webtorch_zone_release_slot(ngx_webtorch_worker_shared,
                             slot - ngx_webtorch_worker_shared->slots);
    slot->pid = 0;
    (void) pthread_mutex_unlock(&slot->alive);

    ngx_webtorch_zone_unlock(ngx_webtorch_worker_shared);

    ngx_webtorch_worker_own = NULL;
}


ngx_int_t
ngx_webtorch_worker_slot(void)
{
    if (ngx_webtorch_worker_own == NULL) {
        return -1;
    }

    return ngx_webtorch_worker_own - ngx_webtorch_worker_shared->slots;
}


ngx_uint_t
ngx_webtorch_worker_alive(ngx_webtorch_slot_t *slot)
{
    if (slot == ngx_webtorch_worker_own) {
        return 1;
    }

    if (slot->pid == 0) {
        return 0;
    }

    return ngx_webtorch_robust_held(&slot->alive);
}


ngx_webtorch_run_t *
ngx_webtorch_worker_run(ngx_str_t *name)
{
    ngx_webtorch_run_t   *run;
    ngx_webtorch_slot_t  *slot;

    slot = ngx_webtorch_worker_own;

    if (slot == NULL || slot->nruns == NGX_WEBTORCH_MAX_RUNS) {
        return &ngx_webtorch_worker_untold;
    }

    run = &slot->runs[slot->nruns++];

    (void) ngx_cpystrn(run->name, name->data,
                       ngx_min(name->len + 1, WEBTORCH_NAME_LEN));

    return run;
}
