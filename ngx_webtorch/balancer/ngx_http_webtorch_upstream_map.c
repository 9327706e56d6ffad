
#include "ngx_http_webtorch_upstream_map.h"
#include "ngx_webtorch_balancer_order.h"
#include "ngx_webtorch_clock.h"


static ngx_int_t ngx_http_webtorch_upstream_grow(
    ngx_http_webtorch_upstream_group_t *group, ngx_uint_t n);


void
ngx_http_webtorch_upstream_map_all(ngx_http_webtorch_upstream_conf_t *conf)
{
    ngx_uint_t                     i;
    ngx_http_upstream_rr_peers_t  *peers;

    if (conf->groups == NULL) {
        /* a later directive, such as "least_conn", has replaced the method */
        return;
    }

    peers = conf->upstream->peer.data;

    for (i = 0; i < 2 && peers; i++, peers = peers->next) {
        ngx_http_upstream_rr_peers_rlock(peers);

        (void) ngx_http_webtorch_upstream_map(conf, &conf->groups[i], peers);

        ngx_http_upstream_rr_peers_unlock(peers);
    }
}


ngx_int_t
ngx_http_webtorch_upstream_map(ngx_http_webtorch_upstream_conf_t *conf,
    ngx_http_webtorch_upstream_group_t *group,
    ngx_http_upstream_rr_peers_t *peers)
{
    uint32_t                           server;
    uint64_t                           id, now;
    ngx_uint_t                         config, i, n, backup;
    ngx_webtorch_balance_t            *b;
    ngx_webtorch_balancer_t           *balancer;
    ngx_http_upstream_rr_peer_t       *peer;
    ngx_webtorch_balance_candidate_t  *candidate;

    b = &conf->balancer->memory->balance;
    config = 0;

#if (NGX_HTTP_UPSTREAM_ZONE && nginx_version >= 1027003)
    if (peers->config) {
        config = *peers->config;
    }
#endif

    if (group->peers == peers && group->config == config
        && group->generation == b->generation)
    {
        return NGX_OK;
    }

    for (n = 0, peer = peers->peer; peer; peer = peer->next) {
        n++;
    }

    if (ngx_http_webtorch_upstream_grow(group, n) != NGX_OK) {
        return NGX_ERROR;
    }

    now = ngx_webtorch_clock_usec();
    backup = group - conf->groups;
    balancer = conf->balancer;

    ngx_shmtx_lock(balancer->mutex);

    ngx_webtorch_balancer_order_clear(balancer, backup);

    for (peer = peers->peer, i = 0; peer; peer = peer->next, i++) {
        id = ngx_webtorch_balance_hash(peer->name.data, peer->name.len);
        server = ngx_webtorch_balance_find(b, id, now);

        if (server != NGX_WEBTORCH_BALANCE_NONE) {
            ngx_webtorch_balance_reserve(b, server + 1);

            (void) ngx_cpystrn(balancer->memory->names[server],
                               peer->name.data,
                               ngx_min(peer->name.len + 1,
                                       NGX_WEBTORCH_BALANCER_SERVER_NAME));

            ngx_webtorch_balancer_order_add(balancer, server, backup,
                                            peer->down ? 1 : 0);
        }

        candidate = &group->servers[i];

        candidate->server = server;
        candidate->scale = 1.0f / (float) ngx_max(peer->weight, 1);
        candidate->max_fails = (uint32_t) peer->max_fails;
        candidate->fail_timeout = (float) peer->fail_timeout;
    }

    group->generation = b->generation;

    ngx_shmtx_unlock(balancer->mutex);

    group->peers = peers;
    group->config = config;
    group->n = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_upstream_grow(ngx_http_webtorch_upstream_group_t *group,
    ngx_uint_t n)
{
    if (n <= group->allocated) {
        return NGX_OK;
    }

    /* doubled, as the pool frees smaller arrays at the end of the cycle only */

    group->peers = NULL;
    group->allocated = 0;

    n = ngx_max(2 * n, 8);

    group->servers = ngx_palloc(ngx_cycle->pool,
                            n * sizeof(ngx_webtorch_balance_candidate_t));
    group->candidates = ngx_palloc(ngx_cycle->pool,
                            n * sizeof(ngx_webtorch_balance_candidate_t));
    group->choices = ngx_palloc(ngx_cycle->pool,
                            n * sizeof(ngx_http_webtorch_upstream_choice_t));

    if (group->servers == NULL || group->candidates == NULL
        || group->choices == NULL)
    {
        return NGX_ERROR;
    }

    group->allocated = n;

    return NGX_OK;
}
