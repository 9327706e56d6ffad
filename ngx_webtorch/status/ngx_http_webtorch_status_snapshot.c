
#include "ngx_http_webtorch_status_snapshot.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_robust.h"
#include "ngx_webtorch_space.h"


static ngx_int_t ngx_http_webtorch_snapshot_begin(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot, ngx_uint_t all);
static ngx_int_t ngx_http_webtorch_snapshot_arrays(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot);
static ngx_int_t ngx_http_webtorch_snapshot_workers(
    ngx_http_webtorch_snapshot_t *snapshot);
static ngx_int_t ngx_http_webtorch_snapshot_series(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot, ngx_uint_t all);
static ngx_int_t ngx_http_webtorch_snapshot_add(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot, ngx_array_t *items,
    ngx_webtorch_series_t *series);
static ngx_webtorch_handler_t *ngx_http_webtorch_snapshot_handler(
    ngx_webtorch_conf_t *conf, ngx_webtorch_series_t *series);
static ngx_int_t ngx_http_webtorch_snapshot_label(ngx_pool_t *pool,
    ngx_http_webtorch_status_item_t *item);
static void ngx_http_webtorch_snapshot_sum(
    ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_status_item_t *item);
static int ngx_libc_cdecl ngx_http_webtorch_snapshot_compare(const void *one,
    const void *two);
static ngx_int_t ngx_http_webtorch_snapshot_balancers(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot);
static ngx_int_t ngx_http_webtorch_snapshot_servers(ngx_pool_t *pool,
    ngx_http_webtorch_status_balancer_t *sb);


ngx_int_t
ngx_http_webtorch_snapshot_take(ngx_http_request_t *r,
    ngx_http_webtorch_snapshot_t *snapshot)
{
    if (ngx_http_webtorch_snapshot_begin(r->pool, snapshot, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_webtorch_space_get_use(&snapshot->zone_size, &snapshot->zone_used);

    return ngx_http_webtorch_snapshot_balancers(r->pool, snapshot);
}


ngx_int_t
ngx_http_webtorch_snapshot_take_handlers(ngx_http_request_t *r,
    ngx_http_webtorch_snapshot_t *snapshot)
{
    return ngx_http_webtorch_snapshot_begin(r->pool, snapshot, 0);
}


/* the workers, and sums over them of all series, or of handlers alone */

static ngx_int_t
ngx_http_webtorch_snapshot_begin(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot, ngx_uint_t all)
{
    ngx_time_t  *tp;

    ngx_memzero(snapshot, sizeof(ngx_http_webtorch_snapshot_t));

    tp = ngx_timeofday();

    snapshot->conf = ngx_webtorch_get_conf(ngx_cycle);
    snapshot->now = ngx_webtorch_clock_usec();
    snapshot->time = (uint64_t) tp->sec * 1000 + tp->msec;

    if (ngx_http_webtorch_snapshot_arrays(pool, snapshot) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_webtorch_metrics_shared == NULL) {
        return NGX_OK;
    }

    if (ngx_http_webtorch_snapshot_workers(snapshot) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_webtorch_snapshot_series(pool, snapshot, all);
}


static ngx_int_t
ngx_http_webtorch_snapshot_arrays(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot)
{
    ngx_uint_t    i;
    ngx_array_t  *items[] = {
        &snapshot->handlers, &snapshot->shadows, &snapshot->models,
        &snapshot->stages, &snapshot->custom
    };

    for (i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
        if (ngx_array_init(items[i], pool, 8,
                           sizeof(ngx_http_webtorch_status_item_t))
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ngx_array_init(&snapshot->workers, pool, 8,
                       sizeof(ngx_http_webtorch_status_worker_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_array_init(&snapshot->balancers, pool, 2,
                          sizeof(ngx_http_webtorch_status_balancer_t));
}


/* a worker that has just crashed is counted first */

static ngx_int_t
ngx_http_webtorch_snapshot_workers(ngx_http_webtorch_snapshot_t *snapshot)
{
    ngx_uint_t                          i, k, n;
    ngx_webtorch_metrics_shared_t      *shared;
    ngx_http_webtorch_status_worker_t  *sw;

    shared = ngx_webtorch_metrics_shared;

    ngx_webtorch_metrics_reap();

    n = ngx_webtorch_metrics_nslots();

    sw = ngx_array_push_n(&snapshot->workers, n);
    if (sw == NULL) {
        return NGX_ERROR;
    }

    /* a slot that is tried is not free for a worker that starts */

    (void) ngx_webtorch_robust_lock(&shared->mutex);

    for (i = 0; i < n; i++, sw++) {
        sw->slot = i;
        sw->alive = ngx_webtorch_metrics_alive(i);
        sw->worker = shared->slots[i].worker;

        snapshot->nalive += sw->alive;
        snapshot->crashes += sw->worker.crashes;
        snapshot->starts += sw->worker.starts;

        for (k = 0; k < NGX_WEBTORCH_METRICS_BUCKETS; k++) {
            snapshot->lag.buckets[k] += sw->worker.lag.buckets[k];
        }

        snapshot->lag.sum += sw->worker.lag.sum;
    }

    (void) pthread_mutex_unlock(&shared->mutex);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_snapshot_series(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot, ngx_uint_t all)
{
    ngx_uint_t                       i, n;
    ngx_array_t                     *items;
    ngx_webtorch_series_t           *series;
    ngx_webtorch_metrics_shared_t   *shared;

    shared = ngx_webtorch_metrics_shared;
    n = ngx_webtorch_metrics_nseries();

    for (i = 0; i < n; i++) {
        series = &shared->series[i];

        if (!all && series->kind != NGX_WEBTORCH_METRICS_HANDLER) {
            continue;
        }

        switch (series->kind) {

        case NGX_WEBTORCH_METRICS_HANDLER:
            items = &snapshot->handlers;
            break;

        case NGX_WEBTORCH_METRICS_SHADOW:
            items = &snapshot->shadows;
            break;

        case NGX_WEBTORCH_METRICS_MODEL:
            items = &snapshot->models;
            break;

        case NGX_WEBTORCH_METRICS_STAGE:
            items = &snapshot->stages;
            break;

        default: /* NGX_WEBTORCH_METRICS_CUSTOM */
            items = &snapshot->custom;
        }

        if (ngx_http_webtorch_snapshot_add(pool, snapshot, items, series)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    /* the samples of a metric follow each other */

    ngx_qsort(snapshot->custom.elts, snapshot->custom.nelts,
              sizeof(ngx_http_webtorch_status_item_t),
              ngx_http_webtorch_snapshot_compare);

    return NGX_OK;
}


/* handlers that the configuration does not have any more are left out */

static ngx_int_t
ngx_http_webtorch_snapshot_add(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot, ngx_array_t *items,
    ngx_webtorch_series_t *series)
{
    ngx_webtorch_handler_t           *handler;
    ngx_http_webtorch_status_item_t  *item;

    handler = NULL;

    if (series->kind == NGX_WEBTORCH_METRICS_HANDLER
        || series->kind == NGX_WEBTORCH_METRICS_SHADOW)
    {
        handler = ngx_http_webtorch_snapshot_handler(snapshot->conf, series);

        if (handler == NULL) {
            return NGX_OK;
        }
    }

    item = ngx_array_push(items);
    if (item == NULL) {
        return NGX_ERROR;
    }

    item->series = series;
    item->handler = handler;
    item->name.data = (u_char *) series->key;
    item->name.len = series->name_len;

    item->cells = ngx_pcalloc(pool, (series->ncounters + series->ngauges)
                                    * sizeof(uint64_t));

    if (item->cells == NULL
        || ngx_http_webtorch_snapshot_label(pool, item) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_webtorch_snapshot_sum(snapshot, item);

    return NGX_OK;
}


static ngx_webtorch_handler_t *
ngx_http_webtorch_snapshot_handler(ngx_webtorch_conf_t *conf,
    ngx_webtorch_series_t *series)
{
    ngx_uint_t                i;
    ngx_webtorch_handler_t  **handler;

    handler = conf->handlers.elts;

    for (i = 0; i < conf->handlers.nelts; i++) {
        if (handler[i]->series == series) {
            return handler[i];
        }
    }

    return NULL;
}


/*
 * A name has few characters with escapes, if any.  Labels after that of the
 * name are written already: app:f",location="/a
 */

static ngx_int_t
ngx_http_webtorch_snapshot_label(ngx_pool_t *pool,
    ngx_http_webtorch_status_item_t *item)
{
    u_char      *p;
    ngx_str_t   *labels;
    ngx_uint_t   i;

    labels = &item->labels;
    labels->data = (u_char *) item->series->key + item->name.len;
    labels->len = item->series->key_len - item->name.len;

    p = ngx_pnalloc(pool, 2 * item->name.len + labels->len + 2);
    if (p == NULL) {
        return NGX_ERROR;
    }

    item->label.data = p;

    for (i = 0; i < item->name.len; i++) {

        if (item->name.data[i] == '"' || item->name.data[i] == '\\') {
            *p++ = '\\';
        }

        *p++ = (item->name.data[i] < ' ') ? ' ' : item->name.data[i];
    }

    if (labels->len && item->series->kind != NGX_WEBTORCH_METRICS_CUSTOM) {
        *p++ = '"';
        *p++ = ',';
        p = ngx_cpymem(p, labels->data, labels->len - 1);
    }

    item->label.len = p - item->label.data;

    return NGX_OK;
}


static void
ngx_http_webtorch_snapshot_sum(ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_status_item_t *item)
{
    uint64_t                           *cells;
    ngx_uint_t                          i;
    ngx_http_webtorch_status_worker_t  *sw;

    sw = snapshot->workers.elts;

    for (i = 0; i < snapshot->workers.nelts; i++) {
        cells = &ngx_webtorch_metrics_shared->slots[sw[i].slot]
                     .cells[item->series->first];

        ngx_webtorch_metrics_merge(item->series, item->cells, cells,
                                   sw[i].alive);
    }
}


static int ngx_libc_cdecl
ngx_http_webtorch_snapshot_compare(const void *one, const void *two)
{
    const ngx_http_webtorch_status_item_t *first = one;
    const ngx_http_webtorch_status_item_t *second = two;

    return (int) ngx_memn2cmp(first->name.data, second->name.data,
                              first->name.len, second->name.len);
}


static ngx_int_t
ngx_http_webtorch_snapshot_balancers(ngx_pool_t *pool,
    ngx_http_webtorch_snapshot_t *snapshot)
{
    ngx_uint_t                            i;
    ngx_webtorch_balancer_t             **balancer;
    ngx_http_webtorch_status_balancer_t  *sb;

    balancer = snapshot->conf->balancers.elts;

    for (i = 0; i < snapshot->conf->balancers.nelts; i++) {
        sb = ngx_array_push(&snapshot->balancers);
        if (sb == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(sb, sizeof(ngx_http_webtorch_status_balancer_t));
        sb->balancer = balancer[i];

        if (ngx_http_webtorch_snapshot_servers(pool, sb) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* picks wait while servers are copied, which takes some microseconds */

static ngx_int_t
ngx_http_webtorch_snapshot_servers(ngx_pool_t *pool,
    ngx_http_webtorch_status_balancer_t *sb)
{
    u_char                              *name;
    ngx_uint_t                           i, n;
    webtorch_params_t                   *params;
    ngx_webtorch_balance_t              *b;
    ngx_webtorch_balance_server_t       *s;
    ngx_webtorch_balancer_memory_t      *memory;
    ngx_http_webtorch_status_server_t   *server;

    memory = sb->balancer->memory;
    b = &memory->balance;
    n = b->nservers;

    if (ngx_array_init(&sb->servers, pool, n + 1,
                       sizeof(ngx_http_webtorch_status_server_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    name = ngx_pcalloc(pool, (n + 1) * NGX_WEBTORCH_BALANCER_SERVER_NAME);
    if (name == NULL) {
        return NGX_ERROR;
    }

    ngx_shmtx_lock(sb->balancer->mutex);

    params = &b->params[b->version & 1];

    sb->learned = (b->version != 0 && params->used);
    sb->loss = params->loss;
    sb->baseline = params->baseline;

    for (i = 0; i < n; i++) {
        s = &b->servers[i];

        if (sb->balancer->groups[i] == 0) {
            /* the server belongs to another configuration */
            continue;
        }

        server = ngx_array_push(&sb->servers);

        server->name.data = name;
        server->name.len = ngx_strlen(memory->names[i]);
        name = ngx_cpymem(name, memory->names[i], server->name.len);

        server->server.inflight = s->inflight;
        server->server.ejected = (s->probe != 0);
        server->server.service = s->base;
        server->server.concurrency = s->concurrency;
        server->server.error = s->error;

        server->out = b->records[i].out;
        server->picks = b->records[i].picks;
        server->ejections = b->records[i].ejections;
    }

    ngx_shmtx_unlock(sb->balancer->mutex);

    return NGX_OK;
}


ngx_uint_t
ngx_http_webtorch_snapshot_full(ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_status_item_t *item)
{
    ngx_webtorch_handler_metrics_t  *m;

    m = (ngx_webtorch_handler_metrics_t *) item->cells;

    if (m->refused_at == 0
        || ngx_webtorch_elapsed_usec(snapshot->now, m->refused_at)
           > NGX_WEBTORCH_METRICS_FULL)
    {
        return 0;
    }

    return 1 + ngx_webtorch_elapsed_usec(snapshot->now, m->full) / 1000000;
}


/* cells are read one after the other, while workers change them */

uint64_t
ngx_http_webtorch_snapshot_waiting(ngx_http_webtorch_status_item_t *item)
{
    ngx_webtorch_handler_metrics_t  *m;

    m = (ngx_webtorch_handler_metrics_t *) item->cells;

    return m->jobs > m->running ? m->jobs - m->running : 0;
}


uint64_t
ngx_http_webtorch_snapshot_codes(ngx_http_webtorch_status_item_t *item,
    ngx_uint_t first, ngx_uint_t last)
{
    uint64_t    sum;
    ngx_uint_t  i, code;

    sum = 0;

    for (i = 0; i < NGX_WEBTORCH_METRICS_CODES; i++) {
        code = item->series->codes[i];

        if (code >= first && code <= last) {
            sum += item->cells[i];
        }
    }

    return sum;
}
