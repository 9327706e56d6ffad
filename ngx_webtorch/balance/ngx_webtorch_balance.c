
/*
 * The state of a balancer: its servers, and the requests that workers have in
 * flight there.
 */

#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_service.h"

#include <string.h>


/* service of a request in seconds, until there is an outcome */
#define NGX_WEBTORCH_BALANCE_BASE  0.02f

/* requests in flight that a new server gets at first */
#define NGX_WEBTORCH_BALANCE_JOIN  4


void
ngx_webtorch_balance_init(ngx_webtorch_balance_t *b, uint32_t columns)
{
    uint32_t  i;

    b->columns = NGX_WEBTORCH_BALANCE_PAIRS / NGX_WEBTORCH_BALANCE_KEYS;
    b->random = 0x9e3779b9;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        b->levels[i].variance = 1.0f;
    }

    ngx_webtorch_balance_key_init(b);
    ngx_webtorch_balance_reserve(b, columns);
}


void
ngx_webtorch_balance_reserve(ngx_webtorch_balance_t *b, uint32_t columns)
{
    if (columns > NGX_WEBTORCH_BALANCE_SERVERS) {
        columns = NGX_WEBTORCH_BALANCE_SERVERS;
    }

    if (columns <= b->columns) {
        return;
    }

    while (b->columns < columns) {
        b->columns *= 2;
    }

    memset(b->keys, 0, sizeof(b->keys));
}


/* FNV-1a */

uint64_t
ngx_webtorch_balance_hash(const void *data, size_t len)
{
    size_t          i;
    uint64_t        hash;
    const uint8_t  *p;

    p = data;
    hash = 0xcbf29ce484222325ULL;

    for (i = 0; i < len; i++) {
        hash = (hash ^ p[i]) * 0x100000001b3ULL;
    }

    return hash ? hash : 1;
}


uint32_t
ngx_webtorch_balance_find(ngx_webtorch_balance_t *b, uint64_t id, uint64_t now)
{
    uint32_t                        i, old;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    old = NGX_WEBTORCH_BALANCE_NONE;

    for (i = 0; i < b->nservers; i++) {
        r = &b->records[i];

        if (r->id == id) {
            r->used = now;
            return i;
        }

        if (b->servers[i].inflight == 0
            && (old == NGX_WEBTORCH_BALANCE_NONE
                || r->used < b->records[old].used))
        {
            old = i;
        }
    }

    if (b->nservers < NGX_WEBTORCH_BALANCE_SERVERS) {
        old = b->nservers++;
    }

    if (old == NGX_WEBTORCH_BALANCE_NONE) {
        return old;
    }

    b->generation++;
    ngx_webtorch_balance_key_remove_server(b, old);

    s = &b->servers[old];
    r = &b->records[old];

    memset(s, 0, sizeof(ngx_webtorch_balance_server_t));
    memset(r, 0, sizeof(ngx_webtorch_balance_record_t));

    r->id = id;
    r->used = now;
    r->cold = now;

    s->finished = now;
    s->scale = 1.0f;
    s->concurrency = NGX_WEBTORCH_BALANCE_CONCURRENCY;
    s->share = 1.0f / NGX_WEBTORCH_BALANCE_CONCURRENCY;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        r->levels[i].variance = b->levels[i].variance;
    }

    /* estimates of its peers, with few requests at first */

    s->base = NGX_WEBTORCH_BALANCE_BASE;

    if (b->fleet > 0) {
        s->base = b->fleet;
        s->limit = NGX_WEBTORCH_BALANCE_JOIN;
    }

    r->fast = s->base;
    r->slow = s->base;

    return old;
}


void
ngx_webtorch_balance_begin(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req, uint64_t now)
{
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_worker_t  *w;

    s = &b->servers[req->server];
    w = &b->workers[worker];

    req->start = now;

    if (s->inflight++ == 0) {
        s->progress = now;
        s->backlog = 0;
    }

    s->backlog += req->own;

    w->inflight[req->server]++;
    w->backlog[req->server] += req->own;

    if (req->reason == NGX_WEBTORCH_BALANCE_PROBE) {
        b->records[req->server].probing = now;
    }

    ngx_webtorch_balance_key_begin(b, req, now);
}


/*
 * The sums are computed again from all other workers, as the worker may have
 * exited between two updates that belong together.
 */

void
ngx_webtorch_balance_reap(ngx_webtorch_balance_t *b, uint32_t worker)
{
    uint32_t                        i, k;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_worker_t  *w;

    w = &b->workers[worker];

    for (i = 0; i < b->nservers; i++) {
        b->servers[i].inflight = 0;
        b->servers[i].backlog = 0;

        if (w->inflight[i]) {
            /* one of them may have been the probe */
            b->records[i].probing = 0;
        }
    }

    memset(w, 0, sizeof(ngx_webtorch_balance_worker_t));

    for (k = 0; k < NGX_WEBTORCH_BALANCE_WORKERS; k++) {
        w = &b->workers[k];

        if (w->process == 0 && k != NGX_WEBTORCH_BALANCE_ALL_OTHERS) {
            continue;
        }

        for (i = 0; i < b->nservers; i++) {
            s = &b->servers[i];
            s->inflight += w->inflight[i];
            s->backlog += w->backlog[i];
        }
    }
}
