
/* The state of a balancer: its servers. */

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

        /* an operator's order is kept as long as another place is free */

        if (b->servers[i].inflight == 0
            && (old == NGX_WEBTORCH_BALANCE_NONE
                || r->out < b->records[old].out
                || (r->out == b->records[old].out
                    && r->used < b->records[old].used)))
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
