
/*
 * webtorch_inference_protocol: the Open Inference Protocol.  What is asked for
 * is told by the address: a model's name, its version, what to do with it.
 */

#include "ngx_http_webtorch_protocol.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_metadata.h"
#include "ngx_http_webtorch_send.h"


#define NGX_HTTP_WEBTORCH_HEAD_LENGTH  "Inference-Header-Content-Length"

#define NGX_HTTP_WEBTORCH_READ         (WEBTORCH_GET|WEBTORCH_HEAD)


typedef struct {
    ngx_str_t     path;
    uint32_t      methods;
    ngx_int_t   (*handler)(ngx_http_request_t *r, ngx_webtorch_model_t *model);
} ngx_http_webtorch_route_t;


static ngx_int_t ngx_http_webtorch_path(ngx_http_request_t *r,
    ngx_str_t *path);
static ngx_int_t ngx_http_webtorch_version(ngx_str_t *path);
static void ngx_http_webtorch_segment(ngx_str_t *path, ngx_str_t *segment);
static ngx_http_webtorch_route_t *ngx_http_webtorch_find_route(
    ngx_http_webtorch_route_t *route, ngx_str_t *path);
static ngx_int_t ngx_http_webtorch_go(ngx_http_request_t *r,
    ngx_http_webtorch_route_t *route, ngx_webtorch_model_t *model);
static ngx_int_t ngx_http_webtorch_not_found(ngx_http_request_t *r);

static ngx_int_t ngx_http_webtorch_live(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);
static ngx_int_t ngx_http_webtorch_ready(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);
static ngx_int_t ngx_http_webtorch_model_ready(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);
static ngx_int_t ngx_http_webtorch_not_ready(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_infer(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);
static ngx_int_t ngx_http_webtorch_json_length(ngx_http_request_t *r,
    ssize_t *length);

static int ngx_http_webtorch_oip_decode(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err);
static ngx_int_t ngx_http_webtorch_oip_answer(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *specs, const void **data);
static size_t ngx_http_webtorch_oip_rows(ngx_http_webtorch_ctx_t *ctx,
    webtorch_spec_t *specs, ngx_uint_t i, const void **data);
static u_char *ngx_http_webtorch_oip_copy(ngx_http_webtorch_ctx_t *ctx,
    u_char *p, webtorch_spec_t *specs, const void **data);
static ngx_int_t ngx_http_webtorch_oip_send(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *json, webtorch_spec_t *specs,
    const void **data);


static ngx_http_webtorch_route_t  ngx_http_webtorch_server_routes[] = {

    { ngx_string(""),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_server_metadata },

    { ngx_string("health/live"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_live },

    { ngx_string("health/ready"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_ready },

    { ngx_string("models/stats"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_stats },

    { ngx_string("repository/index"),
      WEBTORCH_POST, ngx_http_webtorch_model_index },

    { ngx_null_string, 0, NULL }
};


static ngx_http_webtorch_route_t  ngx_http_webtorch_model_routes[] = {

    { ngx_string("infer"),
      WEBTORCH_POST, ngx_http_webtorch_infer },

    { ngx_string(""),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_metadata },

    { ngx_string("config"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_config },

    { ngx_string("ready"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_ready },

    { ngx_string("stats"),
      NGX_HTTP_WEBTORCH_READ, ngx_http_webtorch_model_stats },

    { ngx_null_string, 0, NULL }
};


static const ngx_http_webtorch_wire_t  ngx_http_webtorch_oip = {
    ngx_http_webtorch_oip_decode,
    ngx_http_webtorch_oip_answer
};


static ngx_str_t  ngx_http_webtorch_none = ngx_null_string;
static ngx_str_t  ngx_http_webtorch_json = ngx_string("application/json");
static ngx_str_t  ngx_http_webtorch_octets =
    ngx_string("application/octet-stream");


ngx_int_t
ngx_http_webtorch_protocol_handler(ngx_http_request_t *r)
{
    ngx_str_t                   path, name;
    ngx_webtorch_conf_t        *wcf;
    ngx_webtorch_model_t       *model;
    ngx_http_webtorch_route_t  *route;

    if (ngx_http_webtorch_get_ctx(r) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_webtorch_path(r, &path) != NGX_OK) {
        return ngx_http_webtorch_not_found(r);
    }

    route = ngx_http_webtorch_find_route(ngx_http_webtorch_server_routes,
                                         &path);

    if (route) {
        return ngx_http_webtorch_go(r, route, NULL);
    }

    ngx_http_webtorch_segment(&path, &name);

    if (name.len != 6 || ngx_memcmp(name.data, "models", 6) != 0) {
        return ngx_http_webtorch_not_found(r);
    }

    ngx_http_webtorch_segment(&path, &name);

    wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);
    model = ngx_webtorch_model_find(wcf, &name);

    if (model == NULL) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_NOT_FOUND, "not_found",
                                        "no model has this name");
    }

    if (ngx_http_webtorch_version(&path) != NGX_OK) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_NOT_FOUND, "not_found",
                                        "the model has version 1 only");
    }

    route = ngx_http_webtorch_find_route(ngx_http_webtorch_model_routes, &path);

    return route ? ngx_http_webtorch_go(r, route, model)
                 : ngx_http_webtorch_not_found(r);
}


/* what is behind "/v2", which may be anywhere, without slashes around it */

static ngx_int_t
ngx_http_webtorch_path(ngx_http_request_t *r, ngx_str_t *path)
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


/* skips "versions/1", which may be left out */

static ngx_int_t
ngx_http_webtorch_version(ngx_str_t *path)
{
    ngx_str_t  rest, segment;

    rest = *path;

    ngx_http_webtorch_segment(&rest, &segment);

    if (segment.len != 8 || ngx_memcmp(segment.data, "versions", 8) != 0) {
        return NGX_OK;
    }

    ngx_http_webtorch_segment(&rest, &segment);

    if (segment.len != 1 || segment.data[0] != '1') {
        return NGX_DECLINED;
    }

    *path = rest;

    return NGX_OK;
}


/* takes the first segment off the path */

static void
ngx_http_webtorch_segment(ngx_str_t *path, ngx_str_t *segment)
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
ngx_http_webtorch_go(ngx_http_request_t *r, ngx_http_webtorch_route_t *route,
    ngx_webtorch_model_t *model)
{
    ngx_int_t  rc;

    if (!(ngx_http_webtorch_method(r) & route->methods)) {
        return ngx_http_webtorch_not_allowed(r, route->methods);
    }

    /* only the function that infers reads a body */

    if (route->handler != ngx_http_webtorch_infer) {
        rc = ngx_http_discard_request_body(r);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return route->handler(r, model);
}


static ngx_int_t
ngx_http_webtorch_not_found(ngx_http_request_t *r)
{
    return ngx_http_webtorch_refuse(r, NGX_HTTP_NOT_FOUND, "not_found",
                                    "there is nothing at this address");
}


static ngx_int_t
ngx_http_webtorch_live(ngx_http_request_t *r, ngx_webtorch_model_t *model)
{
    return ngx_http_webtorch_send(r, NGX_HTTP_OK, &ngx_http_webtorch_none,
                                  NULL, 0);
}


static ngx_int_t
ngx_http_webtorch_ready(ngx_http_request_t *r, ngx_webtorch_model_t *model)
{
    ngx_uint_t            i;
    ngx_webtorch_conf_t  *wcf;

    wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);
    model = wcf->models.elts;

    for (i = 0; i < wcf->models.nelts; i++) {
        if (model[i].handler->runner == NULL) {
            return ngx_http_webtorch_not_ready(r);
        }
    }

    return ngx_http_webtorch_live(r, NULL);
}


static ngx_int_t
ngx_http_webtorch_model_ready(ngx_http_request_t *r,
    ngx_webtorch_model_t *model)
{
    return model->handler->runner ? ngx_http_webtorch_live(r, NULL)
                                  : ngx_http_webtorch_not_ready(r);
}


/* the protocol wants a status of 4xx */

static ngx_int_t
ngx_http_webtorch_not_ready(ngx_http_request_t *r)
{
    return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST, "not_ready",
               "a function could not be loaded, see the error log");
}


static ngx_int_t
ngx_http_webtorch_infer(ngx_http_request_t *r, ngx_webtorch_model_t *model)
{
    ngx_int_t                 rc;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ctx->handler = model->handler;
    ctx->model = model;
    ctx->wire = &ngx_http_webtorch_oip;
    ctx->padded = 1;

    if (ngx_http_webtorch_json_length(r, &ctx->json) != NGX_OK) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST,
                   "malformed_body",
                   "the header \"" NGX_HTTP_WEBTORCH_HEAD_LENGTH "\" is no "
                   "number");
    }

    ctx->text = (ctx->json < 0);

    rc = ngx_http_webtorch_admit(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ctx->oip = ngx_palloc(r->pool, sizeof(ngx_webtorch_oip_t));
    if (ctx->oip == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_serve(r);
}


static ngx_int_t
ngx_http_webtorch_json_length(ngx_http_request_t *r, ssize_t *length)
{
    ngx_str_t  *value;

    value = ngx_http_webtorch_find_header(r,
                                          "inference-header-content-length");

    if (value == NULL) {
        *length = -1;
        return NGX_OK;
    }

    *length = ngx_atosz(value->data, value->len);

    return (*length == NGX_ERROR) ? NGX_ERROR : NGX_OK;
}


static int
ngx_http_webtorch_oip_decode(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
    ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err)
{
    size_t  json;

    json = (ctx->json == -1) ? body->len : (size_t) ctx->json;

    return ngx_webtorch_oip_decode((char *) body->data, body->len, json,
                                   &ctx->handler->schema, sink, &ctx->layout,
                                   ctx->oip, err);
}


static ngx_int_t
ngx_http_webtorch_oip_answer(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *specs, const void **data)
{
    u_char      *last;
    size_t       size, binary;
    ngx_str_t    json, name, length;
    ngx_uint_t   i, copy;

    binary = 0;

    for (i = 0; i < ctx->oip->noutputs; i++) {
        binary += ngx_http_webtorch_oip_rows(ctx, specs, i, data);
    }

    /* strings are not in memory as they are sent */

    copy = (binary <= WEBTORCH_COPY_SIZE
            || ctx->handler->schema.output_strings
            || ngx_http_webtorch_hold(r, ctx->waiter.batch) != NGX_OK);

    size = ngx_webtorch_oip_bound(ctx->oip, ctx->model->json.len, specs,
                                  &ctx->layout);

    json.data = ngx_pnalloc(r->pool,
                            size + (copy ? binary : 0) + NGX_SIZE_T_LEN);
    if (json.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    last = (u_char *) ngx_webtorch_oip_encode((char *) json.data, ctx->oip,
                          (char *) ctx->model->json.data,
                          ctx->model->json.len, specs, data, &ctx->layout);
    json.len = last - json.data;

    if (binary == 0) {
        return ngx_http_webtorch_send(r, NGX_HTTP_OK, &ngx_http_webtorch_json,
                                      json.data, json.len);
    }

    if (copy) {
        last = ngx_http_webtorch_oip_copy(ctx, last, specs, data);
    }

    ngx_str_set(&name, NGX_HTTP_WEBTORCH_HEAD_LENGTH);

    length.data = last;
    length.len = ngx_sprintf(last, "%uz", json.len) - last;

    if (ngx_http_webtorch_add_header(r, &name, &length) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (copy) {
        return ngx_http_webtorch_send(r, NGX_HTTP_OK,
                                      &ngx_http_webtorch_octets, json.data,
                                      last - json.data);
    }

    return ngx_http_webtorch_oip_send(r, ctx, &json, specs, data);
}


/* bytes of an output that is sent as such, in the order of the answer */

static size_t
ngx_http_webtorch_oip_rows(ngx_http_webtorch_ctx_t *ctx,
    webtorch_spec_t *specs, ngx_uint_t i, const void **data)
{
    ngx_uint_t  k;

    if (!(ctx->oip->binary & (1u << i))) {
        return 0;
    }

    k = ctx->oip->outputs[i];

    return ngx_webtorch_oip_size(&specs[k], data[k], ctx->layout.rows);
}


static u_char *
ngx_http_webtorch_oip_copy(ngx_http_webtorch_ctx_t *ctx, u_char *p,
    webtorch_spec_t *specs, const void **data)
{
    uint32_t    k;
    ngx_uint_t  i;

    for (i = 0; i < ctx->oip->noutputs; i++) {

        if (ctx->oip->binary & (1u << i)) {
            k = ctx->oip->outputs[i];
            p = (u_char *) ngx_webtorch_oip_pack((char *) p, &specs[k], data[k],
                                                 ctx->layout.rows);
        }
    }

    return p;
}


/* the rows are sent from where they are */

static ngx_int_t
ngx_http_webtorch_oip_send(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *json, webtorch_spec_t *specs, const void **data)
{
    size_t        len, size;
    ngx_uint_t    i;
    ngx_chain_t  *out, **ll;

    len = 0;
    ll = &out;

    if (ngx_http_webtorch_add_piece(r, &ll, (char *) json->data, json->len,
                                    &len)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (i = 0; i < ctx->oip->noutputs; i++) {
        size = ngx_http_webtorch_oip_rows(ctx, specs, i, data);

        if (ngx_http_webtorch_add_piece(r, &ll,
                                        (char *) data[ctx->oip->outputs[i]],
                                        size, &len)
            != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    *ll = NULL;

    return ngx_http_webtorch_send_chain(r, NGX_HTTP_OK,
                                        &ngx_http_webtorch_octets, out, len);
}
