
#include "ngx_http_webtorch_upstream_peer.h"
#include "ngx_http_webtorch_upstream_load.h"
#include "ngx_http_webtorch_upstream_map.h"
#include "ngx_http_webtorch_upstream_outcome.h"
#include "ngx_webtorch_clock.h"


static ngx_int_t ngx_http_webtorch_upstream_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static void ngx_http_webtorch_upstream_cleanup(void *data);
static ngx_int_t ngx_http_webtorch_upstream_get_peer(
    ngx_peer_connection_t *pc, void *data);
static ngx_http_webtorch_upstream_choice_t *ngx_http_webtorch_upstream_pick(
    ngx_http_webtorch_upstream_peer_t *wp, ngx_peer_connection_t *pc);
static ngx_uint_t ngx_http_webtorch_upstream_find_candidates(
    ngx_http_webtorch_upstream_peer_t *wp, ngx_peer_connection_t *pc,
    ngx_http_webtorch_upstream_group_t *group);
static ngx_uint_t ngx_http_webtorch_upstream_is_usable(
    ngx_http_upstream_rr_peer_t *peer);
static ngx_uint_t ngx_http_webtorch_upstream_is_out(
    ngx_http_webtorch_upstream_conf_t *conf,
    ngx_webtorch_balance_candidate_t *candidate);
static ngx_uint_t ngx_http_webtorch_upstream_find_backup(
    ngx_http_webtorch_upstream_peer_t *wp,
    ngx_http_upstream_rr_peers_t *peers);
static void ngx_http_webtorch_upstream_free_peer(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t state);


/* in the order of ngx_webtorch_balance_reason_e */

ngx_str_t  ngx_http_webtorch_upstream_reasons[] = {
    ngx_string("cost"),
    ngx_string("warm"),
    ngx_string("copy"),
    ngx_string("probe"),
    ngx_string("peak"),
    ngx_string("worst"),
    ngx_string("only")
};


ngx_int_t
ngx_http_webtorch_upstream_init(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t                          i, n;
    ngx_http_upstream_server_t         *server;
    ngx_http_webtorch_upstream_conf_t  *conf;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, cf->log, 0, "init webtorch balancer");

    if (ngx_http_upstream_init_round_robin(cf, us) != NGX_OK) {
        return NGX_ERROR;
    }

    us->peer.init = ngx_http_webtorch_upstream_init_peer;

    conf = ngx_http_conf_upstream_srv_conf(us,
                                           ngx_http_webtorch_upstream_module);

    conf->groups = ngx_pcalloc(cf->pool,
                             2 * sizeof(ngx_http_webtorch_upstream_group_t));
    if (conf->groups == NULL) {
        return NGX_ERROR;
    }

    n = 0;
    server = us->servers->elts;

    for (i = 0; i < us->servers->nelts; i++) {
        n += server[i].naddrs;
    }

    if (n > NGX_WEBTORCH_BALANCE_SERVERS) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "more than %d servers in upstream \"%V\" with "
                      "\"webtorch_balancer\" in %s:%ui",
                      NGX_WEBTORCH_BALANCE_SERVERS, &us->host,
                      us->file_name, us->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_upstream_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_pool_cleanup_t                 *cln;
    ngx_http_variable_value_t          *key;
    ngx_http_webtorch_upstream_peer_t  *wp;
    ngx_http_webtorch_upstream_conf_t  *conf;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "init webtorch balancer peer");

    wp = ngx_pcalloc(r->pool, sizeof(ngx_http_webtorch_upstream_peer_t));
    cln = ngx_pool_cleanup_add(r->pool, 0);

    if (wp == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_webtorch_upstream_cleanup;
    cln->data = wp;

    r->upstream->peer.data = &wp->rrp;

    if (ngx_http_upstream_init_round_robin_peer(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    r->upstream->peer.get = ngx_http_webtorch_upstream_get_peer;
    r->upstream->peer.free = ngx_http_webtorch_upstream_free_peer;

    conf = ngx_http_conf_upstream_srv_conf(us,
                                           ngx_http_webtorch_upstream_module);

    wp->conf = conf;

    if (conf->key != NGX_CONF_UNSET) {
        key = ngx_http_get_indexed_variable(r, (ngx_uint_t) conf->key);

        if (key && !key->not_found && key->len) {
            wp->balance.key = ngx_webtorch_balance_hash(key->data, key->len);
        }
    }

    wp->request = r;

    return NGX_OK;
}


/*
 * An internal redirect clears the contexts of a request, but its pool is kept.
 * Subrequests use the same pool; the last one that was added is the first.
 */

ngx_http_webtorch_upstream_peer_t *
ngx_http_webtorch_upstream_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t                 *cln;
    ngx_http_webtorch_upstream_peer_t  *wp;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_webtorch_upstream_cleanup) {
            wp = cln->data;

            if (wp->request == r) {
                return wp;
            }
        }
    }

    return NULL;
}


static void
ngx_http_webtorch_upstream_cleanup(void *data)
{
    /* it marks the entry */
}


static ngx_int_t
ngx_http_webtorch_upstream_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_webtorch_upstream_peer_t *wp = data;

    time_t                                now;
    uintptr_t                             m;
    ngx_int_t                             rc;
    ngx_uint_t                            n;
    ngx_http_upstream_rr_peer_t          *peer;
    ngx_http_upstream_rr_peers_t         *peers;
    ngx_http_upstream_rr_peer_data_t     *rrp;
    ngx_http_webtorch_upstream_choice_t  *choice;

    rrp = &wp->rrp;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                   "get webtorch balancer peer, try: %ui", pc->tries);

    pc->cached = 0;
    pc->connection = NULL;

    now = ngx_time();
    peers = rrp->peers;

    ngx_http_upstream_rr_peers_wlock(peers);

#if (NGX_HTTP_UPSTREAM_ZONE && nginx_version >= 1027003)
    if (peers->config && rrp->config != *peers->config) {
        goto busy;
    }
#endif

    choice = ngx_http_webtorch_upstream_pick(wp, pc);

    if (choice == NULL) {
        goto failed;
    }

    peer = choice->peer;

    if (now - peer->checked > peer->fail_timeout) {
        peer->checked = now;
    }

    pc->sockaddr = peer->sockaddr;
    pc->socklen = peer->socklen;
    pc->name = &peer->name;

#if (NGX_HTTP_UPSTREAM_SID)
    pc->sid = &peer->sid;
#endif

    peer->conns++;

    rrp->current = peer;

#if defined(ngx_http_upstream_rr_peer_ref)
    ngx_http_upstream_rr_peer_ref(peers, peer);
#endif

    n = choice->index / (8 * sizeof(uintptr_t));
    m = (uintptr_t) 1 << choice->index % (8 * sizeof(uintptr_t));

    rrp->tried[n] |= m;

    ngx_http_upstream_rr_peers_unlock(peers);

    return NGX_OK;

failed:

    if (peers->next) {
        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                       "get webtorch balancer peer, backup servers");

        rrp->peers = peers->next;
        wp->backup = 1;

        n = (rrp->peers->number + (8 * sizeof(uintptr_t) - 1))
                / (8 * sizeof(uintptr_t));

        ngx_memzero(rrp->tried, n * sizeof(uintptr_t));

        ngx_http_upstream_rr_peers_unlock(peers);

        rc = ngx_http_webtorch_upstream_get_peer(pc, wp);

        if (rc != NGX_BUSY) {
            return rc;
        }

        ngx_http_upstream_rr_peers_wlock(peers);
    }

#if (NGX_HTTP_UPSTREAM_ZONE && nginx_version >= 1027003)
busy:
#endif

    ngx_http_upstream_rr_peers_unlock(peers);

    pc->name = peers->name;

    return NGX_BUSY;
}


/*
 * Picks a peer, and counts the request as in flight there.  The peers are
 * locked.  NULL: no peer can be picked, or backup servers are better.
 */

static ngx_http_webtorch_upstream_choice_t *
ngx_http_webtorch_upstream_pick(ngx_http_webtorch_upstream_peer_t *wp,
    ngx_peer_connection_t *pc)
{
    uint64_t                              now;
    ngx_uint_t                            i, n, backup;
    ngx_webtorch_balance_t               *b;
    ngx_webtorch_balancer_t              *balancer;
    ngx_http_upstream_rr_peers_t         *peers;
    ngx_http_webtorch_upstream_group_t   *group;
    ngx_http_webtorch_upstream_choice_t  *choice;

    peers = wp->rrp.peers;
    group = &wp->conf->groups[wp->backup];
    balancer = wp->conf->balancer;
    b = &balancer->memory->balance;

    if (ngx_http_webtorch_upstream_map(wp->conf, group, peers) != NGX_OK) {
        return NULL;
    }

    n = ngx_http_webtorch_upstream_find_candidates(wp, pc, group);

    if (n == 0) {
        return NULL;
    }

    /* here, as peers must not be locked while the balancer's mutex is */

    backup = peers->next
             && ngx_http_webtorch_upstream_find_backup(wp, peers->next);

    now = ngx_webtorch_clock_usec();

    ngx_shmtx_lock(balancer->mutex);

    i = ngx_webtorch_balance_pick(b, group->candidates, (uint32_t) n,
                                  &wp->balance, now);

    if (wp->balance.ejected && backup) {
        ngx_shmtx_unlock(balancer->mutex);
        return NULL;
    }

    ngx_webtorch_balance_begin(b, balancer->place, &wp->balance, now);
    b->records[wp->balance.server].picks++;

    ngx_shmtx_unlock(balancer->mutex);

    ngx_queue_insert_tail(&balancer->requests, &wp->queue);

    /* after its last server a request is answered with what that has done */

    pc->tries = ngx_min(pc->tries, wp->servers);

    wp->watches = balancer->watches;
    wp->bytes = 0;
    wp->inflight = 1;
    wp->known = 1;

    choice = &group->choices[i];

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                   "webtorch balancer: %V, %V of %ui",
                   &choice->peer->name,
                   &ngx_http_webtorch_upstream_reasons[wp->balance.reason], n);

    return choice;
}


/* sets the candidates and choices of a group, returns their number */

static ngx_uint_t
ngx_http_webtorch_upstream_find_candidates(
    ngx_http_webtorch_upstream_peer_t *wp, ngx_peer_connection_t *pc,
    ngx_http_webtorch_upstream_group_t *group)
{
    uintptr_t                      m;
    ngx_uint_t                     i, k, n;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *peers;

    peers = wp->rrp.peers;

#if (NGX_HTTP_UPSTREAM_SID)
    peer = ngx_http_upstream_get_rr_peer_by_sid(&wp->rrp, pc->hint, &i, 0);

    if (peer
        && !ngx_http_webtorch_upstream_is_out(wp->conf, &group->servers[i]))
    {
        /* a session stays on its server, whatever that costs */
        group->candidates[0] = group->servers[i];
        group->choices[0].peer = peer;
        group->choices[0].index = i;
        wp->servers = pc->tries;
        return 1;
    }
#endif

    n = 0;
    wp->servers = 0;

    for (peer = peers->peer, i = 0;
         peer && i < group->n;
         peer = peer->next, i++)
    {
        k = i / (8 * sizeof(uintptr_t));
        m = (uintptr_t) 1 << i % (8 * sizeof(uintptr_t));

        if ((wp->rrp.tried[k] & m) && !peers->single) {
            continue;
        }

        if (peer->down
            || ngx_http_webtorch_upstream_is_out(wp->conf, &group->servers[i]))
        {
            continue;
        }

        wp->servers++;

        if (!ngx_http_webtorch_upstream_is_usable(peer)) {
            continue;
        }

        group->candidates[n] = group->servers[i];
        group->choices[n].peer = peer;
        group->choices[n].index = i;
        n++;
    }

    return n;
}


static ngx_uint_t
ngx_http_webtorch_upstream_is_usable(ngx_http_upstream_rr_peer_t *peer)
{
    return !peer->down
           && (peer->max_conns == 0 || peer->conns < peer->max_conns);
}


/*
 * Whether it has no number, or an operator has ejected it.  That is read
 * without the mutex: a request that is picked while an order is given may
 * follow the old one.
 */

static ngx_uint_t
ngx_http_webtorch_upstream_is_out(ngx_http_webtorch_upstream_conf_t *conf,
    ngx_webtorch_balance_candidate_t *candidate)
{
    if (candidate->server == NGX_WEBTORCH_BALANCE_NONE) {
        return 1;
    }

    return conf->balancer->memory->balance.records[candidate->server].out;
}


/*
 * Whether a backup server can be used and is not ejected.  Those that may be
 * tried are added to wp->servers.
 */

static ngx_uint_t
ngx_http_webtorch_upstream_find_backup(ngx_http_webtorch_upstream_peer_t *wp,
    ngx_http_upstream_rr_peers_t *peers)
{
    uint64_t                             now, probe;
    ngx_uint_t                           i, found;
    ngx_webtorch_balance_t              *b;
    ngx_http_upstream_rr_peer_t         *peer;
    ngx_webtorch_balance_candidate_t    *server;
    ngx_http_webtorch_upstream_conf_t   *conf;
    ngx_http_webtorch_upstream_group_t  *group;

    conf = wp->conf;
    b = &conf->balancer->memory->balance;
    group = &conf->groups[1];
    now = ngx_webtorch_clock_usec();
    found = 0;

    ngx_http_upstream_rr_peers_rlock(peers);

    if (ngx_http_webtorch_upstream_map(conf, group, peers) == NGX_OK) {

        for (peer = peers->peer, i = 0;
             peer && i < group->n;
             peer = peer->next, i++)
        {
            server = &group->servers[i];

            if (peer->down || ngx_http_webtorch_upstream_is_out(conf, server)) {
                continue;
            }

            wp->servers++;

            if (!ngx_http_webtorch_upstream_is_usable(peer)) {
                continue;
            }

            /* without the mutex: an old value is good enough */

            probe = b->servers[server->server].probe;
            if (server->max_fails == 0 || probe <= now) {
                found = 1;
            }
        }
    }

    ngx_http_upstream_rr_peers_unlock(peers);

    return found;
}


static void
ngx_http_webtorch_upstream_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_webtorch_upstream_peer_t *wp = data;

    float                            waiting;
    uint64_t                         now;
    ngx_int_t                        rc;
    ngx_webtorch_balancer_t         *balancer;
    ngx_webtorch_balance_outcome_e   outcome;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                   "free webtorch balancer peer %ui %ui", pc->tries, state);

    if (wp->inflight) {
        wp->inflight = 0;

        ngx_queue_remove(&wp->queue);

        balancer = wp->conf->balancer;
        outcome = ngx_http_webtorch_upstream_outcome(wp, pc, state);

        now = ngx_webtorch_clock_usec();

        ngx_http_webtorch_upstream_set_answered(wp, now);
        wp->balance.refused =
                  ngx_http_webtorch_upstream_is_refused(wp->request->upstream);

        rc = ngx_http_webtorch_upstream_waiting(wp->request->upstream,
                                                &waiting);

        ngx_shmtx_lock(balancer->mutex);

        ngx_webtorch_balance_end(&balancer->memory->balance, balancer->place,
                                 &wp->balance, outcome, now);

        if (rc == NGX_OK) {
            ngx_webtorch_balance_report(&balancer->memory->balance,
                                        &wp->balance, waiting, now);
        }

        ngx_shmtx_unlock(balancer->mutex);

        wp->balance.retry = 1;
    }

    ngx_http_upstream_free_round_robin_peer(pc, &wp->rrp, state);
}


