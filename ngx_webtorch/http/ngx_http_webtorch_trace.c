
#include "ngx_http_webtorch_trace.h"
#include "ngx_webtorch_spans.h"


#define NGX_HTTP_WEBTORCH_TRACEPARENT  "traceparent"

/* "00-", 16 bytes in hex, "-", 8 bytes, "-", a byte of flags */
#define NGX_HTTP_WEBTORCH_TRACE_LEN    55


static ngx_str_t *ngx_http_webtorch_trace_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_trace_parse(ngx_str_t *value,
    webtorch_trace_t *trace);
static ngx_int_t ngx_http_webtorch_trace_hex(u_char *p, uint8_t *bytes,
    ngx_uint_t n);
static ngx_int_t ngx_http_webtorch_trace_digit(u_char c);


void
ngx_http_webtorch_trace_job(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx)
{
    ngx_str_t         *value;
    webtorch_trace_t   trace;

    value = ngx_http_webtorch_trace_header(r);

    if (value == NULL
        || ngx_http_webtorch_trace_parse(value, &trace) != NGX_OK)
    {
        return;
    }

    ngx_webtorch_batch_set_trace(&ctx->waiter, &trace);

    if (trace.sampled && ctx->trace == NULL) {
        ctx->trace = ngx_palloc(r->pool, sizeof(webtorch_trace_t));

        if (ctx->trace) {
            *ctx->trace = trace;
        }
    }
}


void
ngx_http_webtorch_trace_encoded(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, uint64_t now)
{
    webtorch_trace_span_t  span;

    span.trace = *ctx->trace;
    span.begun = ctx->run;
    span.ended = now;
    span.status = (uint32_t) r->headers_out.status;

    ngx_webtorch_spans_add(&span);
}


/* NULL: there is none, or several, which are none according to W3C */

static ngx_str_t *
ngx_http_webtorch_trace_header(ngx_http_request_t *r)
{
    ngx_str_t        *value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    value = NULL;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != sizeof(NGX_HTTP_WEBTORCH_TRACEPARENT) - 1
                || ngx_strncasecmp(h[i].key.data,
                                   (u_char *) NGX_HTTP_WEBTORCH_TRACEPARENT,
                                   h[i].key.len)
                   != 0)
            {
                continue;
            }

            if (value) {
                return NULL;
            }

            value = &h[i].value;
        }
    }

    return value;
}


/* a later version than 00 may have more after another "-" */

static ngx_int_t
ngx_http_webtorch_trace_parse(ngx_str_t *value, webtorch_trace_t *trace)
{
    u_char   *p;
    uint8_t   version, flags;

    static const uint8_t  zeros[16];

    p = value->data;

    if (value->len < NGX_HTTP_WEBTORCH_TRACE_LEN
        || p[2] != '-' || p[35] != '-' || p[52] != '-'
        || ngx_http_webtorch_trace_hex(p, &version, 1) != NGX_OK
        || ngx_http_webtorch_trace_hex(p + 3, trace->trace, 16) != NGX_OK
        || ngx_http_webtorch_trace_hex(p + 36, trace->span, 8) != NGX_OK
        || ngx_http_webtorch_trace_hex(p + 53, &flags, 1) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    if (value->len > NGX_HTTP_WEBTORCH_TRACE_LEN
        && (version == 0 || p[NGX_HTTP_WEBTORCH_TRACE_LEN] != '-'))
    {
        return NGX_DECLINED;
    }

    if (version == 0xff
        || ngx_memcmp(trace->trace, zeros, sizeof(trace->trace)) == 0
        || ngx_memcmp(trace->span, zeros, sizeof(trace->span)) == 0)
    {
        return NGX_DECLINED;
    }

    trace->sampled = flags & 1;

    return NGX_OK;
}


/* digits in lower case */

static ngx_int_t
ngx_http_webtorch_trace_hex(u_char *p, uint8_t *bytes, ngx_uint_t n)
{
    ngx_int_t   high, low;
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        high = ngx_http_webtorch_trace_digit(p[2 * i]);
        low = ngx_http_webtorch_trace_digit(p[2 * i + 1]);

        if (high == NGX_ERROR || low == NGX_ERROR) {
            return NGX_DECLINED;
        }

        bytes[i] = (uint8_t) (high * 16 + low);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_trace_digit(u_char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }

    return NGX_ERROR;
}
