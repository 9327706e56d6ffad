
/*
 * Errors as JSON: the module's own, and through filters those that nginx
 * itself answers in a location of the module's, as 413 is.
 */

#include "ngx_http_webtorch.h"


static ngx_int_t ngx_http_webtorch_error_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_error_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_buf_t *ngx_http_webtorch_error_body(ngx_http_request_t *r,
    const char *code, ngx_str_t *text);
static void ngx_http_webtorch_error_clean(ngx_str_t *text);


typedef struct {
    ngx_uint_t   status;
    const char  *code;
    ngx_str_t    text;
} ngx_http_webtorch_status_t;


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static ngx_str_t  ngx_http_webtorch_json = ngx_string("application/json");


/* of the errors that nginx answers; the first one is for all others */

static ngx_http_webtorch_status_t  ngx_http_webtorch_statuses[] = {
    { 0, "error", ngx_string("the request failed") },
    { 400, "bad_request", ngx_string("the request is malformed") },
    { 403, "forbidden", ngx_string("access is denied") },
    { 404, "not_found", ngx_string("there is nothing at this address") },
    { 408, "request_timeout", ngx_string("the request took too long") },
    { 411, "length_required", ngx_string("the length of the body is missing") },
    { 413, "too_large", ngx_string("the body is larger than "
                                   "\"client_max_body_size\" allows") },
    { 500, "internal_error", ngx_string("the server failed, "
                                        "see its error log") },
    { 503, "unavailable", ngx_string("the server is busy") },
};


ngx_int_t
ngx_http_webtorch_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, ngx_str_t *text)
{
    ngx_buf_t  *b;

    b = ngx_http_webtorch_error_body(r, code, text);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_send(r, status, &ngx_http_webtorch_json, b->pos,
                                  b->last - b->pos);
}


static ngx_buf_t *
ngx_http_webtorch_error_body(ngx_http_request_t *r, const char *code,
    ngx_str_t *text)
{
    size_t      len;
    ngx_buf_t  *b;

    ngx_http_webtorch_error_clean(text);

    len = sizeof("{\"error\": \"\", \"code\": \"\"}" CRLF) - 1
          + text->len + ngx_escape_json(NULL, text->data, text->len)
          + ngx_strlen(code);

    b = ngx_create_temp_buf(r->pool, len);
    if (b == NULL) {
        return NULL;
    }

    b->last = ngx_cpymem(b->last, "{\"error\": \"",
                         sizeof("{\"error\": \"") - 1);
    b->last = (u_char *) ngx_escape_json(b->last, text->data, text->len);
    b->last = ngx_sprintf(b->last, "\", \"code\": \"%s\"}\n", code);

    return b;
}


/* a text may quote the request, and need not be UTF-8, which JSON must be */

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


static ngx_int_t
ngx_http_webtorch_error_header_filter(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    if (r->headers_out.status < NGX_HTTP_BAD_REQUEST || r != r->main) {
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

    ctx->replace = 1;

    ngx_http_clear_content_length(r);
    ngx_http_clear_accept_ranges(r);

    r->headers_out.content_type = ngx_http_webtorch_json;
    r->headers_out.content_type_len = ngx_http_webtorch_json.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.charset.len = 0;

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_webtorch_error_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_str_t                    text;
    ngx_buf_t                   *b;
    ngx_uint_t                   i, n;
    ngx_chain_t                 *cl, out;
    ngx_http_webtorch_ctx_t     *ctx;
    ngx_http_webtorch_status_t  *status;

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

    n = 0;

    for (i = 1; i < sizeof(ngx_http_webtorch_statuses)
                    / sizeof(ngx_http_webtorch_status_t); i++)
    {
        if (ngx_http_webtorch_statuses[i].status == r->headers_out.status) {
            n = i;
            break;
        }
    }

    status = &ngx_http_webtorch_statuses[n];
    text = status->text;

    b = ngx_http_webtorch_error_body(r, status->code, &text);
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
