
#include "ngx_http_webtorch_accel.h"
#include "ngx_http_webtorch_header.h"


static ngx_int_t ngx_http_webtorch_accel_limit_rate(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_accel_charset(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_accel_keep_headers(ngx_http_request_t *r,
    webtorch_reply_t *reply);
static ngx_uint_t ngx_http_webtorch_accel_kept(ngx_str_t *name);


/* headers of a reply that the answer to a redirect has, as in upstreams */

static ngx_str_t  ngx_http_webtorch_accel_names[] = {
    ngx_string("Cache-Control"),
    ngx_string("Content-Disposition"),
    ngx_string("Expires"),
    ngx_string("Set-Cookie"),
    ngx_null_string
};


ngx_int_t
ngx_http_webtorch_accel_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    if (name->len == sizeof("X-Accel-Limit-Rate") - 1
        && ngx_strncasecmp(name->data, (u_char *) "X-Accel-Limit-Rate",
                           name->len)
           == 0)
    {
        return ngx_http_webtorch_accel_limit_rate(r, value);
    }

    if (name->len == sizeof("X-Accel-Charset") - 1
        && ngx_strncasecmp(name->data, (u_char *) "X-Accel-Charset", name->len)
           == 0)
    {
        return ngx_http_webtorch_accel_charset(r, value);
    }

    return NGX_DECLINED;
}


/* bytes a second; 0: no limit */

static ngx_int_t
ngx_http_webtorch_accel_limit_rate(ngx_http_request_t *r, ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_atoi(value->data, value->len);

    if (n != NGX_ERROR) {
        r->limit_rate = (size_t) n;
        r->limit_rate_set = 1;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_accel_charset(ngx_http_request_t *r, ngx_str_t *value)
{
    ngx_str_t  *charset;

    charset = ngx_palloc(r->pool, sizeof(ngx_str_t));
    if (charset == NULL) {
        return NGX_ERROR;
    }

    *charset = *value;
    r->headers_out.override_charset = charset;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_accel_redirect(ngx_http_request_t *r,
    webtorch_reply_t *reply)
{
    ngx_str_t   uri, args;
    ngx_uint_t  flags;

    if (ngx_http_webtorch_accel_keep_headers(r, reply) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->read_event_handler = ngx_http_block_reading;

    ngx_http_webtorch_get_str(&uri, &reply->redirect);

    /* both count a reference, which the caller's NGX_DONE releases */

    if (uri.data[0] == '@') {
        return ngx_http_named_location(r, &uri);
    }

    ngx_str_null(&args);
    flags = NGX_HTTP_LOG_UNSAFE;

    if (ngx_http_parse_unsafe_uri(r, &uri, &args, &flags) != NGX_OK) {
        return NGX_HTTP_NOT_FOUND;
    }

    if (r->method != NGX_HTTP_HEAD) {
        r->method = NGX_HTTP_GET;
        r->method_name = ngx_http_core_get_method;
    }

    return ngx_http_internal_redirect(r, &uri, &args);
}


static ngx_int_t
ngx_http_webtorch_accel_keep_headers(ngx_http_request_t *r,
    webtorch_reply_t *reply)
{
    uint32_t   i;
    ngx_int_t  rc;
    ngx_str_t  name, value;

    for (i = 0; i < reply->nheaders; i++) {
        ngx_http_webtorch_get_str(&name, &reply->headers[i].name);
        ngx_http_webtorch_get_str(&value, &reply->headers[i].value);

        rc = ngx_http_webtorch_accel_header(r, &name, &value);

        if (rc == NGX_DECLINED && ngx_http_webtorch_accel_kept(&name)) {
            rc = ngx_http_webtorch_add_header(r, &name, &value);
        }

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    if (reply->content_type.len) {
        ngx_http_webtorch_get_str(&value, &reply->content_type);

        ngx_http_webtorch_set_type(r, &value);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_webtorch_accel_kept(ngx_str_t *name)
{
    ngx_str_t  *kept;

    for (kept = ngx_http_webtorch_accel_names; kept->len; kept++) {
        if (kept->len == name->len
            && ngx_strncasecmp(kept->data, name->data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}
