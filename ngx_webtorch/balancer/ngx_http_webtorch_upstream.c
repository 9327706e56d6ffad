
/*
 * webtorch_balancer: servers of an upstream by what they cost a request.  It
 * keeps to the round robin's peers, as least_conn does, but for what failed:
 * "max_fails" and "fail_timeout" are heeded where costs are known.
 */

#include "ngx_http_webtorch.h"
#include "ngx_webtorch_balancer.h"


/* a peer that may be picked, where it is among the others */

typedef struct {
    ngx_http_upstream_rr_peer_t        *peer;
    ngx_uint_t                          index;
} ngx_http_webtorch_choice_t;


/* the servers, or the backup servers, as this process has seen them last */

typedef struct {
    ngx_http_upstream_rr_peers_t       *peers;
    ngx_uint_t                          config;
    ngx_uint_t                          n;
    uint32_t                            generation;   /* of the numbers */

    ngx_uint_t                          allocated;
    ngx_webtorch_balance_candidate_t   *servers;      /* of all peers */

    /* for a pick, in which requests take turns */
    ngx_webtorch_balance_candidate_t   *candidates;
    ngx_http_webtorch_choice_t         *choices;
} ngx_http_webtorch_group_t;


typedef struct {
    ngx_webtorch_balancer_t            *balancer;
    ngx_int_t                           key;          /* variable */
    ngx_http_webtorch_group_t           groups[2];
} ngx_http_webtorch_upstream_conf_t;


typedef struct {
    /* the round robin data must be first */
    ngx_http_upstream_rr_peer_data_t    rrp;

    ngx_http_webtorch_upstream_conf_t  *conf;
    ngx_http_request_t                 *request;
    ngx_webtorch_balance_request_t      balance;

    unsigned                            backup:1;     /* group */
    unsigned                            known:1;      /* score and reason */
    unsigned                            inflight:1;
} ngx_http_webtorch_peer_data_t;


static ngx_int_t ngx_http_webtorch_init_balancer(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_webtorch_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_webtorch_get_peer(ngx_peer_connection_t *pc,
    void *data);
static ngx_http_webtorch_choice_t *ngx_http_webtorch_choose(
    ngx_http_webtorch_peer_data_t *wp, ngx_peer_connection_t *pc);
static ngx_int_t ngx_http_webtorch_map(ngx_http_webtorch_upstream_conf_t *conf,
    ngx_http_webtorch_group_t *group, ngx_http_upstream_rr_peers_t *peers);
static ngx_int_t ngx_http_webtorch_grow(ngx_http_webtorch_group_t *group,
    ngx_uint_t n);
static ngx_uint_t ngx_http_webtorch_usable(ngx_http_upstream_rr_peer_t *peer);
static ngx_uint_t ngx_http_webtorch_backup(
    ngx_http_webtorch_upstream_conf_t *conf,
    ngx_http_upstream_rr_peers_t *peers);
static void ngx_http_webtorch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);
static ngx_webtorch_balance_outcome_e ngx_http_webtorch_outcome(
    ngx_http_request_t *r, ngx_peer_connection_t *pc, ngx_uint_t state);
static ngx_uint_t ngx_http_webtorch_is_cut(ngx_http_upstream_t *u,
    ngx_connection_t *c);

static ngx_int_t ngx_http_webtorch_upstream_add_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_webtorch_upstream_score(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_upstream_reason(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static void *ngx_http_webtorch_upstream_create_conf(ngx_conf_t *cf);
static char *ngx_http_webtorch_balancer(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_uint_t ngx_http_webtorch_is_variable(ngx_str_t *name);


static ngx_command_t  ngx_http_webtorch_upstream_commands[] = {

    { ngx_string("webtorch_balancer"),
      NGX_HTTP_UPS_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE12,
      ngx_http_webtorch_balancer,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_webtorch_upstream_module_ctx = {
    ngx_http_webtorch_upstream_add_variables, /* preconfiguration */
    NULL,                                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_http_webtorch_upstream_create_conf, /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_webtorch_upstream_module = {
    NGX_MODULE_V1,
    &ngx_http_webtorch_upstream_module_ctx, /* module context */
    ngx_http_webtorch_upstream_commands,   /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_http_webtorch_upstream_vars[] = {

    { ngx_string("webtorch_upstream_score"), NULL,
      ngx_http_webtorch_upstream_score, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_upstream_reason"), NULL,
      ngx_http_webtorch_upstream_reason, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


/* as ngx_webtorch_balance_reason_e has them */

static ngx_str_t  ngx_http_webtorch_reasons[] = {
    ngx_string("cost"),
    ngx_string("warm"),
    ngx_string("copy"),
    ngx_string("probe"),
    ngx_string("peak"),
    ngx_string("worst"),
    ngx_string("only")
};


static ngx_int_t
ngx_http_webtorch_init_balancer(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t                   i, n;
    ngx_http_upstream_server_t  *server;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, cf->log, 0, "init webtorch balancer");

    if (ngx_http_upstream_init_round_robin(cf, us) != NGX_OK) {
        return NGX_ERROR;
    }

    us->peer.init = ngx_http_webtorch_init_peer;

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
ngx_http_webtorch_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_http_variable_value_t          *key;
    ngx_http_webtorch_peer_data_t      *wp;
    ngx_http_webtorch_upstream_conf_t  *conf;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "init webtorch balancer peer");

    wp = ngx_pcalloc(r->pool, sizeof(ngx_http_webtorch_peer_data_t));
    if (wp == NULL) {
        return NGX_ERROR;
    }

    r->upstream->peer.data = &wp->rrp;

    if (ngx_http_upstream_init_round_robin_peer(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    r->upstream->peer.get = ngx_http_webtorch_get_peer;
    r->upstream->peer.free = ngx_http_webtorch_free_peer;

    conf = ngx_http_conf_upstream_srv_conf(us,
                                           ngx_http_webtorch_upstream_module);

    wp->conf = conf;
    wp->request = r;

    if (conf->key != NGX_CONF_UNSET) {
        key = ngx_http_get_indexed_variable(r, (ngx_uint_t) conf->key);

        if (key && !key->not_found && key->len) {
            wp->balance.key = ngx_webtorch_balance_hash(key->data, key->len);
        }
    }

    ngx_http_set_ctx(r, wp, ngx_http_webtorch_upstream_module);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_webtorch_peer_data_t *wp = data;

    time_t                             now;
    uintptr_t                          m;
    ngx_int_t                          rc;
    ngx_uint_t                         n;
    ngx_http_upstream_rr_peer_t       *peer;
    ngx_http_webtorch_choice_t        *choice;
    ngx_http_upstream_rr_peers_t      *peers;
    ngx_http_upstream_rr_peer_data_t  *rrp;

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

    choice = ngx_http_webtorch_choose(wp, pc);

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

        rc = ngx_http_webtorch_get_peer(pc, wp);

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


/* the peers are locked; NULL: there is none, or there are better ones */

static ngx_http_webtorch_choice_t *
ngx_http_webtorch_choose(ngx_http_webtorch_peer_data_t *wp,
    ngx_peer_connection_t *pc)
{
    uint64_t                           now;
    uintptr_t                          m;
    ngx_uint_t                         i, n, k, backup;
    ngx_http_upstream_rr_peer_t       *peer;
    ngx_http_webtorch_group_t         *group;
    ngx_webtorch_balancer_t           *balancer;
    ngx_http_webtorch_choice_t        *choice;
    ngx_http_upstream_rr_peers_t      *peers;

    peers = wp->rrp.peers;
    group = &wp->conf->groups[wp->backup];
    balancer = wp->conf->balancer;

    if (ngx_http_webtorch_map(wp->conf, group, peers) != NGX_OK) {
        return NULL;
    }

    n = 0;

#if (NGX_HTTP_UPSTREAM_SID)
    peer = ngx_http_upstream_get_rr_peer_by_sid(&wp->rrp, pc->hint, &i, 0);

    if (peer && group->servers[i].server != NGX_WEBTORCH_BALANCE_NONE) {
        /* a session is where it is, whatever that costs */
        group->candidates[0] = group->servers[i];
        group->choices[0].peer = peer;
        group->choices[0].index = i;
        n = 1;
        goto found;
    }
#endif

    for (peer = peers->peer, i = 0;
         peer && i < group->n;
         peer = peer->next, i++)
    {
        k = i / (8 * sizeof(uintptr_t));
        m = (uintptr_t) 1 << i % (8 * sizeof(uintptr_t));

        if ((wp->rrp.tried[k] & m) && !peers->single) {
            continue;
        }

        if (!ngx_http_webtorch_usable(peer)
            || group->servers[i].server == NGX_WEBTORCH_BALANCE_NONE)
        {
            continue;
        }

        group->candidates[n] = group->servers[i];
        group->choices[n].peer = peer;
        group->choices[n].index = i;
        n++;
    }

    if (n == 0) {
        return NULL;
    }

#if (NGX_HTTP_UPSTREAM_SID)
found:
#endif

    /* asked first: peers are never locked by who has the balancer's mutex */

    backup = peers->next && ngx_http_webtorch_backup(wp->conf, peers->next);

    now = ngx_webtorch_balancer_now();

    ngx_shmtx_lock(balancer->mutex);

    i = ngx_webtorch_balance_pick(&balancer->memory->balance,
                                  group->candidates, (uint32_t) n,
                                  &wp->balance, now);

    if (wp->balance.ejected && backup) {
        ngx_shmtx_unlock(balancer->mutex);
        return NULL;
    }

    ngx_webtorch_balance_begin(&balancer->memory->balance, balancer->worker,
                               &wp->balance, now);

    ngx_shmtx_unlock(balancer->mutex);

    wp->inflight = 1;
    wp->known = 1;

    choice = &group->choices[i];

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                   "webtorch balancer: %V, %V of %ui",
                   &choice->peer->name,
                   &ngx_http_webtorch_reasons[wp->balance.reason], n);

    return choice;
}


/* the numbers of the peers' servers, which change seldom if ever */

static ngx_int_t
ngx_http_webtorch_map(ngx_http_webtorch_upstream_conf_t *conf,
    ngx_http_webtorch_group_t *group, ngx_http_upstream_rr_peers_t *peers)
{
    uint32_t                           server;
    uint64_t                           now;
    ngx_uint_t                         config, i, n;
    ngx_webtorch_balance_t            *b;
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

    if (ngx_http_webtorch_grow(group, n) != NGX_OK) {
        return NGX_ERROR;
    }

    now = ngx_webtorch_balancer_now();

    ngx_shmtx_lock(conf->balancer->mutex);

    for (peer = peers->peer, i = 0; peer; peer = peer->next, i++) {
        server = ngx_webtorch_balance_find(b,
                                ngx_webtorch_balance_hash(peer->name.data,
                                                          peer->name.len),
                                now);

        if (server != NGX_WEBTORCH_BALANCE_NONE) {
            ngx_webtorch_balance_reserve(b, server + 1);
        }

        candidate = &group->servers[i];

        candidate->server = server;
        candidate->scale = 1.0f / (float) ngx_max(peer->weight, 1);
        candidate->max_fails = (uint32_t) peer->max_fails;
        candidate->fail_timeout = (float) peer->fail_timeout;
    }

    group->generation = b->generation;

    ngx_shmtx_unlock(conf->balancer->mutex);

    group->peers = peers;
    group->config = config;
    group->n = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_grow(ngx_http_webtorch_group_t *group, ngx_uint_t n)
{
    if (n <= group->allocated) {
        return NGX_OK;
    }

    /* doubled, so that little is lost of what lives as long as the cycle */

    group->peers = NULL;
    group->allocated = 0;

    n = ngx_max(2 * n, 8);

    group->servers = ngx_palloc(ngx_cycle->pool,
                               n * sizeof(ngx_webtorch_balance_candidate_t));
    group->candidates = ngx_palloc(ngx_cycle->pool,
                               n * sizeof(ngx_webtorch_balance_candidate_t));
    group->choices = ngx_palloc(ngx_cycle->pool,
                                n * sizeof(ngx_http_webtorch_choice_t));

    if (group->servers == NULL || group->candidates == NULL
        || group->choices == NULL)
    {
        return NGX_ERROR;
    }

    group->allocated = n;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_webtorch_usable(ngx_http_upstream_rr_peer_t *peer)
{
    return !peer->down
           && (peer->max_conns == 0 || peer->conns < peer->max_conns);
}


/* whether one of the backup servers is there, and not ejected, too */

static ngx_uint_t
ngx_http_webtorch_backup(ngx_http_webtorch_upstream_conf_t *conf,
    ngx_http_upstream_rr_peers_t *peers)
{
    uint64_t                           now, probe;
    ngx_uint_t                         i, found;
    ngx_webtorch_balance_t            *b;
    ngx_http_webtorch_group_t         *group;
    ngx_http_upstream_rr_peer_t       *peer;
    ngx_webtorch_balance_candidate_t  *server;

    b = &conf->balancer->memory->balance;
    group = &conf->groups[1];
    now = ngx_webtorch_balancer_now();
    found = 0;

    ngx_http_upstream_rr_peers_rlock(peers);

    if (ngx_http_webtorch_map(conf, group, peers) == NGX_OK) {

        for (peer = peers->peer, i = 0;
             peer && i < group->n && !found;
             peer = peer->next, i++)
        {
            server = &group->servers[i];

            if (!ngx_http_webtorch_usable(peer)
                || server->server == NGX_WEBTORCH_BALANCE_NONE)
            {
                continue;
            }

            /* without the mutex: that it was so a moment ago is enough */

            probe = b->servers[server->server].probe;
            found = server->max_fails == 0 || probe <= now;
        }
    }

    ngx_http_upstream_rr_peers_unlock(peers);

    return found;
}


static void
ngx_http_webtorch_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_webtorch_peer_data_t *wp = data;

    uint64_t                         now;
    ngx_webtorch_balancer_t         *balancer;
    ngx_webtorch_balance_outcome_e   outcome;

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, pc->log, 0,
                   "free webtorch balancer peer %ui %ui", pc->tries, state);

    if (wp->inflight) {
        wp->inflight = 0;

        balancer = wp->conf->balancer;
        outcome = ngx_http_webtorch_outcome(wp->request, pc, state);

        now = ngx_webtorch_balancer_now();

        ngx_shmtx_lock(balancer->mutex);

        ngx_webtorch_balance_end(&balancer->memory->balance, balancer->worker,
                                 &wp->balance, outcome, now);

        ngx_shmtx_unlock(balancer->mutex);

        wp->balance.retry = 1;
    }

    ngx_http_upstream_free_round_robin_peer(pc, &wp->rrp, state);
}


/*
 * The state is 0 for a failure that is not asked to be sent to another server,
 * and what went wrong is not told: the answer's status, if there is one, and
 * the connection know.
 */

static ngx_webtorch_balance_outcome_e
ngx_http_webtorch_outcome(ngx_http_request_t *r, ngx_peer_connection_t *pc,
    ngx_uint_t state)
{
    ngx_uint_t            status, gone, timedout;
    ngx_connection_t     *c;
    ngx_http_upstream_t  *u;

    u = r->upstream;
    c = pc->connection;

    status = u->state ? u->state->status : 0;
    gone = r->connection->error || r->connection->timedout;
    timedout = c && (c->read->timedout || c->write->timedout);

    if (status >= NGX_HTTP_INTERNAL_SERVER_ERROR
        || status == NGX_HTTP_TOO_MANY_REQUESTS)
    {
        return NGX_WEBTORCH_BALANCE_ERROR;
    }

    if ((state & NGX_PEER_FAILED)
        || (!gone && ngx_http_webtorch_is_cut(u, c)))
    {
        return timedout ? NGX_WEBTORCH_BALANCE_TIMEOUT
                        : NGX_WEBTORCH_BALANCE_FAILED;
    }

    if (status == 0) {
        return NGX_WEBTORCH_BALANCE_CLIENT_CLOSED;
    }

    /* what a client or a tunnel takes is not the server's time */

    if (gone || u->upgrade) {
        return NGX_WEBTORCH_BALANCE_UNKNOWN;
    }

    return NGX_WEBTORCH_BALANCE_OK;
}


/* whether an answer has begun whose end does not come */

static ngx_uint_t
ngx_http_webtorch_is_cut(ngx_http_upstream_t *u, ngx_connection_t *c)
{
    ngx_event_pipe_t  *p;

    /* a length of -1: it ends as the server closes the connection */

    if (u->buffering && u->pipe) {
        p = u->pipe;

        return p->upstream_error
               || (p->upstream_eof && !p->upstream_done && p->length != -1);
    }

    return c && u->length != 0
           && (c->read->timedout || c->read->error
               || (c->read->eof && u->length != -1));
}


static ngx_int_t
ngx_http_webtorch_upstream_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_webtorch_upstream_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* of the last server that the request was sent to, in seconds */

static ngx_int_t
ngx_http_webtorch_upstream_score(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                         *p;
    ngx_http_webtorch_peer_data_t  *wp;

    wp = ngx_http_get_module_ctx(r, ngx_http_webtorch_upstream_module);

    if (wp == NULL || !wp->known) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN + sizeof(".000000") - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%.6f", (double) wp->balance.cost) - p;
    v->data = p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_upstream_reason(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      *reason;
    ngx_http_webtorch_peer_data_t  *wp;

    wp = ngx_http_get_module_ctx(r, ngx_http_webtorch_upstream_module);

    if (wp == NULL || !wp->known) {
        v->not_found = 1;
        return NGX_OK;
    }

    reason = &ngx_http_webtorch_reasons[wp->balance.reason];

    v->len = reason->len;
    v->data = reason->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static void *
ngx_http_webtorch_upstream_create_conf(ngx_conf_t *cf)
{
    ngx_http_webtorch_upstream_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_upstream_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->balancer = NULL;
     *     conf->groups = { { 0 } };
     */

    conf->key = NGX_CONF_UNSET;

    return conf;
}


static char *
ngx_http_webtorch_balancer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_upstream_conf_t *wucf = conf;

    ngx_str_t                     *value, name, key;
    ngx_uint_t                     i;
    ngx_webtorch_conf_t           *wcf;
    ngx_webtorch_handler_t        *policy;
    ngx_http_upstream_srv_conf_t  *uscf;

    if (wucf->balancer) {
        return "is duplicate";
    }

    ngx_str_set(&name, "webtorch.balancer:Policy");

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "key=$", 5) == 0
            && value[i].len > 5 && wucf->key == NGX_CONF_UNSET)
        {
            key.data = value[i].data + 5;
            key.len = value[i].len - 5;

            if (ngx_http_webtorch_is_variable(&key) == 0) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "\"%V\" is not the name of one variable, "
                                   "join several with \"map\"", &value[i]);
                return NGX_CONF_ERROR;
            }

            wucf->key = ngx_http_get_variable_index(cf, &key);

            if (wucf->key == NGX_ERROR) {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (i == 1 && ngx_http_webtorch_handler_name(&value[i]) == NGX_OK) {
            name = value[i];
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           &value[i]);
        return NGX_CONF_ERROR;
    }

    uscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);
    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);

    policy = ngx_http_webtorch_handler_add(cf, &name);
    if (policy == NULL) {
        return NGX_CONF_ERROR;
    }

    policy->policy = 1;

    wucf->balancer = ngx_webtorch_balancer_add(cf, wcf, &uscf->host);
    if (wucf->balancer == NULL) {
        return NGX_CONF_ERROR;
    }

    wucf->balancer->policy = policy;

    if (uscf->peer.init_upstream) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "load balancing method redefined");
    }

    uscf->peer.init_upstream = ngx_http_webtorch_init_balancer;

    uscf->flags = NGX_HTTP_UPSTREAM_CREATE
#if defined(NGX_HTTP_UPSTREAM_MODIFY)
                  |NGX_HTTP_UPSTREAM_MODIFY
#endif
                  |NGX_HTTP_UPSTREAM_WEIGHT
                  |NGX_HTTP_UPSTREAM_MAX_CONNS
                  |NGX_HTTP_UPSTREAM_MAX_FAILS
                  |NGX_HTTP_UPSTREAM_FAIL_TIMEOUT
                  |NGX_HTTP_UPSTREAM_DOWN
                  |NGX_HTTP_UPSTREAM_BACKUP;

    return NGX_CONF_OK;
}


/* nginx takes any name of those that begin with arg_, http_ and the like */

static ngx_uint_t
ngx_http_webtorch_is_variable(ngx_str_t *name)
{
    u_char      c;
    ngx_uint_t  i;

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z')
            && !(c >= '0' && c <= '9') && c != '_')
        {
            return 0;
        }
    }

    return 1;
}
