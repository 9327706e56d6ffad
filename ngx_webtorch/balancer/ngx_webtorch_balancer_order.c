
/* The orders of operators; Python calls these functions in a thread. */

#include "ngx_webtorch_balancer_order.h"
#include "ngx_webtorch_clock.h"


/* bits of balancer->groups, for the servers and, one further, for backups */
#define NGX_WEBTORCH_BALANCER_ORDER_HAS   0x01
#define NGX_WEBTORCH_BALANCER_ORDER_DOWN  0x04


static int32_t ngx_webtorch_balancer_order_state(
    ngx_webtorch_balancer_t *balancer, uint32_t server);
static uint32_t ngx_webtorch_balancer_order_find(
    ngx_webtorch_balancer_t *balancer, const char *name, size_t len);


void
ngx_webtorch_balancer_order_clear(ngx_webtorch_balancer_t *balancer,
    ngx_uint_t backup)
{
    u_char      bits;
    ngx_uint_t  i;

    bits = (NGX_WEBTORCH_BALANCER_ORDER_HAS
            |NGX_WEBTORCH_BALANCER_ORDER_DOWN) << backup;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_SERVERS; i++) {
        balancer->groups[i] &= ~bits;
    }
}


void
ngx_webtorch_balancer_order_add(ngx_webtorch_balancer_t *balancer,
    uint32_t server, ngx_uint_t backup, ngx_uint_t down)
{
    balancer->groups[server] |= NGX_WEBTORCH_BALANCER_ORDER_HAS << backup;

    if (down) {
        balancer->groups[server] |= NGX_WEBTORCH_BALANCER_ORDER_DOWN << backup;
    }
}


uint32_t
ngx_webtorch_balancer_names(webtorch_str_t *names, uint32_t n)
{
    uint32_t                   i;
    ngx_webtorch_conf_t       *conf;
    ngx_webtorch_balancer_t  **balancer;

    conf = ngx_webtorch_get_conf(ngx_cycle);
    balancer = conf->balancers.elts;

    for (i = 0; i < n && i < conf->balancers.nelts; i++) {
        names[i].data = (char *) balancer[i]->name.data;
        names[i].len = balancer[i]->name.len;
    }

    return (uint32_t) conf->balancers.nelts;
}


uint32_t
ngx_webtorch_balancer_peers(uint32_t index, webtorch_peer_t *peers, uint32_t n)
{
    uint32_t                  i, k;
    ngx_webtorch_balance_t   *b;
    ngx_webtorch_balancer_t  *balancer;

    balancer = ngx_webtorch_balancer_get(index);
    b = &balancer->memory->balance;

    ngx_shmtx_lock(balancer->mutex);

    for (i = 0, k = 0; i < b->nservers && k < n; i++) {

        if (balancer->groups[i] == 0) {
            continue;
        }

        ngx_memcpy(peers[k].name, balancer->memory->names[i],
                   NGX_WEBTORCH_BALANCER_SERVER_NAME);

        peers[k].state = ngx_webtorch_balancer_order_state(balancer, i);
        peers[k].backup = (balancer->groups[i]
                           & NGX_WEBTORCH_BALANCER_ORDER_HAS) == 0;
        peers[k].inflight = b->servers[i].inflight;
        peers[k].error = b->servers[i].error;
        peers[k].picks = b->records[i].picks;
        peers[k].ejections = b->records[i].ejections;

        k++;
    }

    ngx_shmtx_unlock(balancer->mutex);

    return k;
}


static int32_t
ngx_webtorch_balancer_order_state(ngx_webtorch_balancer_t *balancer,
    uint32_t server)
{
    ngx_uint_t               has;
    ngx_webtorch_balance_t  *b;

    b = &balancer->memory->balance;
    has = balancer->groups[server];

    if (b->records[server].out) {
        return WEBTORCH_PEER_OUT;
    }

    /* all of the groups that have it say so */

    if (((has >> 2) & 0x03) == (has & 0x03)) {
        return WEBTORCH_PEER_DOWN;
    }

    return b->servers[server].probe ? WEBTORCH_PEER_EJECTED : WEBTORCH_PEER_UP;
}


int
ngx_webtorch_balancer_order(uint32_t index, const char *name, size_t len,
    int out)
{
    uint32_t                  server;
    ngx_webtorch_balancer_t  *balancer;

    balancer = ngx_webtorch_balancer_get(index);

    ngx_shmtx_lock(balancer->mutex);

    server = ngx_webtorch_balancer_order_find(balancer, name, len);

    if (server != NGX_WEBTORCH_BALANCE_NONE) {
        ngx_webtorch_balance_order(&balancer->memory->balance, server, out,
                                   ngx_webtorch_clock_usec());
    }

    ngx_shmtx_unlock(balancer->mutex);

    return server == NGX_WEBTORCH_BALANCE_NONE ? -1 : 0;
}


/*
 * The address may be a part of it, if it is too long for the memory, unless
 * that is a part of several.
 */

static uint32_t
ngx_webtorch_balancer_order_find(ngx_webtorch_balancer_t *balancer,
    const char *name, size_t len)
{
    uint64_t                 id;
    uint32_t                 i, found;
    ngx_uint_t               n;
    ngx_webtorch_balance_t  *b;

    b = &balancer->memory->balance;
    id = ngx_webtorch_balance_hash(name, len);

    found = NGX_WEBTORCH_BALANCE_NONE;
    n = 0;

    for (i = 0; i < b->nservers; i++) {

        if (balancer->groups[i] == 0) {
            continue;
        }

        if (b->records[i].id == id) {
            return i;
        }

        if (len == NGX_WEBTORCH_BALANCER_SERVER_NAME - 1
            && ngx_memcmp(balancer->memory->names[i], name, len) == 0)
        {
            found = i;
            n++;
        }
    }

    return n == 1 ? found : NGX_WEBTORCH_BALANCE_NONE;
}
