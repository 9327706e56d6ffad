
/*
 * webtorch_clients_zone: statistics of clients, shared by all workers and kept
 * over reloads.  When the zone is full, the least recently seen client is
 * evicted.
 */

#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_clients.h"
#include "ngx_webtorch_parse.h"

#include <ngx_md5.h>


/* size of the default zone, bytes */
#define NGX_HTTP_WEBTORCH_CLIENTS_SIZE  (8 * 1024 * 1024)

/* an IPv6 address; a longer key is replaced by its MD5 */
#define NGX_HTTP_WEBTORCH_KEY_LEN       16


typedef struct {
    u_char                       color;
    u_char                       active;  /* 1: in the queue "active" */
    u_short                      len;
    ngx_queue_t                  queue;
    ngx_webtorch_client_t        client;
    u_char                       data[NGX_HTTP_WEBTORCH_KEY_LEN];
} ngx_http_webtorch_client_node_t;


typedef struct {
    ngx_rbtree_t                 rbtree;
    ngx_rbtree_node_t            sentinel;

    /* most recent first: clients with recent requests, and all others */
    ngx_queue_t                  active;
    ngx_queue_t                  idle;

    ngx_webtorch_site_t          site;
} ngx_http_webtorch_clients_shctx_t;


typedef struct {
    ngx_http_webtorch_clients_shctx_t  *sh;
    ngx_slab_pool_t                    *shpool;
    ngx_http_complex_value_t            key;
} ngx_http_webtorch_clients_t;


static char *ngx_http_webtorch_clients_add(ngx_conf_t *cf,
    ngx_http_webtorch_phases_main_conf_t *pmcf, ngx_str_t *name, size_t size,
    ngx_str_t *key);
static ngx_int_t ngx_http_webtorch_clients_init(ngx_shm_zone_t *shm_zone,
    void *data);
static ngx_uint_t ngx_http_webtorch_clients_asset(ngx_http_request_t *r);
static void ngx_http_webtorch_clients_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel);
static ngx_http_webtorch_client_node_t *ngx_http_webtorch_clients_find(
    ngx_http_webtorch_clients_t *clients, ngx_str_t *key, uint32_t hash);
static ngx_http_webtorch_client_node_t *ngx_http_webtorch_clients_create(
    ngx_http_webtorch_clients_t *clients, ngx_str_t *key, uint32_t hash);
static void ngx_http_webtorch_clients_evict(
    ngx_http_webtorch_clients_t *clients);
static void ngx_http_webtorch_clients_expire(
    ngx_http_webtorch_clients_t *clients);


char *
ngx_http_webtorch_clients_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_phases_main_conf_t *pmcf = conf;

    size_t      size;
    ngx_str_t  *value, name, s;

    if (pmcf->clients) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_webtorch_parse_zone(cf, &value[1], &name, &size) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (size < 8 * ngx_pagesize) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is too small", &value[1]);
        return NGX_CONF_ERROR;
    }

    ngx_str_set(&s, "$binary_remote_addr");

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "key=", 4) != 0 || value[2].len == 4) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }

        s.data = value[2].data + 4;
        s.len = value[2].len - 4;
    }

    return ngx_http_webtorch_clients_add(cf, pmcf, &name, size, &s);
}


char *
ngx_http_webtorch_clients_default(ngx_conf_t *cf,
    ngx_http_webtorch_phases_main_conf_t *pmcf)
{
    ngx_str_t  name, key;

    ngx_str_set(&name, "webtorch_clients");
    ngx_str_set(&key, "$binary_remote_addr");

    return ngx_http_webtorch_clients_add(cf, pmcf, &name,
                                         NGX_HTTP_WEBTORCH_CLIENTS_SIZE, &key);
}


static char *
ngx_http_webtorch_clients_add(ngx_conf_t *cf,
    ngx_http_webtorch_phases_main_conf_t *pmcf, ngx_str_t *name, size_t size,
    ngx_str_t *key)
{
    ngx_shm_zone_t                    *shm_zone;
    ngx_http_webtorch_clients_t       *clients;
    ngx_http_compile_complex_value_t   ccv;

    clients = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_clients_t));
    if (clients == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = key;
    ccv.complex_value = &clients->key;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    shm_zone = ngx_shared_memory_add(cf, name, size,
                                     &ngx_http_webtorch_phases_module);
    if (shm_zone == NULL) {
        return NGX_CONF_ERROR;
    }

    shm_zone->init = ngx_http_webtorch_clients_init;
    shm_zone->data = clients;

    pmcf->clients = shm_zone;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_webtorch_clients_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_webtorch_clients_t *old = data;

    size_t                        len;
    ngx_http_webtorch_clients_t  *clients;

    clients = shm_zone->data;

    if (old) {
        if (clients->key.value.len != old->key.value.len
            || ngx_strncmp(clients->key.value.data, old->key.value.data,
                           clients->key.value.len)
               != 0)
        {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "webtorch_clients_zone \"%V\" uses the \"%V\" key "
                          "while previously it used the \"%V\" key",
                          &shm_zone->shm.name, &clients->key.value,
                          &old->key.value);
            return NGX_ERROR;
        }

        clients->sh = old->sh;
        clients->shpool = old->shpool;

        return NGX_OK;
    }

    clients->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (shm_zone->shm.exists) {
        clients->sh = clients->shpool->data;

        return NGX_OK;
    }

    clients->sh = ngx_slab_calloc(clients->shpool,
                                  sizeof(ngx_http_webtorch_clients_shctx_t));
    if (clients->sh == NULL) {
        return NGX_ERROR;
    }

    clients->shpool->data = clients->sh;

    ngx_rbtree_init(&clients->sh->rbtree, &clients->sh->sentinel,
                    ngx_http_webtorch_clients_insert);

    ngx_queue_init(&clients->sh->active);
    ngx_queue_init(&clients->sh->idle);

    len = sizeof(" in webtorch_clients_zone \"\"") + shm_zone->shm.name.len;

    clients->shpool->log_ctx = ngx_slab_alloc(clients->shpool, len);
    if (clients->shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(clients->shpool->log_ctx,
                " in webtorch_clients_zone \"%V\"%Z", &shm_zone->shm.name);

    clients->shpool->log_nomem = 0;

    return NGX_OK;
}


void
ngx_http_webtorch_clients_key(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx)
{
    u_char                                *p;
    ngx_str_t                              value;
    ngx_md5_t                              md5;
    ngx_http_webtorch_clients_t           *clients;
    ngx_http_webtorch_phases_main_conf_t  *pmcf;

    if (ctx->keyed) {
        return;
    }

    ctx->keyed = 1;

    pmcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_phases_module);
    clients = pmcf->clients->data;

    if (ngx_http_complex_value(r, &clients->key, &value) != NGX_OK) {
        return;
    }

    if (value.len > NGX_HTTP_WEBTORCH_KEY_LEN) {
        p = ngx_pnalloc(r->pool, NGX_HTTP_WEBTORCH_KEY_LEN);
        if (p == NULL) {
            return;
        }

        ngx_md5_init(&md5);
        ngx_md5_update(&md5, value.data, value.len);
        ngx_md5_final(p, &md5);

        value.data = p;
        value.len = NGX_HTTP_WEBTORCH_KEY_LEN;
    }

    ctx->key = value;
}


void
ngx_http_webtorch_clients_arrive(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx,
    const ngx_webtorch_text_features_t *text)
{
    uint32_t                               hash;
    ngx_webtorch_arrival_t                 arrival;
    ngx_http_webtorch_clients_t           *clients;
    ngx_http_webtorch_client_node_t       *node;
    ngx_http_webtorch_phases_main_conf_t  *pmcf;

    if (ctx->counted || ctx->key.len == 0) {
        return;
    }

    ctx->counted = 1;

    pmcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_phases_module);
    clients = pmcf->clients->data;

    ngx_webtorch_arrival_target(&arrival, text);

    arrival.body = (r->headers_in.content_length_n > 0
                    || r->headers_in.chunked);
    arrival.cookie = (ngx_http_webtorch_find_header(r, "cookie") != NULL);
    arrival.asset = arrival.asset || ngx_http_webtorch_clients_asset(r);

    hash = ngx_crc32_short(ctx->key.data, ctx->key.len);

    ngx_shmtx_lock(&clients->shpool->mutex);

    node = ngx_http_webtorch_clients_find(clients, &ctx->key, hash);

    if (node == NULL) {
        node = ngx_http_webtorch_clients_create(clients, &ctx->key, hash);
    }

    if (node) {
        ngx_webtorch_client_arrive(&node->client, ngx_current_msec, &arrival);

        ngx_queue_remove(&node->queue);
        ngx_queue_insert_head(&clients->sh->active, &node->queue);

        clients->sh->site.clients += !node->active;
        node->active = 1;

        ctx->client = node->client;
    }

    ngx_http_webtorch_clients_expire(clients);

    ngx_webtorch_site_arrive(&clients->sh->site, ngx_current_msec,
                             &ctx->client);
    ctx->site = clients->sh->site;

    ngx_shmtx_unlock(&clients->shpool->mutex);

    if (node == NULL) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "could not allocate node%s", clients->shpool->log_ctx);
    }
}


/* browsers send the purpose of a request in Sec-Fetch-Dest */

static ngx_uint_t
ngx_http_webtorch_clients_asset(ngx_http_request_t *r)
{
    ngx_str_t   *value;
    ngx_uint_t   i;

    static ngx_str_t  assets[] = {
        ngx_string("script"),
        ngx_string("style"),
        ngx_string("image"),
        ngx_string("font"),
        ngx_string("audio"),
        ngx_string("video"),
        ngx_string("track"),
        ngx_string("manifest"),
        ngx_null_string
    };

    value = ngx_http_webtorch_find_header(r, "sec-fetch-dest");

    if (value == NULL) {
        return 0;
    }

    for (i = 0; assets[i].len; i++) {
        if (assets[i].len == value->len
            && ngx_memcmp(assets[i].data, value->data, value->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


void
ngx_http_webtorch_clients_finish(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx,
    const ngx_webtorch_outcome_t *outcome)
{
    uint32_t                               hash;
    ngx_http_webtorch_clients_t           *clients;
    ngx_http_webtorch_client_node_t       *node;
    ngx_http_webtorch_phases_main_conf_t  *pmcf;

    pmcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_phases_module);
    clients = pmcf->clients->data;

    hash = ngx_crc32_short(ctx->key.data, ctx->key.len);

    ngx_shmtx_lock(&clients->shpool->mutex);

    node = ngx_http_webtorch_clients_find(clients, &ctx->key, hash);

    if (node) {
        ngx_webtorch_client_finish(&node->client, outcome);
    }

    ngx_webtorch_site_finish(&clients->sh->site, outcome);

    ngx_shmtx_unlock(&clients->shpool->mutex);
}


static void
ngx_http_webtorch_clients_insert(ngx_rbtree_node_t *temp,
    ngx_rbtree_node_t *node, ngx_rbtree_node_t *sentinel)
{
    ngx_rbtree_node_t                **p;
    ngx_http_webtorch_client_node_t   *n, *t;

    for ( ;; ) {

        if (node->key < temp->key) {
            p = &temp->left;

        } else if (node->key > temp->key) {
            p = &temp->right;

        } else {
            n = (ngx_http_webtorch_client_node_t *) &node->color;
            t = (ngx_http_webtorch_client_node_t *) &temp->color;

            p = (ngx_memn2cmp(n->data, t->data, n->len, t->len) < 0)
                ? &temp->left : &temp->right;
        }

        if (*p == sentinel) {
            break;
        }

        temp = *p;
    }

    *p = node;
    node->parent = temp;
    node->left = sentinel;
    node->right = sentinel;
    ngx_rbt_red(node);
}


static ngx_http_webtorch_client_node_t *
ngx_http_webtorch_clients_find(ngx_http_webtorch_clients_t *clients,
    ngx_str_t *key, uint32_t hash)
{
    ngx_int_t                         rc;
    ngx_rbtree_node_t                *node, *sentinel;
    ngx_http_webtorch_client_node_t  *found;

    node = clients->sh->rbtree.root;
    sentinel = clients->sh->rbtree.sentinel;

    while (node != sentinel) {

        if (hash < node->key) {
            node = node->left;
            continue;
        }

        if (hash > node->key) {
            node = node->right;
            continue;
        }

        found = (ngx_http_webtorch_client_node_t *) &node->color;

        rc = ngx_memn2cmp(key->data, found->data, key->len,
                          (size_t) found->len);

        if (rc == 0) {
            return found;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


static ngx_http_webtorch_client_node_t *
ngx_http_webtorch_clients_create(ngx_http_webtorch_clients_t *clients,
    ngx_str_t *key, uint32_t hash)
{
    size_t                            size;
    ngx_rbtree_node_t                *node;
    ngx_http_webtorch_client_node_t  *created;

    size = offsetof(ngx_rbtree_node_t, color)
           + sizeof(ngx_http_webtorch_client_node_t);

    node = ngx_slab_alloc_locked(clients->shpool, size);

    if (node == NULL) {
        ngx_http_webtorch_clients_evict(clients);

        node = ngx_slab_alloc_locked(clients->shpool, size);
        if (node == NULL) {
            return NULL;
        }
    }

    node->key = hash;

    created = (ngx_http_webtorch_client_node_t *) &node->color;

    created->active = 0;
    created->len = (u_short) key->len;
    ngx_memzero(&created->client, sizeof(ngx_webtorch_client_t));
    ngx_memcpy(created->data, key->data, key->len);

    ngx_rbtree_insert(&clients->sh->rbtree, node);
    ngx_queue_insert_head(&clients->sh->idle, &created->queue);

    return created;
}


static void
ngx_http_webtorch_clients_evict(ngx_http_webtorch_clients_t *clients)
{
    ngx_queue_t                      *q, *queue;
    ngx_rbtree_node_t                *node;
    ngx_http_webtorch_client_node_t  *oldest;

    queue = ngx_queue_empty(&clients->sh->idle) ? &clients->sh->active
                                                : &clients->sh->idle;

    if (ngx_queue_empty(queue)) {
        return;
    }

    q = ngx_queue_last(queue);
    oldest = ngx_queue_data(q, ngx_http_webtorch_client_node_t, queue);

    clients->sh->site.clients -= oldest->active;

    ngx_queue_remove(q);

    node = (ngx_rbtree_node_t *)
               ((u_char *) oldest - offsetof(ngx_rbtree_node_t, color));

    ngx_rbtree_delete(&clients->sh->rbtree, node);
    ngx_slab_free_locked(clients->shpool, node);
}


/* moves at most two clients without recent requests to the idle queue */

static void
ngx_http_webtorch_clients_expire(ngx_http_webtorch_clients_t *clients)
{
    ngx_uint_t                        n;
    ngx_queue_t                      *q;
    ngx_http_webtorch_client_node_t  *node;

    for (n = 0; n < 2 && !ngx_queue_empty(&clients->sh->active); n++) {

        q = ngx_queue_last(&clients->sh->active);
        node = ngx_queue_data(q, ngx_http_webtorch_client_node_t, queue);

        /* cached times of workers differ by an iteration of their loops */

        if ((ngx_msec_int_t) (ngx_current_msec - node->client.last)
            < NGX_WEBTORCH_CLIENT_ACTIVE)
        {
            return;
        }

        ngx_queue_remove(q);
        ngx_queue_insert_head(&clients->sh->idle, q);

        node->active = 0;
        clients->sh->site.clients--;
    }
}
