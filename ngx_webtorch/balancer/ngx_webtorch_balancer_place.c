
#include "ngx_webtorch_balancer_place.h"
#include "ngx_webtorch_robust.h"


static ngx_uint_t ngx_webtorch_balancer_place_gone(
    ngx_webtorch_balancer_t *balancer, uint32_t place);


void
ngx_webtorch_balancer_place_init(ngx_webtorch_balancer_memory_t *memory)
{
    ngx_uint_t  i;

    /* never again: a process may hold a mutex as long as the memory exists */

    for (i = 0; i < NGX_WEBTORCH_BALANCER_PLACES; i++) {
        ngx_webtorch_robust_init(&memory->alive[i]);
    }
}


void
ngx_webtorch_balancer_place_get(ngx_webtorch_balancer_t *balancer,
    ngx_log_t *log)
{
    uint32_t                         i;
    ngx_webtorch_balance_worker_t   *workers;
    ngx_webtorch_balancer_memory_t  *memory;

    memory = balancer->memory;
    workers = memory->balance.workers;

    balancer->place = NGX_WEBTORCH_BALANCE_ALL_OTHERS;

    ngx_webtorch_balancer_place_reap(balancer);

    ngx_shmtx_lock(balancer->mutex);

    for (i = 0; i < NGX_WEBTORCH_BALANCER_PLACES; i++) {

        if (workers[i].process) {
            continue;
        }

        /* a process that exits may hold it yet */

        if (ngx_webtorch_robust_trylock(&memory->alive[i]) == NGX_BUSY) {
            continue;
        }

        workers[i].process = (uint32_t) ngx_pid;
        balancer->place = i;

        break;
    }

    ngx_shmtx_unlock(balancer->mutex);

    if (balancer->place == NGX_WEBTORCH_BALANCE_ALL_OTHERS) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "more than %d processes use the balancer of upstream "
                      "\"%V\"", NGX_WEBTORCH_BALANCER_PLACES, &balancer->name);
    }
}


void
ngx_webtorch_balancer_place_release(ngx_webtorch_balancer_t *balancer)
{
    ngx_webtorch_balancer_memory_t  *memory;

    memory = balancer->memory;

    ngx_shmtx_lock(balancer->mutex);

    if (ngx_webtorch_balancer_place_learns(balancer)) {
        memory->learner_pid = 0;
    }

    if (balancer->place != NGX_WEBTORCH_BALANCE_ALL_OTHERS) {
        ngx_webtorch_balance_reap(&memory->balance, balancer->place);
        (void) pthread_mutex_unlock(&memory->alive[balancer->place]);
    }

    ngx_shmtx_unlock(balancer->mutex);
}


void
ngx_webtorch_balancer_place_reap(ngx_webtorch_balancer_t *balancer)
{
    uint32_t                         i;
    ngx_webtorch_balancer_memory_t  *memory;

    memory = balancer->memory;

    for (i = 0; i < NGX_WEBTORCH_BALANCER_PLACES; i++) {

        /* without the mutex first: picks do not wait for this */

        if (!ngx_webtorch_balancer_place_gone(balancer, i)) {
            continue;
        }

        ngx_shmtx_lock(balancer->mutex);

        if (ngx_webtorch_balancer_place_gone(balancer, i)) {

            /* before the place is free, or another process would learn */

            if (memory->learner == i) {
                memory->learner_pid = 0;
            }

            ngx_webtorch_balance_reap(&memory->balance, i);
        }

        ngx_shmtx_unlock(balancer->mutex);
    }
}


static ngx_uint_t
ngx_webtorch_balancer_place_gone(ngx_webtorch_balancer_t *balancer,
    uint32_t place)
{
    ngx_webtorch_balancer_memory_t  *memory;

    memory = balancer->memory;

    return place != balancer->place
           && memory->balance.workers[place].process
           && !ngx_webtorch_robust_held(&memory->alive[place]);
}


/* the pid distinguishes processes that share the last place */

ngx_uint_t
ngx_webtorch_balancer_place_learns(ngx_webtorch_balancer_t *balancer)
{
    return balancer->memory->learner == balancer->place
           && balancer->memory->learner_pid == ngx_pid;
}
