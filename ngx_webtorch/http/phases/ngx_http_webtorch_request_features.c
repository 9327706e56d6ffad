
#include "ngx_http_webtorch_request_features.h"
#include "ngx_http_webtorch_body.h"


/* headers that are columns of "request" */

typedef struct {
    ngx_str_t                         name;
    ngx_webtorch_request_column_e     column;
} ngx_http_webtorch_known_header_t;


static void ngx_http_webtorch_header_features(ngx_http_request_t *r,
    ngx_webtorch_request_features_t *request);
static ngx_uint_t ngx_http_webtorch_is_address(ngx_str_t *host);
static uint64_t ngx_http_webtorch_request_body_size(ngx_http_request_t *r);


static ngx_http_webtorch_known_header_t  ngx_http_webtorch_known_headers[] = {
    { ngx_string("user-agent"), NGX_WEBTORCH_REQUEST_USER_AGENT },
    { ngx_string("accept"), NGX_WEBTORCH_REQUEST_ACCEPT },
    { ngx_string("accept-language"), NGX_WEBTORCH_REQUEST_ACCEPT_LANGUAGE },
    { ngx_string("accept-encoding"), NGX_WEBTORCH_REQUEST_ACCEPT_ENCODING },
    { ngx_string("referer"), NGX_WEBTORCH_REQUEST_REFERER },
    { ngx_string("cookie"), NGX_WEBTORCH_REQUEST_COOKIE },
    { ngx_string("authorization"), NGX_WEBTORCH_REQUEST_AUTHORIZATION },
    { ngx_null_string, 0 }
};


/* columns of methods, the last one is of all others */

static ngx_uint_t  ngx_http_webtorch_known_methods[] = {
    NGX_HTTP_GET,
    NGX_HTTP_HEAD,
    NGX_HTTP_POST,
    NGX_HTTP_PUT,
    NGX_HTTP_DELETE
};

#define NGX_HTTP_WEBTORCH_OTHER_METHOD                                        \
    (sizeof(ngx_http_webtorch_known_methods) / sizeof(ngx_uint_t))


void
ngx_http_webtorch_request_features(ngx_http_request_t *r,
    ngx_webtorch_request_features_t *request)
{
    uint32_t  i;

    ngx_memzero(request, sizeof(ngx_webtorch_request_features_t));

    for (i = 0; i < NGX_HTTP_WEBTORCH_OTHER_METHOD; i++) {
        if (ngx_http_webtorch_known_methods[i] == r->method) {
            break;
        }
    }

    request->method = i;
    request->http = NGX_WEBTORCH_REQUEST_HTTP;

    if (r->http_version >= NGX_HTTP_VERSION_20) {
        request->http += 2;

    } else if (r->http_version == NGX_HTTP_VERSION_11) {
        request->http += 1;
    }

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        request->flags |= 1U << NGX_WEBTORCH_REQUEST_TLS;
    }
#endif

    if (r->headers_in.server.len) {
        request->flags |= 1U << NGX_WEBTORCH_REQUEST_HOST;
    }

    if (ngx_http_webtorch_is_address(&r->headers_in.server)) {
        request->flags |= 1U << NGX_WEBTORCH_REQUEST_HOST_IS_ADDRESS;
    }

    request->body = ngx_http_webtorch_request_body_size(r);

    ngx_http_webtorch_header_features(r, request);
}


static void
ngx_http_webtorch_header_features(ngx_http_request_t *r,
    ngx_webtorch_request_features_t *request)
{
    ngx_uint_t                         i;
    ngx_list_part_t                   *part;
    ngx_table_elt_t                   *h;
    ngx_http_webtorch_known_header_t  *known;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        request->headers++;

        for (known = ngx_http_webtorch_known_headers; known->name.len; known++)
        {
            if (known->name.len == h[i].key.len
                && ngx_memcmp(known->name.data, h[i].lowcase_key,
                              known->name.len)
                   == 0)
            {
                break;
            }
        }

        if (known->name.len == 0) {
            continue;
        }

        request->flags |= 1U << known->column;

        if (known->column == NGX_WEBTORCH_REQUEST_USER_AGENT) {
            request->user_agent += h[i].value.len;

        } else if (known->column == NGX_WEBTORCH_REQUEST_COOKIE) {
            request->cookie += h[i].value.len;
        }
    }
}


/* nginx has validated it, and taken the port away */

static ngx_uint_t
ngx_http_webtorch_is_address(ngx_str_t *host)
{
    if (host->len == 0) {
        return 0;
    }

    return host->data[0] == '['
           || ngx_inet_addr(host->data, host->len) != INADDR_NONE;
}


static uint64_t
ngx_http_webtorch_request_body_size(ngx_http_request_t *r)
{
    if (r->headers_in.content_length_n >= 0) {
        return r->headers_in.content_length_n;
    }

    return (r->request_body && !r->request_body_no_buffering)
               ? ngx_http_webtorch_body_size(r->request_body->bufs) : 0;
}
