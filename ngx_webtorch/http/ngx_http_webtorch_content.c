
/*
 * webtorch_handler: reads the body, decodes it, waits for the handler and
 * answers.  Other protocols are served in the same way, see
 * ngx_http_webtorch_wire_t.
 */

#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_body_read.h"
#include "ngx_http_webtorch_decode.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_inflate.h"
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_load.h"
#include "ngx_http_webtorch_metadata.h"
#include "ngx_http_webtorch_negotiate.h"
#include "ngx_http_webtorch_thread.h"
#include "ngx_http_webtorch_version_set.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_runner.h"


static ngx_uint_t ngx_http_webtorch_content_has_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_content_unknown_coding(
    ngx_http_request_t *r);
static void ngx_http_webtorch_content_body_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_content_decoded_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_content_wait(ngx_http_request_t *r, ngx_int_t rc);
static ngx_uint_t ngx_http_webtorch_content_is_padded(
    ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_content_add(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_content_add_coded(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);
static ngx_int_t ngx_http_webtorch_content_add_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);


ngx_int_t
ngx_http_webtorch_content_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    webtorch_schema_t             *schema;
    const ngx_webtorch_codec_t    *in;
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    ctx = ngx_http_webtorch_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_webtorch_ctx_set_handler(ctx, wlcf->handler);

    schema = &ctx->handler->schema;

    if (r->method == NGX_HTTP_OPTIONS && schema->kind != WEBTORCH_HANDLER) {
        return ngx_http_webtorch_handler_metadata(r, ctx->handler);
    }

    /* a request is refused by its headers before its body is read */

    if (!(ngx_http_webtorch_method(r) & schema->methods)) {
        return ngx_http_webtorch_not_allowed(r, schema->methods);
    }

    rc = ngx_http_webtorch_content_admit(r, ctx);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_webtorch_negotiate(r, ctx);
    }

    if (rc == NGX_DECLINED && wlcf->model) {
        rc = ngx_http_webtorch_version_set_of_model(r, ctx, wlcf->model);
    }

    if (rc != NGX_DECLINED) {
        return rc;
    }

    /* a body of text/plain may be JSON */

    in = ctx->formats.in;

    ctx->padded = (in->padded || in == &ngx_webtorch_codec_torch7);
    ctx->text = (in->encode != NULL && !in->binary);

    return ngx_http_webtorch_content_serve(r);
}


ngx_int_t
ngx_http_webtorch_content_serve(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    rc = ngx_http_webtorch_body_begin(r, ctx);

    if (rc != NGX_OK) {
        return (rc == NGX_BUSY) ? ngx_http_webtorch_no_room(r)
                                : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->request_body_in_single_buf = 1;

    ctx->received = ctx->begun;
    ctx->reading = 1;

    rc = ngx_http_webtorch_read_body(r, ngx_http_webtorch_content_body_handler);

    /* the phase has a reference, the request is not freed by an error */

    ctx->reading = 0;

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


ngx_int_t
ngx_http_webtorch_content_admit(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_webtorch_job_available(r, ctx->handler);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ngx_http_webtorch_coding(r, &ctx->coding) != NGX_OK
        && ngx_http_webtorch_content_has_body(r))
    {
        return ngx_http_webtorch_content_unknown_coding(r);
    }

    return NGX_DECLINED;
}


/* a subrequest has the headers of its parent, but not always the body */

static ngx_uint_t
ngx_http_webtorch_content_has_body(ngx_http_request_t *r)
{
    if (r->request_body) {
        return r->request_body->bufs != NULL;
    }

    return r->headers_in.content_length_n > 0 || r->headers_in.chunked;
}


static ngx_int_t
ngx_http_webtorch_content_unknown_coding(ngx_http_request_t *r)
{
    ngx_str_t  name, value;

    ngx_str_set(&name, "Accept-Encoding");
    ngx_str_set(&value, "gzip, deflate");

    if (ngx_http_webtorch_add_header(r, &name, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_refuse(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
               "unsupported_media_type",
               "unknown content encoding: send gzip or deflate, "
               "or the body uncompressed");
}


static void
ngx_http_webtorch_content_body_handler(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t  *ctx;

    if (!ngx_http_webtorch_body_complete(r)) {
        ngx_http_webtorch_content_wait(r, ngx_http_webtorch_incomplete_body(r));
        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ctx->begun && !ctx->reading) {
        ctx->received = ngx_webtorch_clock_usec();
    }

    ctx->decoded = ngx_http_webtorch_content_decoded_handler;

    ngx_http_webtorch_content_wait(r, ngx_http_webtorch_content_add(r, ctx));
}


/* the write event handler while a thread inflates or decodes the body */

static void
ngx_http_webtorch_content_decoded_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_str_t                 body;
    ngx_http_webtorch_ctx_t  *ctx;

    /* a write event of the connection calls it, too */

    if (r->aio) {
        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    rc = ngx_http_webtorch_decode_finish(r, ctx, &body);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_webtorch_content_add_body(r, ctx, &body);
    }

    ngx_http_webtorch_content_wait(r, rc);
}


/* the job answers; it is cancelled if the client closes the connection */

static void
ngx_http_webtorch_content_wait(ngx_http_request_t *r, ngx_int_t rc)
{
    if (rc != NGX_AGAIN) {
        ngx_http_webtorch_finalize(r, rc);
        return;
    }

    if (!r->aio) {
        r->write_event_handler = ngx_http_request_empty_handler;
    }

    if (r == r->main) {
        ngx_http_webtorch_watch_client(r);
    }
}


/* an inflated body is padded, too */

static ngx_uint_t
ngx_http_webtorch_content_is_padded(ngx_http_webtorch_ctx_t *ctx)
{
    return ctx->padded
           && ctx->coding == NGX_HTTP_WEBTORCH_IDENTITY
           && ctx->handler->schema.kind != WEBTORCH_HANDLER;
}


/* NGX_AGAIN: the request waits */

static ngx_int_t
ngx_http_webtorch_content_add(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t   rc;
    ngx_str_t   body;
    ngx_uint_t  padded;

    if (ngx_webtorch_runner_full(ctx->handler->runner, ctx->account.held)) {
        return ngx_http_webtorch_busy(r);
    }

    if (ctx->query.len) {
        return ngx_http_webtorch_content_add_body(r, ctx, &ctx->query);
    }

    padded = ngx_http_webtorch_content_is_padded(ctx);

    if (ngx_http_webtorch_body_copied(r, padded)
        >= NGX_WEBTORCH_LARGE_SIZE)
    {
        rc = ngx_http_webtorch_decode_post(r, ctx, NULL);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    rc = ngx_http_webtorch_body(r, ctx, padded, &body);

    if (rc != NGX_OK) {
        return (rc == NGX_BUSY) ? ngx_http_webtorch_no_room(r) : rc;
    }

    if (ctx->coding == NGX_HTTP_WEBTORCH_IDENTITY || body.len == 0) {
        return ngx_http_webtorch_content_add_body(r, ctx, &body);
    }

    return ngx_http_webtorch_content_add_coded(r, ctx, &body);
}


/*
 * A short body may inflate to a thousand times its size.  The event loop
 * inflates a little of it, then a thread begins again.
 */

static ngx_int_t
ngx_http_webtorch_content_add_coded(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    size_t                 limit, here;
    ngx_int_t              rc;
    ngx_pool_cleanup_t    *cln;
    ngx_webtorch_error_t   err;

    rc = ngx_http_webtorch_decode_post(r, ctx, body);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    limit = ngx_http_webtorch_inflate_limit(r);
    here = ngx_http_webtorch_thread_allowed(r)
               ? ngx_min(limit, NGX_WEBTORCH_LARGE_TEXT) : limit;

    if (ngx_http_webtorch_inflate(ctx, body, here, cln, &err) == NGX_OK) {
        ngx_http_webtorch_body_unmap(ctx);

        return ngx_http_webtorch_content_add_body(r, ctx, body);
    }

    if (err.status != NGX_HTTP_REQUEST_ENTITY_TOO_LARGE || here == limit) {
        return ngx_http_webtorch_bad_body(r, &err);
    }

    ctx->bomb = 1;

    return ngx_http_webtorch_decode_post(r, ctx, body);
}


/* a body that is not compressed; NGX_AGAIN: the request waits */

static ngx_int_t
ngx_http_webtorch_content_add_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    ctx->coding = NGX_HTTP_WEBTORCH_IDENTITY;

    if (ctx->handler->schema.kind == WEBTORCH_HANDLER) {
        return ngx_http_webtorch_job_add_request(r, ctx, ctx->handler,
                                                 ngx_http_webtorch_job_done,
                                                 body);
    }

    /* the inference protocol sets no format */

    if (ctx->formats.in && ctx->formats.in->decode == NULL && body->len) {
        return ngx_http_webtorch_load(r, ctx, body);
    }

    return ngx_http_webtorch_decode_add(r, ctx, body);
}
