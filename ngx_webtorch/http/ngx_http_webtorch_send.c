
/*
 * Answers are sent: text and small tensors from a copy in the request's pool,
 * larger tensors in binary formats right from the batch, and what takes long to
 * encode when a thread has done it.
 */

#include "ngx_http_webtorch_send.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_encode.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_trace.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_metrics_handler.h"


/* bytes; smaller answers mostly fit into the socket, and are not counted */
#define NGX_HTTP_WEBTORCH_LARGE_ANSWER  65536


/* tensors that a thread encodes, and what they point to on the stack */

typedef struct {
    ngx_http_webtorch_encoding_t   encoding;
    ngx_http_webtorch_tensors_t    tensors;
    ngx_webtorch_layout_t          layout;
    const void                    *data[WEBTORCH_MAX_TENSORS];
} ngx_http_webtorch_posted_tensors_t;


static ngx_uint_t ngx_http_webtorch_send_is_large(
    ngx_http_webtorch_tensors_t *tensors);
static ngx_int_t ngx_http_webtorch_post_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_tensors_t *tensors);
static ngx_int_t ngx_http_webtorch_encode_tensors(
    ngx_http_webtorch_encoding_t *e);
static ngx_int_t ngx_http_webtorch_send_encoded(ngx_http_request_t *r,
    ngx_http_webtorch_encoding_t *e);
static void ngx_http_webtorch_set_text(ngx_http_webtorch_tensors_t *tensors);
static void ngx_http_webtorch_codec_type(const ngx_webtorch_codec_t *codec,
    ngx_str_t *type);
static ngx_int_t ngx_http_webtorch_send_frames(ngx_http_request_t *r,
    ngx_str_t *type, ngx_http_webtorch_tensors_t *tensors);


ngx_str_t  ngx_http_webtorch_json_type = ngx_string("application/json");


ngx_int_t
ngx_http_webtorch_send_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_tensors_t *tensors)
{
    char                        *p, *last;
    size_t                       size, frames;
    ngx_int_t                    rc;
    ngx_str_t                    type;
    ngx_webtorch_batch_t        *batch;
    const ngx_webtorch_codec_t  *codec;

    batch = tensors->batch;
    codec = tensors->codec;

    if (ngx_http_webtorch_send_is_large(tensors)) {
        rc = ngx_http_webtorch_post_tensors(r, tensors);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    ngx_http_webtorch_set_text(tensors);
    ngx_http_webtorch_codec_type(codec, &type);

    size = ngx_webtorch_codec_bound(codec, tensors->specs, tensors->n,
                                    tensors->layout);

    if (codec->frame) {
        frames = codec->bound(tensors->specs, tensors->n, tensors->layout);

        if (size - frames > WEBTORCH_COPY_SIZE
            && (batch == NULL || ngx_http_webtorch_hold(r, batch) == NGX_OK))
        {
            return ngx_http_webtorch_send_frames(r, &type, tensors);
        }

        if (size - frames >= NGX_WEBTORCH_LARGE_SIZE) {
            rc = ngx_http_webtorch_post_tensors(r, tensors);

            if (rc != NGX_DECLINED) {
                return rc;
            }
        }
    }

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    last = ngx_webtorch_codec_encode(codec, p, tensors->specs, tensors->n,
                                     tensors->data, tensors->layout);

    return ngx_http_webtorch_send(r, tensors->status, &type, (u_char *) p,
                                  (size_t) (last - p));
}


/* whether it takes long to encode the tensors, or to compute checksums */

static ngx_uint_t
ngx_http_webtorch_send_is_large(ngx_http_webtorch_tensors_t *tensors)
{
    size_t    size;
    uint32_t  i, rows;

    size = 0;
    rows = tensors->layout->rows;

    if (tensors->codec->encode) {

        for (i = 0; i < tensors->n; i++) {
            size += ngx_http_webtorch_text_cost(&tensors->specs[i],
                                                tensors->data[i], rows);
        }

        return size >= NGX_WEBTORCH_LARGE_TEXT;
    }

    if (!tensors->codec->summed) {
        return 0;
    }

    for (i = 0; i < tensors->n; i++) {
        size += rows * (size_t) tensors->specs[i].row_size;
    }

    return size >= NGX_WEBTORCH_LARGE_TEXT;
}


static ngx_int_t
ngx_http_webtorch_post_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_tensors_t *tensors)
{
    uint32_t                             i;
    ngx_http_webtorch_posted_tensors_t  *posted;

    posted = ngx_pcalloc(r->pool, sizeof(ngx_http_webtorch_posted_tensors_t));
    if (posted == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    posted->layout = *tensors->layout;
    ngx_memcpy(posted->data, tensors->data, tensors->n * sizeof(void *));

    posted->tensors = *tensors;
    posted->tensors.layout = &posted->layout;
    posted->tensors.data = posted->data;

    posted->encoding.encode = ngx_http_webtorch_encode_tensors;
    posted->encoding.send = ngx_http_webtorch_send_encoded;
    posted->encoding.batch = tensors->batch;

    for (i = 0; i < tensors->n; i++) {
        posted->encoding.size += tensors->layout->rows
                                 * (size_t) tensors->specs[i].row_size;
    }

    return ngx_http_webtorch_encode_post(r, &posted->encoding);
}


/* called in a thread */

static ngx_int_t
ngx_http_webtorch_encode_tensors(ngx_http_webtorch_encoding_t *e)
{
    char                         *p, *last;
    ngx_http_webtorch_tensors_t  *tensors;

    tensors = &((ngx_http_webtorch_posted_tensors_t *) e)->tensors;

    ngx_http_webtorch_set_text(tensors);

    p = ngx_webtorch_buffer_alloc(
            ngx_webtorch_codec_bound(tensors->codec, tensors->specs, tensors->n,
                                     tensors->layout));
    if (p == NULL) {
        return NGX_ERROR;
    }

    last = ngx_webtorch_codec_encode(tensors->codec, p, tensors->specs,
                                     tensors->n, tensors->data,
                                     tensors->layout);

    e->body.data = (u_char *) p;
    e->body.len = (size_t) (last - p);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_send_encoded(ngx_http_request_t *r,
    ngx_http_webtorch_encoding_t *e)
{
    ngx_str_t                     type;
    ngx_http_webtorch_tensors_t  *tensors;

    tensors = &((ngx_http_webtorch_posted_tensors_t *) e)->tensors;

    ngx_http_webtorch_codec_type(tensors->codec, &type);

    return ngx_http_webtorch_send(r, tensors->status, &type, e->body.data,
                                  e->body.len);
}


/* sets the bytes of all strings, which codecs need for their bound */

static void
ngx_http_webtorch_set_text(ngx_http_webtorch_tensors_t *tensors)
{
    uint32_t  i;

    tensors->layout->text = 0;

    for (i = 0; i < tensors->n; i++) {
        tensors->layout->text += ngx_webtorch_text_size(&tensors->specs[i],
                                                        tensors->data[i],
                                                        tensors->layout->rows);
    }
}


static void
ngx_http_webtorch_codec_type(const ngx_webtorch_codec_t *codec,
    ngx_str_t *type)
{
    type->data = (u_char *) codec->types[0];
    type->len = ngx_strlen(codec->types[0]);
}


ngx_int_t
ngx_http_webtorch_hold(ngx_http_request_t *r, ngx_webtorch_batch_t *batch)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    if (ngx_webtorch_batch_hold(batch) != NGX_OK) {
        return NGX_DECLINED;
    }

    cln->handler = ngx_webtorch_batch_release;
    cln->data = batch;

    return NGX_OK;
}


/* sends the elements from the batch; only the frames around them are copied */

static ngx_int_t
ngx_http_webtorch_send_frames(ngx_http_request_t *r, ngx_str_t *type,
    ngx_http_webtorch_tensors_t *tensors)
{
    char                        *p, *last;
    size_t                       len, size;
    uint32_t                     i, n;
    ngx_chain_t                 *out, **ll;
    webtorch_spec_t             *specs;
    ngx_webtorch_layout_t       *layout;
    const ngx_webtorch_codec_t  *codec;

    n = tensors->n;
    specs = tensors->specs;
    layout = tensors->layout;
    codec = tensors->codec;

    p = ngx_pnalloc(r->pool, codec->bound(specs, n, layout) + 1);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = 0;
    ll = &out;

    for (i = 0; i <= n; i++) {
        last = codec->frame(p, specs, n, i, tensors->data, layout);

        if (ngx_http_webtorch_add_piece(r, &ll, p, (size_t) (last - p), &len)
            != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        p = last;

        if (i == n) {
            break;
        }

        size = layout->rows * (size_t) specs[i].row_size;

        if (ngx_http_webtorch_add_piece(r, &ll, (char *) tensors->data[i],
                                        size, &len)
            != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    *ll = NULL;

    return ngx_http_webtorch_send_chain(r, tensors->status, type, out, len);
}


ngx_int_t
ngx_http_webtorch_add_piece(ngx_http_request_t *r, ngx_chain_t ***ll, char *p,
    size_t size, size_t *len)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (size == 0) {
        return NGX_OK;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = (u_char *) p;
    b->last = b->pos + size;
    b->memory = 1;

    cl = ngx_alloc_chain_link(r->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    cl->buf = b;
    **ll = cl;
    *ll = &cl->next;

    *len += size;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, u_char *body, size_t len)
{
    ngx_buf_t    *b;
    ngx_chain_t   out;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = body;
    b->last = body + len;
    b->memory = (len != 0);

    out.buf = b;
    out.next = NULL;

    return ngx_http_webtorch_send_chain(r, status, type, &out, len);
}


ngx_int_t
ngx_http_webtorch_send_chain(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, ngx_chain_t *out, size_t len)
{
    uint64_t                  now;
    ngx_int_t                 rc;
    ngx_buf_t                *b;
    ngx_chain_t              *cl;
    ngx_http_webtorch_ctx_t  *ctx;

    rc = ngx_http_webtorch_send_head(r, status, type, (off_t) len);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    /* the next response of the batch is measured from here */

    if (ctx->run) {
        now = ngx_webtorch_clock_usec();

        if (ctx->begun) {
            ngx_webtorch_metrics_observe(&ctx->counted->metrics->encode,
                                     ngx_webtorch_elapsed_usec(now, ctx->run));
        }

        if (ctx->trace) {
            ngx_http_webtorch_trace_encoded(r, ctx, now);
        }

        ngx_webtorch_metrics_mark = now;
        ctx->run = 0;
    }

    /* a thread counts what it encodes */

    if (len > NGX_HTTP_WEBTORCH_LARGE_ANSWER
        && ctx->account.limit
        && ctx->encoding == NULL)
    {
        ngx_webtorch_queue_hold(&ctx->account, len);
    }

    for (cl = out; cl->next; cl = cl->next) { /* void */ }

    b = cl->buf;
    b->last_buf = (r == r->main);
    b->last_in_chain = 1;
    b->sync = (len == 0 && !b->last_buf);

    return ngx_http_output_filter(r, out);
}


ngx_int_t
ngx_http_webtorch_send_head(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, off_t len)
{
    ngx_int_t                 rc;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ngx_http_webtorch_intercept(r, status)) {
        ctx->status = status;
        r->read_event_handler = ngx_http_block_reading;
        return (ngx_int_t) status;
    }

    ctx->answered = 1;

    r->headers_out.status = status;
    r->headers_out.content_length_n = len;

    ngx_http_webtorch_set_type(r, type);

    if (status == NGX_HTTP_NOT_MODIFIED) {
        r->headers_out.content_length_n = -1;
        ngx_str_null(&r->headers_out.content_type);
    }

    /* the filter would answer 304 or 412 although the handler has run */

    r->disable_not_modified = !ctx->conditional;

    /* nginx has no status line for it */

    if (status == 422) {
        ngx_str_set(&r->headers_out.status_line, "422 Unprocessable Content");
    }

    rc = ngx_http_send_header(r);

    if (rc > NGX_OK) {
        /* nginx answers, with 416 for a range that the file has not */
        ctx->answered = 0;
    }

    return rc;
}


/*
 * webtorch_intercept_errors: nginx answers with a page of "error_page".  In
 * such a page the handler's own answer is sent.
 */

ngx_uint_t
ngx_http_webtorch_intercept(ngx_http_request_t *r, ngx_uint_t status)
{
    ngx_uint_t                     i;
    ngx_http_err_page_t           *page;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    if (status < NGX_HTTP_SPECIAL_RESPONSE || r->error_page) {
        return 0;
    }

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!wlcf->intercept_errors || clcf->error_pages == NULL) {
        return 0;
    }

    page = clcf->error_pages->elts;

    for (i = 0; i < clcf->error_pages->nelts; i++) {
        if (page[i].status == (ngx_int_t) status) {
            return 1;
        }
    }

    return 0;
}
