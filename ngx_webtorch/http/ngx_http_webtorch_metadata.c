
#include "ngx_http_webtorch_metadata.h"
#include "ngx_http_webtorch.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_webtorch_oip_reply.h"
#include "ngx_webtorch_version_set.h"


/* bytes of a tensor's or a model's JSON without its name */
#define NGX_HTTP_WEBTORCH_ENTRY_LEN  512

/* versions of a function that are listed, beside the first */
#define NGX_HTTP_WEBTORCH_VERSIONS   32


typedef u_char  ngx_http_webtorch_version_t[WEBTORCH_VERSION_SET_LEN];


static ngx_int_t ngx_http_webtorch_describe(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_uint_t config);
static u_char *ngx_http_webtorch_write_tensors(u_char *p,
    webtorch_schema_t *schema, ngx_uint_t inputs, ngx_uint_t config);
static u_char *ngx_http_webtorch_write_gaps(u_char *p, webtorch_gap_t *gap,
    ngx_uint_t config);
static ngx_uint_t ngx_http_webtorch_versions(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_version_t **versions);
static u_char *ngx_http_webtorch_write_stats(u_char *p,
    ngx_webtorch_endpoint_t *endpoint);
static u_char *ngx_http_webtorch_write_state(u_char *p,
    ngx_webtorch_endpoint_t *endpoint, const char *version);
static ngx_int_t ngx_http_webtorch_send_json(ngx_http_request_t *r, u_char *p,
    u_char *last);


ngx_int_t
ngx_http_webtorch_server_metadata(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    static u_char  json[] =
        "{\"name\":\"webtorch\",\"version\":\"" NGX_WEBTORCH_VERSION "\","
        "\"extensions\":[\"binary_tensor_data\",\"model_configuration\","
        "\"model_repository\",\"statistics\"]}";

    return ngx_http_webtorch_send_json(r, json, json + sizeof(json) - 1);
}


ngx_int_t
ngx_http_webtorch_handler_metadata(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler)
{
    ngx_int_t                rc;
    ngx_webtorch_endpoint_t  endpoint;

    rc = ngx_http_webtorch_discard_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_webtorch_add_allow(r, handler->schema.methods
                                       |WEBTORCH_OPTIONS)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&endpoint, sizeof(ngx_webtorch_endpoint_t));

    /* names of modules and functions need no escapes */

    endpoint.json = handler->name;
    endpoint.handler = handler;

    return ngx_http_webtorch_describe(r, &endpoint, 0);
}


ngx_int_t
ngx_http_webtorch_model_metadata(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    return ngx_http_webtorch_describe(r, endpoint, 0);
}


ngx_int_t
ngx_http_webtorch_model_config(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    return ngx_http_webtorch_describe(r, endpoint, 1);
}


/* a configuration has other keys, and shapes without the batch axis */

static ngx_int_t
ngx_http_webtorch_describe(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_uint_t config)
{
    u_char                       *start, *p;
    ngx_uint_t                    i, n;
    webtorch_schema_t            *schema;
    ngx_webtorch_handler_t       *handler;
    ngx_http_webtorch_version_t  *versions;

    handler = endpoint->handler;
    schema = &handler->schema;

    if (handler->describe) {
        schema = ngx_palloc(r->pool, sizeof(webtorch_schema_t));
        if (schema == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        handler->describe(handler, schema);
    }

    n = config ? 0 : ngx_http_webtorch_versions(r, handler, &versions);

    start = ngx_pnalloc(r->pool,
                        endpoint->json.len + n * WEBTORCH_VERSION_SET_LEN
                        + (1 + schema->ninputs + schema->noutputs)
                          * (NGX_HTTP_WEBTORCH_ENTRY_LEN + WEBTORCH_NAME_LEN));
    if (start == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_sprintf(start, "{\"name\":\"%V\",\"platform\":\"webtorch_python\"",
                    &endpoint->json);

    if (config) {
        p = ngx_sprintf(p, ",\"backend\":\"webtorch\",\"max_batch_size\":%ui,",
                        schema->batched ? handler->max_batch : 0);

        if (handler->opener) {
            p = ngx_sprintf(p, "\"model_transaction_policy\":"
                               "{\"decoupled\":true},");
        }

    } else {
        p = ngx_sprintf(p, ",\"versions\":[\"1\"");

        for (i = 0; i < n; i++) {
            p = ngx_sprintf(p, ",\"%s\"", versions[i]);
        }

        p = ngx_sprintf(p, "],");
    }

    p = ngx_sprintf(p, config ? "\"input\":[" : "\"inputs\":[");
    p = ngx_http_webtorch_write_tensors(p, schema, 1, config);

    p = ngx_sprintf(p, config ? "],\"output\":[" : "],\"outputs\":[");
    p = ngx_http_webtorch_write_tensors(p, schema, 0, config);

    p = ngx_sprintf(p, "]}");

    return ngx_http_webtorch_send_json(r, start, p);
}


static u_char *
ngx_http_webtorch_write_tensors(u_char *p, webtorch_schema_t *schema,
    ngx_uint_t inputs, ngx_uint_t config)
{
    int32_t           axis;
    uint32_t          i, n;
    const char       *comma;
    webtorch_spec_t  *specs;

    specs = inputs ? schema->inputs : schema->outputs;
    n = inputs ? schema->ninputs : schema->noutputs;

    for (i = 0; i < n; i++) {
        p = ngx_sprintf(p, "%s{\"name\":\"%s\",\"%s%s\",\"%s\":[",
                        i ? "," : "", specs[i].name,
                        config ? "data_type\":\"TYPE_" : "datatype\":\"",
                        (config && ngx_webtorch_is_string(specs[i].dtype))
                        ? "STRING" : ngx_webtorch_oip_datatype(specs[i].dtype),
                        config ? "dims" : "shape");

        comma = "";

        if (schema->batched && !config) {
            p = ngx_sprintf(p, "-1");
            comma = ",";
        }

        for (axis = 0; axis < specs[i].ndim; axis++) {
            /* -1 is any variable axis */
            p = ngx_sprintf(p, "%s%L", comma,
                            ngx_max(specs[i].shape[axis], -1));
            comma = ",";
        }

        *p++ = ']';

        if (inputs) {
            p = ngx_http_webtorch_write_gaps(p, &schema->gaps[i], config);
        }

        *p++ = '}';
    }

    return p;
}


/* a configuration has no parameters of tensors */

static u_char *
ngx_http_webtorch_write_gaps(u_char *p, webtorch_gap_t *gap, ngx_uint_t config)
{
    ngx_uint_t  optional;

    optional = (gap->flags & (WEBTORCH_OPTIONAL|WEBTORCH_DEFAULT)) != 0;

    if (config) {
        return optional ? ngx_sprintf(p, ",\"optional\":true") : p;
    }

    if (gap->flags == 0) {
        return p;
    }

    return ngx_sprintf(p, ",\"parameters\":{\"optional\":%s,\"missing\":%s}",
                       optional ? "true" : "false",
                       (gap->flags & WEBTORCH_MISSING) ? "true" : "false");
}


ngx_int_t
ngx_http_webtorch_model_stats(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    size_t                size;
    u_char               *start, *p;
    ngx_uint_t            i, n;
    ngx_webtorch_conf_t  *wcf;

    n = 1;

    if (endpoint == NULL) {
        wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);

        endpoint = wcf->endpoints.elts;
        n = wcf->endpoints.nelts;
    }

    size = sizeof("{\"model_stats\":[]}");

    for (i = 0; i < n; i++) {
        size += NGX_HTTP_WEBTORCH_ENTRY_LEN + endpoint[i].json.len;
    }

    start = ngx_pnalloc(r->pool, size);
    if (start == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = ngx_sprintf(start, "{\"model_stats\":[");

    for (i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        p = ngx_http_webtorch_write_stats(p, &endpoint[i]);
    }

    p = ngx_sprintf(p, "]}");

    return ngx_http_webtorch_send_json(r, start, p);
}


static u_char *
ngx_http_webtorch_write_stats(u_char *p, ngx_webtorch_endpoint_t *endpoint)
{
    ngx_webtorch_stats_t  *stats;

    stats = &endpoint->handler->stats;

    return ngx_sprintf(p, "{\"name\":\"%V\",\"version\":\"1\","
                          "\"last_inference\":%uL,\"inference_count\":%uL,"
                          "\"execution_count\":%uL,\"inference_stats\":{"
                          "\"success\":{\"count\":%uL},"
                          "\"fail\":{\"count\":%uL}}}",
                       &endpoint->json, stats->last, stats->rows,
                       stats->batches, stats->served, stats->failed);
}


/* the versions beside 1; none if there is no memory */

static ngx_uint_t
ngx_http_webtorch_versions(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_version_t **versions)
{
    u_char     name[WEBTORCH_VERSION_SET_LEN];
    ngx_str_t  key;

    *versions = ngx_palloc(r->pool, NGX_HTTP_WEBTORCH_VERSIONS
                                    * sizeof(ngx_http_webtorch_version_t));
    if (*versions == NULL) {
        return 0;
    }

    key.data = name;
    key.len = ngx_snprintf(name, sizeof(name), "/%V@", &handler->name) - name;

    return ngx_webtorch_version_set_versions(&key, *versions,
                                             NGX_HTTP_WEBTORCH_VERSIONS);
}


ngx_int_t
ngx_http_webtorch_model_index(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    u_char                       *start, *p;
    size_t                        size;
    ngx_uint_t                    i, k, n, *counts;
    ngx_webtorch_conf_t          *wcf;
    ngx_http_webtorch_version_t **versions;

    wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);
    endpoint = wcf->endpoints.elts;
    n = wcf->endpoints.nelts;

    counts = ngx_palloc(r->pool, n * sizeof(ngx_uint_t));
    versions = ngx_palloc(r->pool, n * sizeof(void *));

    if (counts == NULL || versions == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    size = sizeof("[]");

    for (i = 0; i < n; i++) {
        counts[i] = ngx_http_webtorch_versions(r, endpoint[i].handler,
                                               &versions[i]);
        size += (counts[i] + 1) * (NGX_HTTP_WEBTORCH_ENTRY_LEN
                                   + endpoint[i].json.len);
    }

    start = ngx_pnalloc(r->pool, size);
    if (start == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = start;
    *p++ = '[';

    for (i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        p = ngx_http_webtorch_write_state(p, &endpoint[i], "1");

        for (k = 0; k < counts[i]; k++) {
            *p++ = ',';
            p = ngx_http_webtorch_write_state(p, &endpoint[i],
                                              (char *) versions[i][k]);
        }
    }

    *p++ = ']';

    return ngx_http_webtorch_send_json(r, start, p);
}


static u_char *
ngx_http_webtorch_write_state(u_char *p, ngx_webtorch_endpoint_t *endpoint,
    const char *version)
{
    ngx_uint_t  loaded;

    loaded = ngx_webtorch_endpoint_loaded(endpoint);

    return ngx_sprintf(p, "{\"name\":\"%V\",\"version\":\"%s\","
                          "\"state\":\"%s\",\"reason\":\"%s\"}",
                       &endpoint->json, version,
                       loaded ? "READY" : "UNAVAILABLE",
                       loaded ? "" : "not loaded, see the error log");
}


static ngx_int_t
ngx_http_webtorch_send_json(ngx_http_request_t *r, u_char *p, u_char *last)
{
    return ngx_http_webtorch_send(r, NGX_HTTP_OK, &ngx_http_webtorch_json_type,
                                  p, last - p);
}
