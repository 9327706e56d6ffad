
/*
 * webtorch_inference_protocol: routes the addresses of the Open Inference
 * Protocol, which name a model, its version and what to do with it.
 */

#include "ngx_http_webtorch_protocol.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_infer.h"
#include "ngx_http_webtorch_metadata.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_http_webtorch_version_set.h"
#include "ngx_webtorch_training.h"


#define NGX_HTTP_WEBTORCH_READ  (WEBTORCH_GET|WEBTORCH_HEAD)


typedef struct {
    ngx_str_t     path;
    uint32_t      methods;
    ngx_int_t   (*handler)(ngx_http_request_t *r,
                           ngx_webtorch_endpoint_t *endpoint);
    ngx_uint_t    body;                   /* the handler reads it */
} ngx_http_webtorch_route_t;


static ngx_int_t ngx_http_webtorch_get_path(ngx_http_request_t *r,
    ngx_str_t *path);
static ngx_int_t ngx_http_webtorch_take_version(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_str_t *path);
static void ngx_http_webtorch_take_segment(ngx_str_t *path, ngx_str_t *segment);
static ngx_http_webtorch_route_t *ngx_http_webtorch_find_route(
    ngx_http_webtorch_route_t *route, ngx_str_t *path);
static ngx_int_t ngx_http_webtorch_run_route(ngx_http_request_t *r,
    ngx_http_webtorch_route_t *route, ngx_webtorch_endpoint_t *endpoint);
static ngx_int_t ngx_http_webtorch_not_found(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_infer_model(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
static ngx_int_t ngx_http_webtorch_generate_model(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
static ngx_int_t ngx_http_webtorch_generate_events(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
static ngx_int_t ngx_http_webtorch_generate_route(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_uint_t events);

static ngx_int_t ngx_http_webtorch_live(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
static ngx_int_t ngx_http_webtorch_ready(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
static ngx_int_t ngx_http_webtorch_model_ready(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
static ngx_int_t ngx_http_webtorch_not_ready(ngx_http_request_t *r);


static ngx_http_webtorch_route_t  ngx_http_webtorch_server_routes[] = {

    { ngx_string(""),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_server_metadata, 0 },

    { ngx_string("health/live"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_live, 0 },

    { ngx_string("health/ready"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_ready, 0 },

    { ngx_string("models/stats"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_stats, 0 },

    { ngx_string("repository/index"),
      WEBTORCH_POST, ngx_http_webtorch_model_index, 0 },

    { ngx_null_string, 0, NULL, 0 }
};


static ngx_http_webtorch_route_t  ngx_http_webtorch_model_routes[] = {

    { ngx_string("infer"),
      WEBTORCH_POST, ngx_http_webtorch_infer_model, 1 },

    { ngx_string("generate"),
      WEBTORCH_POST, ngx_http_webtorch_generate_model, 1 },

    { ngx_string("generate_stream"),
      WEBTORCH_POST, ngx_http_webtorch_generate_events, 1 },

    { ngx_string(""),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_metadata, 0 },

    { ngx_string("config"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_config, 0 },

    { ngx_string("ready"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_ready, 0 },

    { ngx_string("stats"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_stats, 0 },

    { ngx_null_string, 0, NULL, 0 }
};


static ngx_str_t  ngx_http_webtorch_none = ngx_null_string;


ngx_http_webtorch_generate_pt  ngx_http_webtorch_protocol_generate;


ngx_int_t
ngx_http_webtorch_protocol_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_str_t                   path, name;
    ngx_webtorch_conf_t        *wcf;
    ngx_webtorch_endpoint_t    *endpoint;
    ngx_http_webtorch_route_t  *route;

    if (ngx_http_webtorch_get_ctx(r) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_webtorch_get_path(r, &path) != NGX_OK) {
        return ngx_http_webtorch_not_found(r);
    }

    route = ngx_http_webtorch_find_route(ngx_http_webtorch_server_routes,
                                         &path);

    if (route) {
        return ngx_http_webtorch_run_route(r, route, NULL);
    }

    ngx_http_webtorch_take_segment(&path, &name);

    if (name.len != 6 || ngx_memcmp(name.data, "models", 6) != 0) {
        return ngx_http_webtorch_not_found(r);
    }

    ngx_http_webtorch_take_segment(&path, &name);

    wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);
    endpoint = ngx_webtorch_endpoint_find(wcf, &name);

    if (endpoint == NULL) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_NOT_FOUND, "not_found",
                                        "no model has this name");
    }

    rc = ngx_http_webtorch_take_version(r, endpoint, &path);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    route = ngx_http_webtorch_find_route(ngx_http_webtorch_model_routes, &path);

    return route ? ngx_http_webtorch_run_route(r, route, endpoint)
                 : ngx_http_webtorch_not_found(r);
}


/* the part after "/v2", which may be anywhere, without slashes at its ends */

static ngx_int_t
ngx_http_webtorch_get_path(ngx_http_request_t *r, ngx_str_t *path)
{
    u_char  *p, *last;

    last = r->uri.data + r->uri.len;

    for (p = r->uri.data; p && last - p >= 3; p = ngx_strlchr(p, last, '/')) {

        if (ngx_memcmp(p, "/v2", 3) == 0 && (p + 3 == last || p[3] == '/')) {
            p += 3;

            if (p < last) {
                p++;
            }

            if (p < last && last[-1] == '/') {
                last--;
            }

            path->data = p;
            path->len = last - p;

            return NGX_OK;
        }

        p++;
    }

    return NGX_DECLINED;
}


/*
 * Takes "versions/VERSION", which is optional, off the path; NGX_DECLINED: the
 * function has it.
 */

static ngx_int_t
ngx_http_webtorch_take_version(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_str_t *path)
{
    ngx_str_t                 rest, segment;
    ngx_http_webtorch_ctx_t  *ctx;

    rest = *path;

    ngx_http_webtorch_take_segment(&rest, &segment);

    if (segment.len != 8 || ngx_memcmp(segment.data, "versions", 8) != 0) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_http_webtorch_take_segment(&rest, &ctx->version);

    *path = rest;

    return ngx_http_webtorch_version_set_of_function(r, ctx, endpoint->handler,
                                                     &ctx->version);
}


/* takes the first segment off the path */

static void
ngx_http_webtorch_take_segment(ngx_str_t *path, ngx_str_t *segment)
{
    u_char  *p, *last;

    last = path->data + path->len;
    p = ngx_strlchr(path->data, last, '/');

    segment->data = path->data;
    segment->len = (p ? p : last) - path->data;

    path->data = p ? p + 1 : last;
    path->len = last - path->data;
}


static ngx_http_webtorch_route_t *
ngx_http_webtorch_find_route(ngx_http_webtorch_route_t *route, ngx_str_t *path)
{
    for ( /* void */ ; route->handler; route++) {
        if (route->path.len == path->len
            && ngx_memcmp(route->path.data, path->data, path->len) == 0)
        {
            return route;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_webtorch_run_route(ngx_http_request_t *r,
    ngx_http_webtorch_route_t *route, ngx_webtorch_endpoint_t *endpoint)
{
    ngx_int_t  rc;

    if (!(ngx_http_webtorch_method(r) & route->methods)) {
        return ngx_http_webtorch_not_allowed(r, route->methods);
    }

    if (!route->body) {
        rc = ngx_http_webtorch_discard_body(r);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return route->handler(r, endpoint);
}


static ngx_int_t
ngx_http_webtorch_not_found(ngx_http_request_t *r)
{
    return ngx_http_webtorch_refuse(r, NGX_HTTP_NOT_FOUND, "not_found",
                                    "there is nothing at this address");
}


static ngx_int_t
ngx_http_webtorch_infer_model(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    if (endpoint->handler->opener) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST,
                   "wrong_operation",
                   "this function generates: send the request to "
                   "\"generate\" or \"generate_stream\"");
    }

    return ngx_http_webtorch_infer(r, endpoint);
}


static ngx_int_t
ngx_http_webtorch_generate_model(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    return ngx_http_webtorch_generate_route(r, endpoint, 0);
}


static ngx_int_t
ngx_http_webtorch_generate_events(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    return ngx_http_webtorch_generate_route(r, endpoint, 1);
}


static ngx_int_t
ngx_http_webtorch_generate_route(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_uint_t events)
{
    if (endpoint->handler->opener == NULL) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST,
                   "wrong_operation",
                   "this function does not generate: send the request to "
                   "\"infer\"");
    }

    return ngx_http_webtorch_protocol_generate(r, endpoint, events);
}


static ngx_int_t
ngx_http_webtorch_live(ngx_http_request_t *r, ngx_webtorch_endpoint_t *endpoint)
{
    return ngx_http_webtorch_send(r, NGX_HTTP_OK, &ngx_http_webtorch_none,
                                  NULL, 0);
}


static ngx_int_t
ngx_http_webtorch_ready(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    ngx_uint_t            i;
    ngx_webtorch_conf_t  *wcf;

    if (ngx_webtorch_drain_get()) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST, "not_ready",
                   "the server is drained by an operator");
    }

    wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);
    endpoint = wcf->endpoints.elts;

    if (wcf->cluster && !ngx_webtorch_rounds_joined()) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST, "not_ready",
                   "the models of the cluster are not here yet");
    }

    for (i = 0; i < wcf->endpoints.nelts; i++) {
        if (!ngx_webtorch_endpoint_loaded(&endpoint[i])) {
            return ngx_http_webtorch_not_ready(r);
        }
    }

    return ngx_http_webtorch_live(r, NULL);
}


static ngx_int_t
ngx_http_webtorch_model_ready(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    return ngx_webtorch_endpoint_loaded(endpoint)
           ? ngx_http_webtorch_live(r, NULL) : ngx_http_webtorch_not_ready(r);
}


/* the protocol wants a status of 4xx */

static ngx_int_t
ngx_http_webtorch_not_ready(ngx_http_request_t *r)
{
    return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST, "not_ready",
               "a function could not be loaded, see the error log");
}
