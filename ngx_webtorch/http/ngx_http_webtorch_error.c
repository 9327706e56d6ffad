
/*
 * Errors as JSON: those of the module and, by filters, those that nginx itself
 * answers in the module's locations, for example 413.
 */

#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_logged.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_status.h"
#include "ngx_webtorch_stuck.h"


typedef struct {
    uint32_t     bit;
    ngx_uint_t   method;
    ngx_str_t    name;
} ngx_http_webtorch_method_t;


static ngx_int_t ngx_http_webtorch_error_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_error_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_buf_t *ngx_http_webtorch_error_create(ngx_http_request_t *r,
    const char *code, ngx_str_t *text, ngx_str_t *detail);
static void ngx_http_webtorch_error_clean(ngx_str_t *text);
static ngx_int_t ngx_http_webtorch_retry_after(ngx_http_request_t *r);


static ngx_http_webtorch_method_t  ngx_http_webtorch_methods[] = {
    { WEBTORCH_GET, NGX_HTTP_GET, ngx_string("GET") },
    { WEBTORCH_HEAD, NGX_HTTP_HEAD, ngx_string("HEAD") },
    { WEBTORCH_POST, NGX_HTTP_POST, ngx_string("POST") },
    { WEBTORCH_PUT, NGX_HTTP_PUT, ngx_string("PUT") },
    { WEBTORCH_DELETE, NGX_HTTP_DELETE, ngx_string("DELETE") },
    { WEBTORCH_PATCH, NGX_HTTP_PATCH, ngx_string("PATCH") },
    { WEBTORCH_OPTIONS, NGX_HTTP_OPTIONS, ngx_string("OPTIONS") },
};

#define NGX_HTTP_WEBTORCH_NMETHODS                                            \
    (sizeof(ngx_http_webtorch_methods) / sizeof(ngx_http_webtorch_method_t))


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


ngx_int_t
ngx_http_webtorch_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, ngx_str_t *text)
{
    return ngx_http_webtorch_error_detail(r, status, code, text, NULL);
}


ngx_int_t
ngx_http_webtorch_error_detail(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, ngx_str_t *text, ngx_str_t *detail)
{
    ngx_buf_t  *b;

    b = ngx_http_webtorch_error_create(r, code, text, detail);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_send(r, status, &ngx_http_webtorch_json_type,
                                  b->pos, b->last - b->pos);
}


static ngx_buf_t *
ngx_http_webtorch_error_create(ngx_http_request_t *r, const char *code,
    ngx_str_t *text, ngx_str_t *detail)
{
    size_t      len;
    ngx_buf_t  *b;

    ngx_http_webtorch_logged_error(r, code);

    len = ngx_http_webtorch_error_length(code, text, detail) + 1;

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NULL;
    }

    b->last = ngx_http_webtorch_error_write(b->last, code, text, detail);
    *b->last++ = '\n';

    return b;
}


size_t
ngx_http_webtorch_error_length(const char *code, ngx_str_t *text,
    ngx_str_t *detail)
{
    ngx_http_webtorch_error_clean(text);

    return sizeof("{\"error\": \"\", \"code\": \"\"}") - 1
           + text->len + ngx_escape_json(NULL, text->data, text->len)
           + ngx_strlen(code)
           + (detail ? sizeof(", \"detail\": ") - 1 + detail->len : 0);
}


u_char *
ngx_http_webtorch_error_write(u_char *p, const char *code, ngx_str_t *text,
    ngx_str_t *detail)
{
    p = ngx_cpymem(p, "{\"error\": \"", sizeof("{\"error\": \"") - 1);
    p = (u_char *) ngx_escape_json(p, text->data, text->len);
    p = ngx_sprintf(p, "\", \"code\": \"%s\"", code);

    if (detail) {
        p = ngx_sprintf(p, ", \"detail\": %V", detail);
    }

    *p++ = '}';

    return p;
}


/* a text may quote bytes of the request; JSON must be UTF-8 */

static void
ngx_http_webtorch_error_clean(ngx_str_t *text)
{
    u_char  *p, *start, *last;

    p = text->data;
    last = p + text->len;

    while (p < last) {

        if (*p < 0x80) {
            p++;
            continue;
        }

        start = p;

        if (ngx_utf8_decode(&p, last - p) > 0x10ffff) {
            *start = '?';
            p = start + 1;
        }
    }
}


ngx_int_t
ngx_http_webtorch_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *text)
{
    ngx_int_t  rc;
    ngx_str_t  s;

    /* the location of an error page may read the body */

    if (!ngx_http_webtorch_intercept(r, status)) {
        rc = ngx_http_webtorch_discard_body(r);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    s.data = (u_char *) text;
    s.len = ngx_strlen(text);

    return ngx_http_webtorch_error(r, status, code, &s);
}


ngx_int_t
ngx_http_webtorch_discard_body(ngx_http_request_t *r)
{
    /* the client need not send the body */

    r->expect_tested = 1;

    return ngx_http_discard_request_body(r);
}


uint32_t
ngx_http_webtorch_method(ngx_http_request_t *r)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_WEBTORCH_NMETHODS; i++) {
        if (ngx_http_webtorch_methods[i].method == r->method) {
            return ngx_http_webtorch_methods[i].bit;
        }
    }

    return 0;
}


uint32_t
ngx_http_webtorch_method_by_name(ngx_str_t *name)
{
    ngx_uint_t                   i;
    ngx_http_webtorch_method_t  *method;

    for (i = 0; i < NGX_HTTP_WEBTORCH_NMETHODS; i++) {
        method = &ngx_http_webtorch_methods[i];

        if (method->name.len == name->len
            && ngx_memcmp(method->name.data, name->data, name->len) == 0)
        {
            return method->bit;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_webtorch_method_names(ngx_pool_t *pool, uint32_t methods,
    ngx_str_t *names)
{
    u_char      *p;
    ngx_uint_t   i;

    names->data = ngx_pnalloc(pool, sizeof("GET, HEAD, POST, PUT, DELETE, "
                                           "PATCH, OPTIONS"));
    if (names->data == NULL) {
        return NGX_ERROR;
    }

    p = names->data;

    for (i = 0; i < NGX_HTTP_WEBTORCH_NMETHODS; i++) {
        if (ngx_http_webtorch_methods[i].bit & methods) {
            p = ngx_sprintf(p, "%s%V", (p == names->data) ? "" : ", ",
                            &ngx_http_webtorch_methods[i].name);
        }
    }

    names->len = p - names->data;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_add_allow(ngx_http_request_t *r, uint32_t methods)
{
    ngx_str_t  name, value;

    ngx_str_set(&name, "Allow");

    if (ngx_http_webtorch_method_names(r->pool, methods, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_webtorch_add_header(r, &name, &value);
}


ngx_int_t
ngx_http_webtorch_not_allowed(ngx_http_request_t *r, uint32_t methods)
{
    if (ngx_http_webtorch_add_allow(r, methods) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_refuse(r, NGX_HTTP_NOT_ALLOWED,
               "method_not_allowed",
               "this address does not serve the method, see the header "
               "\"Allow\"");
}


ngx_int_t
ngx_http_webtorch_busy(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ngx_webtorch_queue_full(ctx->handler->queue_size, 0)) {
        return ngx_http_webtorch_no_room(r);
    }

    ngx_webtorch_metrics_refused(ctx->counted,
                        ngx_webtorch_stuck_blocks(ctx->handler->runner)
                        ? NGX_WEBTORCH_REFUSED_STUCK
                        : NGX_WEBTORCH_REFUSED_QUEUE);

    if (ngx_http_webtorch_retry_after(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
               "queue_full", "too many requests wait for the handler");
}


ngx_int_t
ngx_http_webtorch_no_room(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_webtorch_metrics_refused(ctx->counted,
                                 NGX_WEBTORCH_REFUSED_QUEUE_SIZE);

    if (ngx_http_webtorch_retry_after(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
               "queue_full", "requests that wait have more bytes than "
               "\"queue_size=\" allows");
}


static ngx_int_t
ngx_http_webtorch_retry_after(ngx_http_request_t *r)
{
    ngx_str_t  name, value;

    ngx_str_set(&name, "Retry-After");
    ngx_str_set(&value, "1");

    return ngx_http_webtorch_add_header(r, &name, &value);
}


ngx_int_t
ngx_http_webtorch_incomplete_body(ngx_http_request_t *r)
{
    ngx_str_t  text;

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "the request body has not been read to its end, as it was "
                  "passed on without buffering before");

    ngx_str_set(&text, "the body has not been read to its end");

    return ngx_http_webtorch_error(r, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                   "incomplete_body", &text);
}


ngx_int_t
ngx_http_webtorch_bad_body(ngx_http_request_t *r, ngx_webtorch_error_t *err)
{
    ngx_str_t                 text;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_webtorch_metrics_refused(ctx->counted,
                                 (err->status == NGX_HTTP_SERVICE_UNAVAILABLE)
                                 ? NGX_WEBTORCH_REFUSED_QUEUE_SIZE
                                 : NGX_WEBTORCH_REFUSED_BODY);

    if (err->status == NGX_HTTP_SERVICE_UNAVAILABLE
        && ngx_http_webtorch_retry_after(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    text.data = (u_char *) err->text;
    text.len = ngx_strlen(err->text);

    return ngx_http_webtorch_error(r, err->status, err->code, &text);
}


static ngx_int_t
ngx_http_webtorch_error_header_filter(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    /* err_status is 0 for a text of "return" */

    if (r->headers_out.status < NGX_HTTP_BAD_REQUEST
        || r->err_status == 0
        || r != r->main)
    {
        return ngx_http_next_header_filter(r);
    }

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    if (wlcf->handler == NULL && !wlcf->protocol) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_webtorch_get_ctx(r);
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    if (ctx->answered) {
        return ngx_http_next_header_filter(r);
    }

    /* nginx has answered before the handler got the request */

    if (wlcf->handler) {
        ngx_http_webtorch_ctx_set_handler(ctx, wlcf->handler);
    }

    if (r->method == NGX_HTTP_HEAD) {
        /* the filter of the body is not called */
        ngx_http_webtorch_logged_error(r,
              ngx_webtorch_status_find((int) r->headers_out.status)->code);
    }

    ctx->replace = 1;

    ngx_http_clear_content_length(r);
    ngx_http_clear_accept_ranges(r);

    r->headers_out.content_type = ngx_http_webtorch_json_type;
    r->headers_out.content_type_len = ngx_http_webtorch_json_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.charset.len = 0;

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_webtorch_error_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_str_t                     text;
    ngx_buf_t                    *b;
    ngx_chain_t                  *cl, out;
    ngx_http_webtorch_ctx_t      *ctx;
    const ngx_webtorch_status_t  *status;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (in == NULL || ctx == NULL || !ctx->replace) {
        return ngx_http_next_body_filter(r, in);
    }

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }

    ctx->replace = 0;
    ctx->answered = 1;

    status = ngx_webtorch_status_find((int) r->headers_out.status);

    text.data = (u_char *) status->text;
    text.len = ngx_strlen(status->text);

    b = ngx_http_webtorch_error_create(r, status->code, &text, NULL);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}


ngx_int_t
ngx_http_webtorch_error_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_webtorch_error_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_webtorch_error_body_filter;

    return NGX_OK;
}
