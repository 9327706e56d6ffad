
/*
 * A balancer's shared memory: it is set up here, and Python, in the learner's
 * thread, reads and writes it by the functions of ngx_webtorch_api.h.
 */

#include "ngx_webtorch_balancer.h"
#include "ngx_webtorch_balancer_place.h"
#include "ngx_webtorch_clock.h"

#include <math.h>


/* the layout of the memory; to be changed with it where its size stays */
#define NGX_WEBTORCH_BALANCER_LAYOUT  0x57544f424c000001

/* samples that are copied while picks wait */
#define NGX_WEBTORCH_BALANCER_CHUNK   128

#define NGX_WEBTORCH_BALANCER_MAGIC                                           \
    (NGX_WEBTORCH_BALANCER_LAYOUT                                             \
     + ((uint64_t) sizeof(ngx_webtorch_balancer_memory_t) << 8))


static ngx_int_t ngx_webtorch_balancer_init_zone(ngx_shm_zone_t *zone,
    void *data);


/* balancers of this worker's configuration */

static ngx_webtorch_balancer_t  **ngx_webtorch_balancers;


ngx_webtorch_balancer_t *
ngx_webtorch_balancer_add(ngx_conf_t *cf, ngx_str_t *name)
{
    size_t                     size;
    ngx_str_t                  zone;
    ngx_webtorch_conf_t       *conf;
    ngx_webtorch_balancer_t   *balancer, **p;

    balancer = ngx_pcalloc(cf->pool, sizeof(ngx_webtorch_balancer_t));
    if (balancer == NULL) {
        return NULL;
    }

    balancer->name = *name;
    balancer->place = NGX_WEBTORCH_BALANCE_ALL_OTHERS;
    ngx_queue_init(&balancer->requests);

    zone.len = sizeof("webtorch_balancer:") - 1 + name->len;
    zone.data = ngx_pnalloc(cf->pool, zone.len);

    if (zone.data == NULL) {
        return NULL;
    }

    (void) ngx_sprintf(zone.data, "webtorch_balancer:%V", name);

    /*
     * Always the same size, with room for the slab's pages: nginx keeps the
     * memory over a reload then.  Pages that are not used take no memory.
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

    conf = ngx_webtorch_get_conf(cf->cycle);

    p = ngx_array_push(&conf->balancers);
    if (p == NULL) {
        return NULL;
    }

    *p = balancer;
    balancer->index = conf->balancers.nelts - 1;

    return balancer;
}


/*
 * A reload keeps memory of the same name, size and module, so that its layout
 * is that of this code: the module stays mapped, a new file of it is not loaded
 * before nginx is started again.  The magic is checked nevertheless, as workers
 * that run cannot be given other memory.
 */

static ngx_int_t
ngx_webtorch_balancer_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_webtorch_balancer_t *old = data;

    ngx_slab_pool_t                 *shpool;
    ngx_webtorch_balancer_t         *balancer;
    ngx_webtorch_balancer_memory_t  *memory;

    balancer = zone->data;
    shpool = (ngx_slab_pool_t *) zone->shm.addr;

    balancer->mutex = &shpool->mutex;

    if (old || zone->shm.exists) {
        memory = shpool->data;

        if (memory->magic != NGX_WEBTORCH_BALANCER_MAGIC) {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "the memory of the balancer of upstream \"%V\" has "
                          "another layout, restart nginx", &balancer->name);
            return NGX_ERROR;
        }

        balancer->memory = memory;

        if (old) {
            /* with "master_process off" this process has it */
            balancer->place = old->place;
        }

        return NGX_OK;
    }

    /* new shared memory is zero */

    memory = ngx_slab_alloc(shpool, sizeof(ngx_webtorch_balancer_memory_t));
    if (memory == NULL) {
        return NGX_ERROR;
    }

    ngx_webtorch_balance_init(&memory->balance, 0);
    ngx_webtorch_balancer_place_init(memory);

    memory->magic = NGX_WEBTORCH_BALANCER_MAGIC;

    shpool->data = memory;
    balancer->memory = memory;

    return NGX_OK;
}


void
ngx_webtorch_balancers_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf)
{
    ngx_uint_t  i;

    ngx_webtorch_balancers = conf->balancers.elts;

    for (i = 0; i < conf->balancers.nelts; i++) {
        ngx_webtorch_balancer_place_get(ngx_webtorch_balancers[i], cycle->log);
    }
}


void
ngx_webtorch_balancers_exit_process(ngx_webtorch_conf_t *conf)
{
    ngx_uint_t                 i;
    ngx_webtorch_balancer_t  **balancer;

    if (ngx_webtorch_balancers == NULL) {
        return;
    }

    balancer = conf->balancers.elts;

    for (i = 0; i < conf->balancers.nelts; i++) {
        ngx_webtorch_balancer_place_release(balancer[i]);
    }
}


ngx_webtorch_balancer_t *
ngx_webtorch_balancer_get(uint32_t index)
{
    return ngx_webtorch_balancers[index];
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
    now = ngx_webtorch_clock_usec();

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

    if (ngx_webtorch_balancer_place_learns(balancer)) {
        rc = ngx_webtorch_balance_publish(&balancer->memory->balance, params,
                                          ngx_webtorch_clock_usec());
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

    if (ngx_webtorch_balancer_place_learns(balancer)) {

        for (i = 0; i < n && i < b->nservers; i++) {
            b->servers[i].scale = scales[i];
        }
    }

    ngx_shmtx_unlock(balancer->mutex);

    return 0;
}
