
#include "ngx_http_webtorch_infer.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_webtorch_hint.h"
#include "ngx_webtorch_oip_reply.h"


/* in requests and answers: bytes of JSON in front of the tensors */
#define NGX_HTTP_WEBTORCH_HEAD_LENGTH  "Inference-Header-Content-Length"


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


static const ngx_http_webtorch_wire_t  ngx_http_webtorch_oip = {
    ngx_http_webtorch_oip_decode,
    ngx_http_webtorch_oip_answer
};


static ngx_str_t  ngx_http_webtorch_octets =
    ngx_string("application/octet-stream");


ngx_int_t
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
                   "the header \"" NGX_HTTP_WEBTORCH_HEAD_LENGTH "\" is not "
                   "a number");
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

    if (ngx_webtorch_oip_decode((char *) body->data, body->len, json,
                                &ctx->handler->schema, sink, &ctx->layout,
                                ctx->oip, err)
        == 0)
    {
        return 0;
    }

    ngx_webtorch_hint_format(err, &ngx_webtorch_codec_json,
                             (char *) body->data, body->len);

    return -1;
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

    /* strings are sent in another layout than they have in memory */

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
        return ngx_http_webtorch_send(r, NGX_HTTP_OK,
                                      &ngx_http_webtorch_json_type, json.data,
                                      json.len);
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


/* bytes of output i of the answer if it is sent as bytes, else 0 */

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


/* sends the rows from the batch, without a copy */

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
