
/*
 * Answers are sent: text and small tensors from a copy in the request's pool,
 * larger tensors in binary formats right from the batch.
 */

#include "ngx_http_webtorch_send.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_header.h"


/* bytes; smaller answers mostly fit into the socket, and are not counted */
#define NGX_HTTP_WEBTORCH_LARGE_ANSWER  65536


static ngx_int_t ngx_http_webtorch_send_frames(ngx_http_request_t *r,
    ngx_str_t *type, ngx_http_webtorch_tensors_t *tensors);
static ngx_uint_t ngx_http_webtorch_intercept(ngx_http_request_t *r,
    ngx_uint_t status);


ngx_str_t  ngx_http_webtorch_json_type = ngx_string("application/json");


ngx_int_t
ngx_http_webtorch_send_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_tensors_t *tensors)
{
    char                        *p, *last;
    size_t                       size, frames;
    ngx_str_t                    type;
    ngx_webtorch_batch_t        *batch;
    const ngx_webtorch_codec_t  *codec;

    batch = tensors->batch;
    codec = tensors->codec;

    type.data = (u_char *) codec->types[0];
    type.len = ngx_strlen(codec->types[0]);

    size = ngx_webtorch_codec_bound(codec, tensors->specs, tensors->n,
                                    tensors->layout);

    if (codec->frame) {
        frames = codec->bound(tensors->specs, tensors->n, tensors->layout);

        if (size - frames > WEBTORCH_COPY_SIZE
            && (batch == NULL || ngx_http_webtorch_hold(r, batch) == NGX_OK))
        {
            return ngx_http_webtorch_send_frames(r, &type, tensors);
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
    ngx_int_t                 rc;
    ngx_buf_t                *b;
    ngx_chain_t              *cl;
    ngx_http_webtorch_ctx_t  *ctx;

    if (ngx_http_webtorch_intercept(r, status)) {
        r->read_event_handler = ngx_http_block_reading;
        return (ngx_int_t) status;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
    ctx->answered = 1;

    if (len > NGX_HTTP_WEBTORCH_LARGE_ANSWER && ctx->account.limit) {
        ngx_webtorch_queue_hold(&ctx->account, len);
    }

    r->headers_out.status = status;
    r->headers_out.content_length_n = (off_t) len;

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

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    for (cl = out; cl->next; cl = cl->next) { /* void */ }

    b = cl->buf;
    b->last_buf = (r == r->main);
    b->last_in_chain = 1;
    b->sync = (len == 0 && !b->last_buf);

    return ngx_http_output_filter(r, out);
}


/*
 * webtorch_intercept_errors: nginx answers with a page of "error_page".  In
 * such a page the handler's own answer is sent.
 */

static ngx_uint_t
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
