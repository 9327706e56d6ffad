
#include "ngx_webtorch_endpoint.h"


static ngx_uint_t ngx_webtorch_endpoint_is(ngx_webtorch_handler_t *handler);
static ngx_webtorch_endpoint_t *ngx_webtorch_endpoint_full(
    ngx_webtorch_conf_t *conf, ngx_str_t *name);
static ngx_uint_t ngx_webtorch_endpoint_unique(ngx_webtorch_conf_t *conf,
    ngx_str_t *function);
static ngx_int_t ngx_webtorch_endpoint_json(ngx_cycle_t *cycle,
    ngx_webtorch_endpoint_t *endpoint);
static ngx_str_t ngx_webtorch_endpoint_function(
    ngx_webtorch_endpoint_t *endpoint);
static ngx_uint_t ngx_webtorch_endpoint_same(ngx_str_t *name, ngx_str_t *other);


ngx_int_t
ngx_webtorch_endpoints_init(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_uint_t                i;
    ngx_webtorch_endpoint_t  *endpoint;
    ngx_webtorch_handler_t  **handler;

    handler = conf->handlers.elts;

    for (i = 0; i < conf->handlers.nelts; i++) {

        if (!ngx_webtorch_endpoint_is(handler[i])
            || ngx_webtorch_endpoint_full(conf, &handler[i]->name))
        {
            continue;
        }

        endpoint = ngx_array_push(&conf->endpoints);
        if (endpoint == NULL) {
            return NGX_ERROR;
        }

        endpoint->handler = handler[i];
    }

    endpoint = conf->endpoints.elts;

    for (i = 0; i < conf->endpoints.nelts; i++) {
        endpoint[i].name = ngx_webtorch_endpoint_function(&endpoint[i]);

        if (!ngx_webtorch_endpoint_unique(conf, &endpoint[i].name)) {
            endpoint[i].name = endpoint[i].handler->name;
        }

        if (ngx_webtorch_endpoint_json(cycle, &endpoint[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * A function that a phase calls gets its rows from requests.  A generate
 * function has an opener.
 */

static ngx_uint_t
ngx_webtorch_endpoint_is(ngx_webtorch_handler_t *handler)
{
    return handler->opener
           || (handler->schema.kind < WEBTORCH_HANDLER
               && handler->check == NULL);
}


ngx_webtorch_endpoint_t *
ngx_webtorch_endpoint_find(ngx_webtorch_conf_t *conf, ngx_str_t *name)
{
    ngx_uint_t                i;
    ngx_webtorch_endpoint_t  *endpoint;

    endpoint = conf->endpoints.elts;

    for (i = 0; i < conf->endpoints.nelts; i++) {
        if (ngx_webtorch_endpoint_same(&endpoint[i].name, name)) {
            return &endpoint[i];
        }
    }

    return ngx_webtorch_endpoint_full(conf, name);
}


ngx_uint_t
ngx_webtorch_endpoint_loaded(ngx_webtorch_endpoint_t *endpoint)
{
    ngx_webtorch_handler_t  *opener;

    opener = endpoint->handler->opener;

    return endpoint->handler->runner && (opener == NULL || opener->runner);
}


static ngx_webtorch_endpoint_t *
ngx_webtorch_endpoint_full(ngx_webtorch_conf_t *conf, ngx_str_t *name)
{
    ngx_uint_t                i;
    ngx_webtorch_endpoint_t  *endpoint;

    endpoint = conf->endpoints.elts;

    for (i = 0; i < conf->endpoints.nelts; i++) {
        if (ngx_webtorch_endpoint_same(&endpoint[i].handler->name, name)) {
            return &endpoint[i];
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_webtorch_endpoint_unique(ngx_webtorch_conf_t *conf, ngx_str_t *function)
{
    ngx_str_t                 other;
    ngx_uint_t                i, n;
    ngx_webtorch_endpoint_t  *endpoint;

    n = 0;
    endpoint = conf->endpoints.elts;

    for (i = 0; i < conf->endpoints.nelts; i++) {
        other = ngx_webtorch_endpoint_function(&endpoint[i]);
        n += ngx_webtorch_endpoint_same(&other, function);
    }

    return n == 1;
}


static ngx_int_t
ngx_webtorch_endpoint_json(ngx_cycle_t *cycle,
    ngx_webtorch_endpoint_t *endpoint)
{
    size_t  escape;

    escape = ngx_escape_json(NULL, endpoint->name.data, endpoint->name.len);

    endpoint->json.len = endpoint->name.len + escape;
    endpoint->json.data = ngx_pnalloc(cycle->pool, endpoint->json.len);

    if (endpoint->json.data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_escape_json(endpoint->json.data, endpoint->name.data,
                           endpoint->name.len);

    return NGX_OK;
}


/* a handler's name has one colon */

static ngx_str_t
ngx_webtorch_endpoint_function(ngx_webtorch_endpoint_t *endpoint)
{
    u_char     *last;
    ngx_str_t   name;

    name = endpoint->handler->name;
    last = name.data + name.len;

    name.data = ngx_strlchr(name.data, last, ':') + 1;
    name.len = last - name.data;

    return name;
}


static ngx_uint_t
ngx_webtorch_endpoint_same(ngx_str_t *name, ngx_str_t *other)
{
    return name->len == other->len
           && ngx_memcmp(name->data, other->data, name->len) == 0;
}
