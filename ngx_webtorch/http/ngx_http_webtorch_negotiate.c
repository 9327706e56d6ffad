
#include "ngx_http_webtorch_negotiate.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_load.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_webtorch_formats.h"


/* "2,17", in the request or the answer, for formats without shapes */
#define NGX_HTTP_WEBTORCH_SHAPE  "Tensor-Shape"


static ngx_int_t ngx_http_webtorch_choose_in(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_choose_out(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);
static void ngx_http_webtorch_formats_get(ngx_http_webtorch_ctx_t *ctx,
    ngx_webtorch_formats_t *formats);
static void ngx_http_webtorch_formats_set(ngx_http_webtorch_ctx_t *ctx,
    ngx_webtorch_formats_t *formats);
static ngx_int_t ngx_http_webtorch_parse_shape_header(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);
static int ngx_http_webtorch_format_decode(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err);
static ngx_int_t ngx_http_webtorch_format_answer(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *specs, const void **data);
static ngx_int_t ngx_http_webtorch_add_shape(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *spec);


static const ngx_http_webtorch_wire_t  ngx_http_webtorch_formats = {
    ngx_http_webtorch_format_decode,
    ngx_http_webtorch_format_answer
};


ngx_int_t
ngx_http_webtorch_negotiate(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t              rc;
    webtorch_schema_t     *schema;
    ngx_webtorch_error_t   err;

    ctx->wire = &ngx_http_webtorch_formats;

    schema = &ctx->handler->schema;

    rc = ngx_http_webtorch_choose_in(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    rc = ngx_http_webtorch_choose_out(r, ctx);

    if (rc != NGX_DECLINED || schema->kind == WEBTORCH_HANDLER) {
        return rc;
    }

    if (ctx->out == NULL) {
        if (ngx_http_webtorch_add_vary(r) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        (void) ngx_webtorch_formats_not_acceptable(schema, &err);

        return ngx_http_webtorch_refuse(r, err.status, err.code, err.text);
    }

    if (ctx->in->decode == NULL) {
        return ngx_http_webtorch_load_allowed(r);
    }

    return ctx->in->shapeless ? ngx_http_webtorch_parse_shape_header(r, ctx)
                              : NGX_DECLINED;
}


ngx_int_t
ngx_http_webtorch_negotiate_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_webtorch_choose_in(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ctx->in->decode == NULL) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                   "unsupported_media_type",
                   "this function takes no files of PyTorch: send "
                   "application/json");
    }

    return ctx->in->shapeless ? ngx_http_webtorch_parse_shape_header(r, ctx)
                              : NGX_DECLINED;
}


/* the format of the body; NGX_DECLINED: it is set */

static ngx_int_t
ngx_http_webtorch_choose_in(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    int                      rc;
    ngx_str_t               *value;
    webtorch_str_t           type;
    ngx_webtorch_error_t     err;
    ngx_webtorch_formats_t   formats;

    ngx_http_webtorch_formats_get(ctx, &formats);

    if (r->headers_in.content_type) {
        value = &r->headers_in.content_type->value;
        type.data = (char *) value->data;
        type.len = value->len;
    }

    rc = ngx_webtorch_formats_choose_in(&formats, &ctx->handler->schema,
                                        r->headers_in.content_type ? &type
                                                                   : NULL,
                                        &ctx->layout, &err);

    ngx_http_webtorch_formats_set(ctx, &formats);

    return rc ? ngx_http_webtorch_refuse(r, err.status, err.code, err.text)
              : NGX_DECLINED;
}


/* the format of the answer, NULL: none; NGX_DECLINED: it is set */

static ngx_int_t
ngx_http_webtorch_choose_out(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_str_t                accept;
    ngx_webtorch_formats_t   formats;

    rc = ngx_http_webtorch_join_headers(r, "accept", &accept);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        ngx_str_set(&accept, "");
    }

    ngx_http_webtorch_formats_get(ctx, &formats);

    ngx_webtorch_formats_choose_out(&formats, &ctx->handler->schema,
                                    (char *) accept.data, accept.len);

    ngx_http_webtorch_formats_set(ctx, &formats);

    return NGX_DECLINED;
}


static void
ngx_http_webtorch_formats_get(ngx_http_webtorch_ctx_t *ctx,
    ngx_webtorch_formats_t *formats)
{
    formats->in = ctx->in;
    formats->out = ctx->out;
    formats->json_out = ctx->json_out;
}


static void
ngx_http_webtorch_formats_set(ngx_http_webtorch_ctx_t *ctx,
    ngx_webtorch_formats_t *formats)
{
    ctx->in = formats->in;
    ctx->out = formats->out;
    ctx->json_out = formats->json_out;
}


/* the shape of a body whose format has none in it */

static ngx_int_t
ngx_http_webtorch_parse_shape_header(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_str_t             *value;
    ngx_webtorch_error_t   err;
    ngx_webtorch_shape_t  *shape;

    value = ngx_http_webtorch_find_header(r, "tensor-shape");

    if (value == NULL) {
        return NGX_DECLINED;
    }

    shape = ngx_pcalloc(r->pool, sizeof(ngx_webtorch_shape_t));
    if (shape == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_webtorch_parse_shape(shape, (char *) value->data, value->len) != 0)
    {
        (void) ngx_webtorch_formats_bad_shape(&err);

        return ngx_http_webtorch_refuse(r, err.status, err.code, err.text);
    }

    ctx->layout.shape = shape;

    return NGX_DECLINED;
}


static int
ngx_http_webtorch_format_decode(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
    ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err)
{
    return ngx_http_webtorch_decode_format(ctx, body, &ctx->handler->schema,
                                           sink, err);
}


int
ngx_http_webtorch_decode_format(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
    webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_error_t *err)
{
    int                      rc;
    webtorch_str_t           text;
    ngx_webtorch_formats_t   formats;

    text.data = (char *) body->data;
    text.len = body->len;

    ngx_http_webtorch_formats_get(ctx, &formats);

    rc = ngx_webtorch_formats_decode(&formats, &text, schema, sink,
                                     &ctx->layout, err);

    ngx_http_webtorch_formats_set(ctx, &formats);

    return rc;
}


static ngx_int_t
ngx_http_webtorch_format_answer(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *specs, const void **data)
{
    webtorch_schema_t            *schema;
    ngx_http_webtorch_tensors_t   tensors;

    schema = &ctx->handler->schema;

    if (ctx->out->shapeless
        && (schema->naxes || ctx->layout.shape)
        && ngx_http_webtorch_add_shape(r, ctx, &specs[0]) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_webtorch_add_vary(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    tensors.status = NGX_HTTP_OK;
    tensors.codec = ctx->out;
    tensors.specs = specs;
    tensors.n = schema->noutputs;
    tensors.data = data;
    tensors.layout = &ctx->layout;
    tensors.batch = ctx->waiter.batch;

    return ngx_http_webtorch_send_tensors(r, &tensors);
}


static ngx_int_t
ngx_http_webtorch_add_shape(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *spec)
{
    char       *last;
    ngx_str_t   name, value;

    ngx_str_set(&name, NGX_HTTP_WEBTORCH_SHAPE);

    value.data = ngx_pnalloc(r->pool, NGX_WEBTORCH_SHAPE_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    last = ngx_webtorch_write_sizes((char *) value.data, spec, &ctx->layout);
    value.len = last - (char *) value.data;

    return ngx_http_webtorch_add_header(r, &name, &value);
}
