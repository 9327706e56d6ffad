
#include "ngx_http_webtorch_negotiate.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_load.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_webtorch_codec_file.h"
#include "ngx_webtorch_hint.h"


/* "2,17", in the request or the answer, for formats without shapes */
#define NGX_HTTP_WEBTORCH_SHAPE  "Tensor-Shape"


static ngx_int_t ngx_http_webtorch_choose_in(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_choose_out(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_refuse_types(ngx_http_request_t *r,
    ngx_uint_t status, const char *text, uint32_t n, uint32_t strings,
    ngx_uint_t files);
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
    ngx_int_t           rc;
    webtorch_schema_t  *schema;

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

        return ngx_http_webtorch_refuse_types(r, 406,
                   "no format in the header \"Accept\" is known: "
                   "accept application/json; known are ",
                   schema->noutputs, schema->output_strings, 0);
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
    ngx_str_t          *type;
    ngx_uint_t          files;
    webtorch_schema_t  *schema;

    schema = &ctx->handler->schema;

    ctx->in = &ngx_webtorch_codec_json;

    if (r->headers_in.content_type == NULL) {
        return NGX_DECLINED;
    }

    type = &r->headers_in.content_type->value;
    files = ngx_webtorch_codec_takes_files(schema);

    if (files) {
        ctx->in = ngx_webtorch_codec_of_files((char *) type->data, type->len);

        if (ctx->in) {
            ctx->layout.type = (char *) type->data;
            ctx->layout.type_len = type->len;
            return NGX_DECLINED;
        }
    }

    ctx->in = ngx_webtorch_codec_by_type((char *) type->data, type->len);

    if (schema->kind == WEBTORCH_HANDLER) {
        ctx->in = ctx->in ? ctx->in : &ngx_webtorch_codec_json;
        return NGX_DECLINED;
    }

    if (ctx->in == NULL) {
        return ngx_http_webtorch_refuse_types(r,
                   NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                   "unknown content type: send application/json, "
                   "or text/plain for Torch7's serialization; known are ",
                   schema->ninputs, schema->input_strings, files);
    }

    /* a browser sends JSON as text/plain, if nothing else is set */

    if (ctx->in == &ngx_webtorch_codec_torch7) {
        return NGX_DECLINED;
    }

    if (schema->input_strings && !ctx->in->strings) {
        return ngx_http_webtorch_refuse_types(r,
                   NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                   "this format carries no strings: send application/json; "
                   "known are ",
                   schema->ninputs, schema->input_strings, files);
    }

    return NGX_DECLINED;
}


/* the format of the answer, NULL: none; NGX_DECLINED: it is set */

static ngx_int_t
ngx_http_webtorch_choose_out(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_str_t                    accept;
    webtorch_schema_t           *schema;
    const ngx_webtorch_codec_t  *own;

    schema = &ctx->handler->schema;

    /* answers are not files */

    own = (ctx->in == &ngx_webtorch_codec_file
           || ctx->in == &ngx_webtorch_codec_files)
          ? &ngx_webtorch_codec_json : ctx->in;

    rc = ngx_http_webtorch_join_headers(r, "accept", &accept);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (rc == NGX_DECLINED) {
        ngx_str_set(&accept, "");
    }

    ctx->out = ngx_webtorch_codec_by_accept((char *) accept.data, accept.len,
                                            own, schema->noutputs,
                                            schema->output_strings);

    if (ctx->in == &ngx_webtorch_codec_torch7) {
        ctx->json_out = ngx_webtorch_codec_by_accept((char *) accept.data,
                                                     accept.len,
                                                     &ngx_webtorch_codec_json,
                                                     schema->noutputs,
                                                     schema->output_strings);
    }

    return NGX_DECLINED;
}


/* text: followed by the formats that can hold n tensors */

static ngx_int_t
ngx_http_webtorch_refuse_types(ngx_http_request_t *r, ngx_uint_t status,
    const char *text, uint32_t n, uint32_t strings, ngx_uint_t files)
{
    u_char                       *p, *last, *buf;
    const char                   *separator;
    const ngx_webtorch_codec_t  *const *codec;

    buf = ngx_pnalloc(r->pool, NGX_WEBTORCH_ERROR_LEN);
    if (buf == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    last = buf + NGX_WEBTORCH_ERROR_LEN - 1;
    p = ngx_slprintf(buf, last, "%s", text);
    separator = "";

    for (codec = ngx_webtorch_codecs; *codec; codec++) {

        if (ngx_webtorch_codec_holds(*codec, n, strings)) {
            p = ngx_slprintf(p, last, "%s%s", separator, (*codec)->types[0]);
            separator = ", ";
        }
    }

    if (files) {
        p = ngx_slprintf(p, last, ", multipart/form-data, image/*, audio/*, "
                                  "video/*, application/octet-stream");
    }

    *p = '\0';

    return ngx_http_webtorch_refuse(r, status,
                                    status == 406 ? "not_acceptable"
                                                  : "unsupported_media_type",
                                    (char *) buf);
}


/* the shape of a body whose format has none in it */

static ngx_int_t
ngx_http_webtorch_parse_shape_header(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_str_t             *value;
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
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST,
                   "malformed_body",
                   "the header \"" NGX_HTTP_WEBTORCH_SHAPE "\" is not a "
                   "shape like \"2,17\"");
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
    if (ctx->in == &ngx_webtorch_codec_torch7) {

        if (ngx_webtorch_hint_is_json((char *) body->data, body->len)) {
            ctx->in = &ngx_webtorch_codec_json;
            ctx->out = ctx->json_out;

        } else if (schema->input_strings) {
            return ngx_webtorch_error(err, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                       "unsupported_media_type",
                       "text/plain is JSON or Torch7's serialization, which "
                       "carries no strings: send application/json");
        }
    }

    if (ctx->in->decode((char *) body->data, body->len, schema, sink,
                        &ctx->layout, err)
        == 0)
    {
        return 0;
    }

    ngx_webtorch_hint_format(err, ctx->in, (char *) body->data, body->len);

    return -1;
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
