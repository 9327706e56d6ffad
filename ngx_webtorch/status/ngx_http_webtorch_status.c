
#include "ngx_http_webtorch_status.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_http_webtorch_status_json.h"
#include "ngx_http_webtorch_status_page.h"
#include "ngx_http_webtorch_status_text.h"


typedef enum {
    NGX_HTTP_WEBTORCH_STATUS_HTML = 0,
    NGX_HTTP_WEBTORCH_STATUS_JSON,
    NGX_HTTP_WEBTORCH_STATUS_PROMETHEUS,
    NGX_HTTP_WEBTORCH_STATUS_OPENMETRICS,
    NGX_HTTP_WEBTORCH_STATUS_UNKNOWN
} ngx_http_webtorch_status_format_e;


typedef struct {
    ngx_str_t                name;        /* of ?format= */
    ngx_str_t                accept;
    ngx_str_t                type;
} ngx_http_webtorch_status_type_t;


typedef struct {
    ngx_str_t                name;
    ngx_uint_t               scope;
} ngx_http_webtorch_status_scope_t;


static ngx_int_t ngx_http_webtorch_status_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_status_get_arg(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);
static ngx_uint_t ngx_http_webtorch_status_format(ngx_http_request_t *r);
static ngx_uint_t ngx_http_webtorch_status_accept(ngx_str_t *accept);
static ngx_uint_t ngx_http_webtorch_status_type(u_char *p, size_t len);
static ngx_int_t ngx_http_webtorch_status_parse_scopes(ngx_http_request_t *r,
    ngx_uint_t *scopes);
static ngx_int_t ngx_http_webtorch_status_parse_names(ngx_http_request_t *r,
    ngx_uint_t *names);


static ngx_http_webtorch_status_type_t  ngx_http_webtorch_status_types[] = {
    { ngx_string("html"), ngx_string("text/html"),
      ngx_string("text/html; charset=utf-8") },
    { ngx_string("json"), ngx_string("application/json"),
      ngx_string("application/json") },
    { ngx_string("prometheus"), ngx_string("text/plain"),
      ngx_string("text/plain; version=0.0.4; charset=utf-8") },
    { ngx_string("openmetrics"), ngx_string("application/openmetrics-text"),
      ngx_string("application/openmetrics-text; version=1.0.0; "
                 "charset=utf-8") }
};


static ngx_http_webtorch_status_scope_t  ngx_http_webtorch_status_scopes[] = {
    { ngx_string("server"), NGX_HTTP_WEBTORCH_STATUS_SERVER },
    { ngx_string("workers"), NGX_HTTP_WEBTORCH_STATUS_WORKERS },
    { ngx_string("handlers"), NGX_HTTP_WEBTORCH_STATUS_HANDLERS },
    { ngx_string("models"), NGX_HTTP_WEBTORCH_STATUS_MODELS },
    { ngx_string("balancers"), NGX_HTTP_WEBTORCH_STATUS_BALANCERS },
    { ngx_string("stages"), NGX_HTTP_WEBTORCH_STATUS_STAGES },
    { ngx_string("custom"), NGX_HTTP_WEBTORCH_STATUS_CUSTOM },
    { ngx_null_string, 0 }
};


char *
ngx_http_webtorch_conf_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return (clcf->handler == ngx_http_webtorch_status_handler)
                   ? "is duplicate" : "conflicts with another handler";
    }

    clcf->handler = ngx_http_webtorch_status_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_webtorch_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                           rc;
    ngx_str_t                           page;
    ngx_uint_t                          format;
    ngx_http_webtorch_snapshot_t        snapshot;
    ngx_http_webtorch_status_writer_t   w;
    ngx_http_webtorch_status_wanted_t   wanted;

    rc = ngx_http_webtorch_status_begin(r, &w);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_webtorch_not_allowed(r, WEBTORCH_GET|WEBTORCH_HEAD);
    }

    ngx_memzero(&wanted, sizeof(ngx_http_webtorch_status_wanted_t));

    format = ngx_http_webtorch_status_format(r);

    if (format == NGX_HTTP_WEBTORCH_STATUS_UNKNOWN) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST,
                   "unknown_format", "unknown format, known are html, json, "
                   "prometheus and openmetrics");
    }

    if (ngx_http_webtorch_status_parse_scopes(r, &wanted.scopes) != NGX_OK) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST,
                   "unknown_scope", "unknown scope, known are server, workers, "
                   "handlers, models, balancers, stages and custom");
    }

    if (ngx_http_webtorch_status_parse_names(r, &wanted.names) != NGX_OK) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST,
                   "unknown_names", "unknown names, known are triton and vllm");
    }

    /* the page has none of them */

    if (wanted.names && format == NGX_HTTP_WEBTORCH_STATUS_HTML) {
        format = NGX_HTTP_WEBTORCH_STATUS_PROMETHEUS;
    }

    if (ngx_http_webtorch_status_get_arg(r, "metrics", &wanted.metrics)
        == NGX_ERROR)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    wanted.openmetrics = (format == NGX_HTTP_WEBTORCH_STATUS_OPENMETRICS);

    if (format == NGX_HTTP_WEBTORCH_STATUS_HTML) {
        ngx_http_webtorch_status_get_page(&page);
        ngx_http_webtorch_status_write(&w, page.data, page.len);

    } else {

        if (ngx_http_webtorch_snapshot_take(r, &snapshot) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (format == NGX_HTTP_WEBTORCH_STATUS_JSON) {
            ngx_http_webtorch_status_json(&w, &snapshot, &wanted);

        } else {
            ngx_http_webtorch_status_text(&w, &snapshot, &wanted);
        }
    }

    return ngx_http_webtorch_status_send(r, NGX_HTTP_OK, &w,
                                &ngx_http_webtorch_status_types[format].type);
}


/* clients write commas as "%2C"; NGX_DECLINED: it is not there */

static ngx_int_t
ngx_http_webtorch_status_get_arg(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    u_char  *from, *p;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), value) != NGX_OK) {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(r->pool, value->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    from = value->data;
    value->data = p;

    ngx_unescape_uri(&p, &from, value->len, 0);

    value->len = (size_t) (p - value->data);

    return NGX_OK;
}


static ngx_uint_t
ngx_http_webtorch_status_format(ngx_http_request_t *r)
{
    ngx_int_t   rc;
    ngx_str_t   value;
    ngx_uint_t  i;

    if (ngx_http_webtorch_status_get_arg(r, "format", &value) == NGX_OK) {

        for (i = 0; i < NGX_HTTP_WEBTORCH_STATUS_UNKNOWN; i++) {
            if (value.len == ngx_http_webtorch_status_types[i].name.len
                && ngx_memcmp(value.data,
                              ngx_http_webtorch_status_types[i].name.data,
                              value.len)
                   == 0)
            {
                break;
            }
        }

        return i;
    }

    rc = ngx_http_webtorch_join_headers(r, "accept", &value);

    return (rc == NGX_OK) ? ngx_http_webtorch_status_accept(&value)
                          : NGX_HTTP_WEBTORCH_STATUS_HTML;
}


/* the first of the types with the highest quality; the page if none is known */

static ngx_uint_t
ngx_http_webtorch_status_accept(ngx_str_t *accept)
{
    u_char      *p, *last, *end;
    ngx_uint_t   type, quality, best, format;

    best = 0;
    format = NGX_HTTP_WEBTORCH_STATUS_HTML;
    end = accept->data + accept->len;

    for (p = accept->data; p < end; p = last + 1) {
        last = ngx_strlchr(p, end, ',');
        last = last ? last : end;

        while (p < last && (*p == ' ' || *p == '\t')) {
            p++;
        }

        type = ngx_http_webtorch_status_type(p, (size_t) (last - p));
        quality = ngx_webtorch_range_quality((char *) p, (char *) last);

        if (type != NGX_HTTP_WEBTORCH_STATUS_UNKNOWN && quality > best) {
            best = quality;
            format = type;
        }
    }

    return format;
}


static ngx_uint_t
ngx_http_webtorch_status_type(u_char *p, size_t len)
{
    ngx_str_t   *accept;
    ngx_uint_t   i;

    len = ngx_webtorch_type_len((char *) p, len);

    if (len == 3 && ngx_memcmp(p, "*/*", 3) == 0) {
        return NGX_HTTP_WEBTORCH_STATUS_HTML;
    }

    for (i = 0; i < NGX_HTTP_WEBTORCH_STATUS_UNKNOWN; i++) {
        accept = &ngx_http_webtorch_status_types[i].accept;

        if (len == accept->len
            && ngx_strncasecmp(p, accept->data, len) == 0)
        {
            break;
        }
    }

    return i;
}


/* "?scope=handlers,models"; NGX_ERROR: an unknown one */

static ngx_int_t
ngx_http_webtorch_status_parse_scopes(ngx_http_request_t *r,
    ngx_uint_t *scopes)
{
    u_char                            *p, *last, *end;
    ngx_str_t                          value;
    ngx_http_webtorch_status_scope_t  *scope;

    *scopes = NGX_HTTP_WEBTORCH_STATUS_ALL;

    if (ngx_http_webtorch_status_get_arg(r, "scope", &value) != NGX_OK) {
        return NGX_OK;
    }

    *scopes = 0;
    end = value.data + value.len;

    for (p = value.data; p < end; p = last + 1) {
        last = ngx_strlchr(p, end, ',');
        last = last ? last : end;

        for (scope = ngx_http_webtorch_status_scopes; scope->scope; scope++) {
            if (scope->name.len == (size_t) (last - p)
                && ngx_memcmp(scope->name.data, p, scope->name.len) == 0)
            {
                break;
            }
        }

        if (scope->scope == 0) {
            return NGX_ERROR;
        }

        *scopes |= scope->scope;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_status_parse_names(ngx_http_request_t *r, ngx_uint_t *names)
{
    ngx_str_t  value;

    if (ngx_http_webtorch_status_get_arg(r, "names", &value) != NGX_OK) {
        return NGX_OK;
    }

    if (value.len == 6 && ngx_memcmp(value.data, "triton", 6) == 0) {
        *names = NGX_HTTP_WEBTORCH_STATUS_TRITON;
        return NGX_OK;
    }

    if (value.len == 4 && ngx_memcmp(value.data, "vllm", 4) == 0) {
        *names = NGX_HTTP_WEBTORCH_STATUS_VLLM;
        return NGX_OK;
    }

    return NGX_ERROR;
}


ngx_int_t
ngx_http_webtorch_status_begin(ngx_http_request_t *r,
    ngx_http_webtorch_status_writer_t *w)
{
    ngx_int_t  rc;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_webtorch_get_ctx(r) == NULL
        || ngx_http_webtorch_status_writer_init(w, r->pool) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_status_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_http_webtorch_status_writer_t *w, ngx_str_t *type)
{
    size_t      len;
    ngx_str_t   name, value;

    if (w->failed) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&name, "Cache-Control");
    ngx_str_set(&value, "no-store");

    if (ngx_http_webtorch_add_vary(r) != NGX_OK
        || ngx_http_webtorch_add_header(r, &name, &value) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = w->len + (size_t) (w->buf->last - w->buf->pos);

    /* nginx logs an alert for a buffer of memory that is empty */

    if (len == 0) {
        w->buf->temporary = 0;
    }

    return ngx_http_webtorch_send_chain(r, status, type, w->out, len);
}
