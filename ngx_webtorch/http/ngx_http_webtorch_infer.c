
#include "ngx_http_webtorch_infer.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_encode.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_hint.h"
#include "ngx_webtorch_oip_reply.h"


/* in requests and answers: bytes of JSON in front of the tensors */
#define NGX_HTTP_WEBTORCH_HEAD_LENGTH  "Inference-Header-Content-Length"


/* an answer; in the memory of the request if a thread encodes it */

typedef struct {
    ngx_http_webtorch_encoding_t   encoding;
    ngx_http_webtorch_ctx_t       *ctx;
    webtorch_spec_t               *specs;
    const void                   **outputs;
    const void                    *data[WEBTORCH_MAX_TENSORS];
    size_t                         json;     /* bytes of JSON */
    size_t                         binary;   /* bytes of tensors after it */
    ngx_uint_t                     copy;     /* they are in the same piece */
} ngx_http_webtorch_oip_reply_t;


static ngx_int_t ngx_http_webtorch_json_length(ngx_http_request_t *r,
    ssize_t *length);
static int ngx_http_webtorch_oip_decode(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err);
static ngx_int_t ngx_http_webtorch_oip_answer(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *specs, const void **data);
static ngx_uint_t ngx_http_webtorch_oip_is_large(
    ngx_http_webtorch_oip_reply_t *reply);
static ngx_int_t ngx_http_webtorch_oip_post(ngx_http_request_t *r,
    ngx_http_webtorch_oip_reply_t *reply);
static ngx_int_t ngx_http_webtorch_oip_encode_thread(
    ngx_http_webtorch_encoding_t *e);
static void ngx_http_webtorch_oip_measure(
    ngx_http_webtorch_oip_reply_t *reply);
static size_t ngx_http_webtorch_oip_reply_size(
    ngx_http_webtorch_oip_reply_t *reply);
static void ngx_http_webtorch_oip_write(ngx_http_webtorch_oip_reply_t *reply);
static ngx_int_t ngx_http_webtorch_oip_send(ngx_http_request_t *r,
    ngx_http_webtorch_encoding_t *e);
static ngx_int_t ngx_http_webtorch_add_json_length(ngx_http_request_t *r,
    size_t len);
static size_t ngx_http_webtorch_oip_rows(ngx_http_webtorch_ctx_t *ctx,
    webtorch_spec_t *specs, ngx_uint_t i, const void **data);
static u_char *ngx_http_webtorch_oip_copy(ngx_http_webtorch_ctx_t *ctx,
    u_char *p, webtorch_spec_t *specs, const void **data);
static ngx_int_t ngx_http_webtorch_oip_send_pieces(ngx_http_request_t *r,
    ngx_http_webtorch_oip_reply_t *reply);


static const ngx_http_webtorch_wire_t  ngx_http_webtorch_oip = {
    ngx_http_webtorch_oip_decode,
    ngx_http_webtorch_oip_answer
};


static ngx_str_t  ngx_http_webtorch_octets =
    ngx_string("application/octet-stream");


ngx_int_t
ngx_http_webtorch_infer(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint)
{
    ngx_int_t                 rc;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_http_webtorch_ctx_set_handler(ctx, endpoint->handler);
    ctx->endpoint = endpoint;
    ctx->wire = &ngx_http_webtorch_oip;
    ctx->padded = 1;

    if (ngx_http_webtorch_json_length(r, &ctx->json) != NGX_OK) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST,
                   "malformed_body",
                   "the header \"" NGX_HTTP_WEBTORCH_HEAD_LENGTH "\" is not "
                   "a number");
    }

    ctx->text = (ctx->json < 0);

    rc = ngx_http_webtorch_content_admit(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ctx->oip = ngx_palloc(r->pool, sizeof(ngx_webtorch_oip_t));
    if (ctx->oip == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_content_serve(r);
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
        if (ctx->version.len) {
            ctx->oip->version = (char *) ctx->version.data;
            ctx->oip->version_len = ctx->version.len;
        }

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
    ngx_int_t                       rc;
    ngx_http_webtorch_oip_reply_t   reply;

    ngx_memzero(&reply, sizeof(ngx_http_webtorch_oip_reply_t));

    reply.ctx = ctx;
    reply.specs = specs;
    reply.outputs = data;

    if (ngx_http_webtorch_oip_is_large(&reply)) {
        rc = ngx_http_webtorch_oip_post(r, &reply);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    ngx_http_webtorch_oip_measure(&reply);

    /* strings are sent in another layout than they have in memory */

    reply.copy = (reply.binary <= WEBTORCH_COPY_SIZE
                  || ctx->handler->schema.output_strings
                  || ngx_http_webtorch_hold(r, ctx->waiter.batch) != NGX_OK);

    if (reply.copy && reply.binary >= NGX_WEBTORCH_LARGE_SIZE) {
        rc = ngx_http_webtorch_oip_post(r, &reply);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    reply.encoding.body.data = ngx_pnalloc(r->pool,
                                   ngx_http_webtorch_oip_reply_size(&reply));
    if (reply.encoding.body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_webtorch_oip_write(&reply);

    if (reply.copy || reply.binary == 0) {
        return ngx_http_webtorch_oip_send(r, &reply.encoding);
    }

    return ngx_http_webtorch_oip_send_pieces(r, &reply);
}


/* whether it takes long to encode the answer */

static ngx_uint_t
ngx_http_webtorch_oip_is_large(ngx_http_webtorch_oip_reply_t *reply)
{
    size_t               size;
    uint32_t             k;
    ngx_uint_t           i;
    ngx_webtorch_oip_t  *oip;

    size = 0;
    oip = reply->ctx->oip;

    for (i = 0; i < oip->noutputs; i++) {
        k = oip->outputs[i];

        if (!(oip->binary & (1u << i))
            || ngx_webtorch_is_string(reply->specs[k].dtype))
        {
            size += ngx_http_webtorch_text_cost(&reply->specs[k],
                                                reply->outputs[k],
                                                reply->ctx->layout.rows);
        }
    }

    return size >= NGX_WEBTORCH_LARGE_TEXT;
}


static ngx_int_t
ngx_http_webtorch_oip_post(ngx_http_request_t *r,
    ngx_http_webtorch_oip_reply_t *reply)
{
    uint32_t                        i;
    ngx_http_webtorch_oip_reply_t  *posted;

    posted = ngx_palloc(r->pool, sizeof(ngx_http_webtorch_oip_reply_t));
    if (posted == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    *posted = *reply;

    ngx_memcpy(posted->data, reply->outputs,
               reply->ctx->handler->schema.noutputs * sizeof(void *));

    posted->outputs = posted->data;
    posted->copy = 1;

    posted->encoding.encode = ngx_http_webtorch_oip_encode_thread;
    posted->encoding.send = ngx_http_webtorch_oip_send;
    posted->encoding.batch = reply->ctx->waiter.batch;

    for (i = 0; i < reply->ctx->handler->schema.noutputs; i++) {
        posted->encoding.size += reply->ctx->layout.rows
                                 * (size_t) reply->specs[i].row_size;
    }

    return ngx_http_webtorch_encode_post(r, &posted->encoding);
}


static ngx_int_t
ngx_http_webtorch_oip_encode_thread(ngx_http_webtorch_encoding_t *e)
{
    ngx_http_webtorch_oip_reply_t *reply = (ngx_http_webtorch_oip_reply_t *) e;

    ngx_http_webtorch_oip_measure(reply);

    e->body.data = ngx_webtorch_buffer_alloc(
                       ngx_http_webtorch_oip_reply_size(reply));
    if (e->body.data == NULL) {
        return NGX_ERROR;
    }

    ngx_http_webtorch_oip_write(reply);

    return NGX_OK;
}


/* sets the bytes of all strings and of what is sent as bytes */

static void
ngx_http_webtorch_oip_measure(ngx_http_webtorch_oip_reply_t *reply)
{
    uint32_t                  i;
    webtorch_schema_t        *schema;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = reply->ctx;
    schema = &ctx->handler->schema;

    ctx->layout.text = 0;

    for (i = 0; schema->output_strings && i < schema->noutputs; i++) {
        ctx->layout.text += ngx_webtorch_text_size(&reply->specs[i],
                                                   reply->outputs[i],
                                                   ctx->layout.rows);
    }

    reply->binary = 0;

    for (i = 0; i < ctx->oip->noutputs; i++) {
        reply->binary += ngx_http_webtorch_oip_rows(ctx, reply->specs, i,
                                                    reply->outputs);
    }
}


static size_t
ngx_http_webtorch_oip_reply_size(ngx_http_webtorch_oip_reply_t *reply)
{
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = reply->ctx;

    return ngx_webtorch_oip_bound(ctx->oip, ctx->endpoint->json.len,
                                  reply->specs, &ctx->layout)
           + (reply->copy ? reply->binary : 0);
}


/* writes the JSON, and after it the bytes if they are copied */

static void
ngx_http_webtorch_oip_write(ngx_http_webtorch_oip_reply_t *reply)
{
    u_char                   *p, *last;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = reply->ctx;
    p = reply->encoding.body.data;

    last = (u_char *) ngx_webtorch_oip_encode((char *) p, ctx->oip,
                          (char *) ctx->endpoint->json.data,
                          ctx->endpoint->json.len, reply->specs, reply->outputs,
                          &ctx->layout);
    reply->json = last - p;

    if (reply->copy && reply->binary) {
        last = ngx_http_webtorch_oip_copy(ctx, last, reply->specs,
                                          reply->outputs);
    }

    reply->encoding.body.len = last - p;
}


/* sends an answer of one piece */

static ngx_int_t
ngx_http_webtorch_oip_send(ngx_http_request_t *r,
    ngx_http_webtorch_encoding_t *e)
{
    ngx_http_webtorch_oip_reply_t *reply = (ngx_http_webtorch_oip_reply_t *) e;

    if (reply->binary == 0) {
        return ngx_http_webtorch_send(r, NGX_HTTP_OK,
                                      &ngx_http_webtorch_json_type,
                                      e->body.data, e->body.len);
    }

    if (ngx_http_webtorch_add_json_length(r, reply->json) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_send(r, NGX_HTTP_OK, &ngx_http_webtorch_octets,
                                  e->body.data, e->body.len);
}


static ngx_int_t
ngx_http_webtorch_add_json_length(ngx_http_request_t *r, size_t len)
{
    ngx_str_t  name, value;

    ngx_str_set(&name, NGX_HTTP_WEBTORCH_HEAD_LENGTH);

    value.data = ngx_pnalloc(r->pool, NGX_SIZE_T_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = ngx_sprintf(value.data, "%uz", len) - value.data;

    return ngx_http_webtorch_add_header(r, &name, &value);
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
ngx_http_webtorch_oip_send_pieces(ngx_http_request_t *r,
    ngx_http_webtorch_oip_reply_t *reply)
{
    size_t                    len, size;
    ngx_uint_t                i;
    ngx_chain_t              *out, **ll;
    ngx_http_webtorch_ctx_t  *ctx;

    if (ngx_http_webtorch_add_json_length(r, reply->json) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = 0;
    ll = &out;
    ctx = reply->ctx;

    if (ngx_http_webtorch_add_piece(r, &ll, (char *) reply->encoding.body.data,
                                    reply->json, &len)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    for (i = 0; i < ctx->oip->noutputs; i++) {
        size = ngx_http_webtorch_oip_rows(ctx, reply->specs, i,
                                          reply->outputs);

        if (ngx_http_webtorch_add_piece(r, &ll,
                            (char *) reply->outputs[ctx->oip->outputs[i]],
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
