
/*
 * webtorch_handler: reads and decodes the body, inflated if need be, waits for
 * the handler, encodes the answer.  Other protocols come and go by the same
 * way, see ngx_http_webtorch_wire_t.
 */

#include "ngx_http_webtorch.h"


/* of a format that has no shapes: "2,17", the request's or the answer's */
#define NGX_HTTP_WEBTORCH_SHAPE  "Tensor-Shape"


static ngx_int_t ngx_http_webtorch_negotiate(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_parse_shape_header(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);
static ngx_uint_t ngx_http_webtorch_has_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_unknown_coding(ngx_http_request_t *r);

static void ngx_http_webtorch_body_handler(ngx_http_request_t *r);
static ngx_uint_t ngx_http_webtorch_is_padded(ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_add(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);
static int ngx_http_webtorch_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static int ngx_http_webtorch_check_finite(ngx_webtorch_sink_t *sink,
    webtorch_schema_t *schema, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err);
static int ngx_http_webtorch_decode(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err);
static void ngx_http_webtorch_cleanup(void *data);

static void ngx_http_webtorch_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_answer(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_answer_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *specs, const void **data);
static ngx_int_t ngx_http_webtorch_add_shape(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *spec);


typedef struct {
    uint32_t     bit;
    ngx_uint_t   method;
    ngx_str_t    name;
} ngx_http_webtorch_method_t;


typedef struct {
    ngx_webtorch_sink_t      sink;
    ngx_webtorch_runner_t   *runner;
} ngx_http_webtorch_sink_t;


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


static const ngx_http_webtorch_wire_t  ngx_http_webtorch_formats = {
    ngx_http_webtorch_decode,
    ngx_http_webtorch_answer_tensors
};


ngx_int_t
ngx_http_webtorch_content_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    webtorch_schema_t             *schema;
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    ctx = ngx_http_webtorch_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->handler = wlcf->handler;
    ctx->wire = &ngx_http_webtorch_formats;

    schema = &ctx->handler->schema;

    /* what can be refused by its header is, before its body is read */

    if (!(ngx_http_webtorch_method(r) & schema->methods)) {
        return ngx_http_webtorch_not_allowed(r, schema->methods);
    }

    rc = ngx_http_webtorch_admit(r, ctx);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_webtorch_negotiate(r, ctx);
    }

    if (rc == NGX_DECLINED
        && ctx->in->shapeless
        && schema->kind != WEBTORCH_HANDLER)
    {
        rc = ngx_http_webtorch_parse_shape_header(r, ctx);
    }

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ctx->padded = ctx->in->padded;
    ctx->text = (ctx->in->encode != NULL);

    return ngx_http_webtorch_serve(r);
}


ngx_int_t
ngx_http_webtorch_serve(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    r->request_body_in_single_buf = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_webtorch_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


ngx_int_t
ngx_http_webtorch_available(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler)
{
    if (handler->runner == NULL) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                   "not_loaded",
                   "the handler could not be loaded, see the error log");
    }

    if (ngx_webtorch_runner_full(handler->runner)) {
        return ngx_http_webtorch_busy(r);
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_webtorch_admit(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_webtorch_available(r, ctx->handler);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (ngx_http_webtorch_coding(r, &ctx->coding) != NGX_OK
        && ngx_http_webtorch_has_body(r))
    {
        return ngx_http_webtorch_unknown_coding(r);
    }

    return NGX_DECLINED;
}


/* NGX_DECLINED: both formats are known */

static ngx_int_t
ngx_http_webtorch_negotiate(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_str_t          *accept, *type;
    webtorch_schema_t  *schema;

    schema = &ctx->handler->schema;
    type = r->headers_in.content_type ? &r->headers_in.content_type->value
                                      : NULL;

    ctx->in = (type == NULL) ? &ngx_webtorch_codec_json
                             : ngx_webtorch_codec_by_type((char *) type->data,
                                                          type->len);

    if (ctx->in == NULL) {
        if (schema->kind != WEBTORCH_HANDLER) {
            return ngx_http_webtorch_refuse(r,
                       NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                       "unsupported_media_type",
                       "unknown content type: send application/json, "
                       "or text/plain for Torch7's serialization");
        }

        ctx->in = &ngx_webtorch_codec_json;
    }

    if (schema->input_strings && !ctx->in->strings) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                   "unsupported_media_type",
                   "this format carries no strings: send application/json");
    }

    ctx->out = ctx->in;
    accept = ngx_http_webtorch_find_header(r, "accept");

    if (accept) {
        ctx->out = ngx_webtorch_codec_by_accept((char *) accept->data,
                                                accept->len, ctx->in,
                                                schema->noutputs,
                                                schema->output_strings);

    } else if (!ngx_webtorch_codec_holds(ctx->in, schema->noutputs,
                                         schema->output_strings))
    {
        ctx->out = &ngx_webtorch_codec_json;
    }

    if (schema->kind == WEBTORCH_HANDLER) {
        return NGX_DECLINED;
    }

    if (ctx->out == NULL) {
        return ngx_http_webtorch_refuse(r, 406, "not_acceptable",
                   "no format of those in the header \"Accept\" is known: "
                   "accept application/json");
    }

    return ctx->in->decode ? NGX_DECLINED : ngx_http_webtorch_may_load(r);
}


/* the shape of a body that does not tell it itself */

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
                   "the header \"" NGX_HTTP_WEBTORCH_SHAPE "\" is no shape, "
                   "as \"2,17\" is");
    }

    ctx->layout.shape = shape;

    return NGX_DECLINED;
}


ngx_str_t *
ngx_http_webtorch_find_header(ngx_http_request_t *r, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);
    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NULL;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == len
            && ngx_memcmp(h[i].lowcase_key, name, len) == 0)
        {
            return &h[i].value;
        }
    }
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


ngx_int_t
ngx_http_webtorch_not_allowed(ngx_http_request_t *r, uint32_t methods)
{
    u_char      *p;
    ngx_str_t    name, value;
    ngx_uint_t   i;

    ngx_str_set(&name, "Allow");

    value.data = ngx_pnalloc(r->pool, sizeof("GET, HEAD, POST, PUT, DELETE, "
                                             "PATCH, OPTIONS"));
    if (value.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    p = value.data;

    for (i = 0; i < NGX_HTTP_WEBTORCH_NMETHODS; i++) {
        if (ngx_http_webtorch_methods[i].bit & methods) {
            p = ngx_sprintf(p, "%s%V", (p == value.data) ? "" : ", ",
                            &ngx_http_webtorch_methods[i].name);
        }
    }

    value.len = p - value.data;

    if (ngx_http_webtorch_add_header(r, &name, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_refuse(r, NGX_HTTP_NOT_ALLOWED,
               "method_not_allowed",
               "the handler does not serve this method, see the header "
               "\"Allow\"");
}


ngx_int_t
ngx_http_webtorch_busy(ngx_http_request_t *r)
{
    ngx_str_t  name, value;

    ngx_str_set(&name, "Retry-After");
    ngx_str_set(&value, "1");

    if (ngx_http_webtorch_add_header(r, &name, &value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
               "queue_full", "too many requests wait for the handler");
}


/* a subrequest has the headers of its request, but not always the body */

static ngx_uint_t
ngx_http_webtorch_has_body(ngx_http_request_t *r)
{
    if (r->request_body) {
        return r->request_body->bufs != NULL;
    }

    return r->headers_in.content_length_n > 0 || r->headers_in.chunked;
}


static ngx_int_t
ngx_http_webtorch_unknown_coding(ngx_http_request_t *r)
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


/* an error before or after the body is read */

ngx_int_t
ngx_http_webtorch_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *text)
{
    ngx_int_t  rc;
    ngx_str_t  s;

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    s.data = (u_char *) text;
    s.len = ngx_strlen(text);

    return ngx_http_webtorch_error(r, status, code, &s);
}


static void
ngx_http_webtorch_body_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_str_t                 body;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    rc = ngx_http_webtorch_body(r, ngx_http_webtorch_is_padded(ctx), &body);

    if (rc == NGX_OK) {
        rc = ngx_http_webtorch_add(r, ctx, &body);
    }

    ngx_http_webtorch_wait(r, rc);
}


/* the job answers, or a client that goes away cancels it */

void
ngx_http_webtorch_wait(ngx_http_request_t *r, ngx_int_t rc)
{
    if (rc != NGX_AGAIN) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    r->write_event_handler = r->aio ? ngx_http_webtorch_decoded
                                    : ngx_http_request_empty_handler;

    if (r == r->main) {
        r->read_event_handler = ngx_http_test_reading;
    }
}


/* inflating pads what it writes */

static ngx_uint_t
ngx_http_webtorch_is_padded(ngx_http_webtorch_ctx_t *ctx)
{
    return ctx->padded
           && ctx->coding == NGX_HTTP_WEBTORCH_IDENTITY
           && ctx->handler->schema.kind != WEBTORCH_HANDLER;
}


/* NGX_AGAIN: the request waits for its answer */

static ngx_int_t
ngx_http_webtorch_add(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body)
{
    ngx_int_t              rc;
    ngx_pool_cleanup_t    *cln;
    ngx_webtorch_error_t   err;

    if (ngx_webtorch_runner_full(ctx->handler->runner)) {
        return ngx_http_webtorch_busy(r);
    }

    if (ctx->coding == NGX_HTTP_WEBTORCH_IDENTITY || body->len == 0) {
        return ngx_http_webtorch_add_body(r, ctx, body);
    }

    rc = ngx_http_webtorch_decode_later(r, ctx, body);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_webtorch_inflate(ctx->coding, body,
                                  ngx_http_webtorch_inflate_limit(r), cln, &err)
        != NGX_OK)
    {
        return ngx_http_webtorch_bad_body(r, &err);
    }

    return ngx_http_webtorch_add_body(r, ctx, body);
}


ngx_int_t
ngx_http_webtorch_add_body(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body)
{
    ctx->coding = NGX_HTTP_WEBTORCH_IDENTITY;

    if (ctx->handler->schema.kind == WEBTORCH_HANDLER) {
        return ngx_http_webtorch_add_request(r, ctx, ctx->handler,
                                             ngx_http_webtorch_done, body);
    }

    /* the inference protocol has no format of this kind */

    if (ctx->in && ctx->in->decode == NULL && body->len) {
        return ngx_http_webtorch_load(r, ctx, body);
    }

    return ngx_http_webtorch_add_tensors(r, ctx, body);
}


ngx_int_t
ngx_http_webtorch_bad_body(ngx_http_request_t *r, ngx_webtorch_error_t *err)
{
    ngx_str_t  text;

    text.data = (u_char *) err->text;
    text.len = ngx_strlen(err->text);

    return ngx_http_webtorch_error(r, err->status, err->code, &text);
}


ngx_int_t
ngx_http_webtorch_add_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body)
{
    ngx_int_t                  rc;
    ngx_webtorch_error_t       err;
    ngx_http_webtorch_sink_t   sink;

    if (body->len == 0) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_BAD_REQUEST, "empty_body",
                                        "the body is empty, tensors are "
                                        "expected");
    }

    rc = ngx_http_webtorch_decode_later(r, ctx, body);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    sink.sink.reserve = ngx_http_webtorch_reserve;
    sink.sink.limit = ngx_http_webtorch_inflate_limit(r);
    sink.runner = ctx->handler->runner;

    if (ngx_http_webtorch_decode_rows(ctx, body, &sink.sink, &err) != 0) {
        return ngx_http_webtorch_bad_body(r, &err);
    }

    return ngx_http_webtorch_join(r, ctx);
}


/* called in any thread, and then while the request waits for it */

int
ngx_http_webtorch_decode_rows(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
    ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err)
{
    if (ctx->wire->decode(ctx, body, sink, err) != 0) {
        return -1;
    }

    return ngx_http_webtorch_check_finite(sink, &ctx->handler->schema,
                                          &ctx->layout, err);
}


ngx_int_t
ngx_http_webtorch_join(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx)
{
    ngx_http_cleanup_t  *cln;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->waiter.done = ngx_http_webtorch_done;
    ctx->waiter.data = r;

    (void) ngx_webtorch_runner_add(ctx->handler->runner, &ctx->layout,
                                   &ctx->waiter);

    cln->handler = ngx_http_webtorch_cleanup;
    cln->data = ctx;

    return NGX_AGAIN;
}


static int
ngx_http_webtorch_decode(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
    ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err)
{
    return ctx->in->decode((char *) body->data, body->len,
                           &ctx->handler->schema, sink, &ctx->layout, err);
}


static int
ngx_http_webtorch_reserve(ngx_webtorch_sink_t *sink,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    ngx_http_webtorch_sink_t  *s;

    s = (ngx_http_webtorch_sink_t *) sink;

    if (ngx_webtorch_runner_reserve(s->runner, layout, sink) != NGX_OK) {
        return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    return 0;
}


/* one NaN that is trained on makes NaN of the whole model, for everybody */

static int
ngx_http_webtorch_check_finite(ngx_webtorch_sink_t *sink,
    webtorch_schema_t *schema, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    uint32_t          i;
    uint64_t          n;
    webtorch_spec_t  *spec;

    if (schema->kind != WEBTORCH_TRAIN) {
        return 0;
    }

    for (i = 0; i < schema->ninputs; i++) {
        spec = &schema->inputs[i];
        n = layout->rows * ngx_webtorch_row_size(spec, layout->sizes)
            / ngx_webtorch_dtypes[spec->dtype].size;

        if (!ngx_webtorch_finite(spec->dtype, sink->data[i], n)) {
            return ngx_webtorch_error(err, 422, "not_finite",
                       "tensor \"%s\": NaN and infinities cannot be trained on",
                       spec->name);
        }
    }

    return 0;
}


ngx_int_t
ngx_http_webtorch_add_request(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler,
    void (*done)(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job),
    ngx_str_t *body)
{
    webtorch_job_t       *job;
    webtorch_request_t   *request;
    ngx_http_cleanup_t   *cln;
    ngx_webtorch_sink_t   sink;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    request = ngx_http_webtorch_copy_request(r, &handler->schema, body);
    if (request == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->layout.rows = 1;

    if (ngx_webtorch_runner_reserve(handler->runner, &ctx->layout, &sink)
        != NGX_OK)
    {
        ngx_webtorch_release(request->shared);
        ngx_free(request);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->waiter.done = done;
    ctx->waiter.data = r;

    job = ngx_webtorch_runner_add(handler->runner, &ctx->layout, &ctx->waiter);
    job->request = request;

    cln->handler = ngx_http_webtorch_cleanup;
    cln->data = ctx;

    return NGX_AGAIN;
}


static void
ngx_http_webtorch_cleanup(void *data)
{
    ngx_http_webtorch_ctx_t  *ctx = data;

    ngx_webtorch_batch_cancel(&ctx->waiter);
}


static void
ngx_http_webtorch_done(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
{
    ngx_int_t                 rc;
    ngx_connection_t         *c;
    ngx_http_request_t       *r;
    ngx_http_webtorch_ctx_t  *ctx;

    r = waiter->data;
    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_http_set_log_request(c->log, r);

    rc = ngx_http_webtorch_answer(r, ctx, job);

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_webtorch_answer(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    webtorch_job_t *job)
{
    uint32_t            i;
    const void         *data[WEBTORCH_MAX_TENSORS];
    webtorch_spec_t    *specs;
    webtorch_reply_t   *reply;
    webtorch_schema_t  *schema;

    schema = &ctx->handler->schema;

    if (job == NULL || job->status != 0) {
        return ngx_http_webtorch_failed(r, job, "handler_error");
    }

    if (schema->kind != WEBTORCH_HANDLER) {
        specs = ngx_webtorch_batch_specs(&ctx->waiter);
        ctx->layout.text = 0;

        for (i = 0; i < schema->noutputs; i++) {
            data[i] = ngx_webtorch_batch_output(&ctx->waiter, job, i);
        }

        for (i = 0; schema->output_strings && i < schema->noutputs; i++) {
            ctx->layout.text += ngx_webtorch_text_size(&specs[i], data[i],
                                                       job->rows);
        }

        return ctx->wire->answer(r, ctx, specs, data);
    }

    /* the reply is sent from where it is */

    reply = ngx_http_webtorch_take_reply(r, job);
    if (reply == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_send_reply(r, ctx, reply);
}


webtorch_reply_t *
ngx_http_webtorch_take_reply(ngx_http_request_t *r, webtorch_job_t *job)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_webtorch_free;
    cln->data = job->reply;

    job->reply = NULL;

    return cln->data;
}


ngx_int_t
ngx_http_webtorch_failed(ngx_http_request_t *r, webtorch_job_t *job,
    const char *code)
{
    ngx_str_t  text;

    if (job == NULL) {
        ngx_str_set(&text, "the handler did not answer in time");
        return ngx_http_webtorch_error(r, 504, "timeout", &text);
    }

    if (job->message.len == 0) {
        ngx_str_set(&text, "the handler failed, see the error log");
        return ngx_http_webtorch_error(r, job->status, "handler_failed",
                                       &text);
    }

    text.data = (u_char *) job->message.data;
    text.len = job->message.len;

    return ngx_http_webtorch_error(r, job->status, code, &text);
}


static ngx_int_t
ngx_http_webtorch_answer_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_spec_t *specs, const void **data)
{
    webtorch_schema_t  *schema;

    schema = &ctx->handler->schema;

    if (ctx->out->shapeless
        && (schema->naxes || ctx->layout.shape)
        && ngx_http_webtorch_add_shape(r, ctx, &specs[0]) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_webtorch_send_tensors(r, NGX_HTTP_OK, ctx->out, specs,
                                          schema->noutputs, data,
                                          &ctx->layout, ctx->waiter.batch);
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


ngx_http_webtorch_ctx_t *
ngx_http_webtorch_get_ctx(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ctx == NULL) {
        ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_webtorch_ctx_t));

        if (ctx) {
            ngx_http_set_ctx(r, ctx, ngx_http_webtorch_module);
        }
    }

    return ctx;
}
