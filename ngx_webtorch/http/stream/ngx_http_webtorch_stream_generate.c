
/*
 * A generate function: the tensors of a request are rows of its open function,
 * which writes the states of a generation.  Then each step is a job without
 * inputs, as a chunk of a stream is one, and rows of all generations are one
 * call.
 */

#include "ngx_http_webtorch_stream_generate.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_failure.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_logged.h"
#include "ngx_http_webtorch_metadata.h"
#include "ngx_http_webtorch_negotiate.h"
#include "ngx_http_webtorch_query.h"
#include "ngx_http_webtorch_stream_chunk.h"
#include "ngx_http_webtorch_stream_content.h"
#include "ngx_http_webtorch_stream_format.h"
#include "ngx_http_webtorch_stream_head.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_ping.h"
#include "ngx_http_webtorch_stream_pump.h"
#include "ngx_http_webtorch_stream_table.h"
#include "ngx_http_webtorch_stream_turn.h"
#include "ngx_http_webtorch_stream_document.h"
#include "ngx_webtorch_runner.h"


static ngx_int_t ngx_http_webtorch_stream_generate_new(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler);
static ngx_int_t ngx_http_webtorch_stream_generate_negotiate(
    ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx);
static webtorch_schema_t *ngx_http_webtorch_stream_generate_tensors(
    ngx_webtorch_handler_t *handler);
static int ngx_http_webtorch_stream_generate_decode(
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body, ngx_webtorch_sink_t *sink,
    ngx_webtorch_error_t *err);
static ngx_int_t ngx_http_webtorch_stream_generate_begun(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_stream_generate_set_prefix(
    ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_generate_produce(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_generate_stepped(
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_stream_generate_answer(
    ngx_http_webtorch_stream_t *st, webtorch_job_t *job);


static const ngx_http_webtorch_wire_t
    ngx_http_webtorch_stream_generate_wire =
{
    ngx_http_webtorch_stream_generate_decode,
    NULL
};


ngx_int_t
ngx_http_webtorch_stream_generate_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_webtorch_handler_t        *handler;
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    ctx = ngx_http_webtorch_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    handler = wlcf->handler;
    ngx_http_webtorch_ctx_set_handler(ctx, handler);

    if (r->method == NGX_HTTP_OPTIONS && r == r->main) {
        return ngx_http_webtorch_handler_metadata(r, handler);
    }

    if (!(ngx_http_webtorch_method(r) & handler->schema.methods)) {
        return ngx_http_webtorch_not_allowed(r, handler->schema.methods);
    }

    /* an EventSource comes back after the end, which this status prevents */

    if (r->method == NGX_HTTP_GET
        && ngx_http_webtorch_find_header(r, "last-event-id"))
    {
        return NGX_HTTP_NO_CONTENT;
    }

    rc = ngx_http_webtorch_stream_generate_create(r, ctx, handler);

    if (rc == NGX_DECLINED) {
        rc = ngx_http_webtorch_stream_generate_negotiate(r, ctx);
    }

    return (rc == NGX_DECLINED) ? ngx_http_webtorch_content_serve(r) : rc;
}


ngx_int_t
ngx_http_webtorch_stream_generate_create(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler)
{
    ngx_int_t  rc;

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "webtorch handler \"%V\", which generates, is used in a "
                      "subrequest", &handler->name);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_webtorch_job_available(r, handler);

    return (rc == NGX_DECLINED)
               ? ngx_http_webtorch_stream_generate_new(r, ctx, handler) : rc;
}


static ngx_int_t
ngx_http_webtorch_stream_generate_new(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler)
{
    ngx_int_t                    rc;
    ngx_http_webtorch_stream_t  *st;

    rc = ngx_http_webtorch_stream_new(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    (void) ngx_http_webtorch_stream_generate_tensors(handler);

    st = ctx->stream;
    st->produce = ngx_http_webtorch_stream_generate_produce;
    st->fail = ngx_http_webtorch_stream_fail;

    ctx->handler = handler->opener;
    ctx->answer = ngx_http_webtorch_stream_generate_begun;
    ctx->owner = &st->owner;
    ctx->state_row = st->state_rows[0];

    return ngx_http_webtorch_content_admit(r, ctx);
}


/* the tensors of open, whose schema is known in a worker; NULL: not loaded */

static webtorch_schema_t *
ngx_http_webtorch_stream_generate_tensors(ngx_webtorch_handler_t *handler)
{
    webtorch_schema_t                *wire;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;
    wire = &conf->open_wire;

    if (wire->nmasks == 0) {

        if (handler->opener == NULL || handler->opener->runner == NULL) {
            return NULL;
        }

        *wire = handler->opener->schema;

        /* the row of states remains among the buffers, in front of masks */
        wire->ninputs--;
        wire->nmasks++;
    }

    return wire;
}


/* sizes of a request's only row, and of a step's */

void
ngx_http_webtorch_stream_generate_describe(ngx_webtorch_handler_t *handler,
    webtorch_schema_t *schema)
{
    webtorch_schema_t                *wire;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;
    wire = ngx_http_webtorch_stream_generate_tensors(handler);

    *schema = conf->wire;
    schema->ninputs = 0;
    schema->batched = 0;

    if (wire) {
        schema->ninputs = wire->ninputs;
        ngx_memcpy(schema->inputs, wire->inputs, sizeof(wire->inputs));
        ngx_memcpy(schema->gaps, wire->gaps, sizeof(wire->gaps));
    }
}


static ngx_int_t
ngx_http_webtorch_stream_generate_negotiate(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_webtorch_error_t         err;
    const ngx_webtorch_codec_t  *in;
    ngx_http_webtorch_stream_t  *st;

    st = ctx->stream;

    if (r->method == NGX_HTTP_GET) {
        ctx->formats.in = &ngx_webtorch_codec_json;

        rc = ngx_http_webtorch_query_body(r, &st->conf->open_wire,
                                          &ctx->query, &err);

        if (rc == NGX_DECLINED) {
            return ngx_http_webtorch_bad_body(r, &err);
        }

        if (rc != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

    } else {
        rc = ngx_http_webtorch_negotiate_body(r, ctx);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    ctx->wire = &ngx_http_webtorch_stream_generate_wire;
    in = ctx->formats.in;

    ctx->padded = (in->padded || in == &ngx_webtorch_codec_torch7);
    ctx->text = (in->encode != NULL && !in->binary);

    rc = ngx_http_webtorch_stream_negotiate_answer(r, st);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (st->out_framing == NGX_HTTP_WEBTORCH_FRAMING_WHOLE
        && ngx_http_webtorch_stream_document_create(st) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_DECLINED;
}


/* called in any thread */

static int
ngx_http_webtorch_stream_generate_decode(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err)
{
    ngx_http_webtorch_stream_conf_t  *conf;

    /* in a thread, the stream may have ended */

    conf = ctx->handler->data;

    if (ngx_http_webtorch_decode_format(ctx, body, &conf->open_wire, sink, err)
        != 0)
    {
        return -1;
    }

    return ngx_http_webtorch_stream_generate_decoded(ctx, sink, err);
}


int
ngx_http_webtorch_stream_generate_decoded(ngx_http_webtorch_ctx_t *ctx,
    ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err)
{
    int64_t                          *row;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = ctx->handler->data;

    if (ctx->layout.rows != 1) {
        return ngx_webtorch_error(err, 422, "wrong_shape",
                                  "a generation begins with one row, found "
                                  "%" PRIu32 " rows", ctx->layout.rows);
    }

    row = sink->data[conf->open_wire.ninputs];
    *row = ctx->state_row;

    return 0;
}


static ngx_int_t
ngx_http_webtorch_stream_generate_begun(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job)
{
    ngx_http_webtorch_stream_t  *st;

    st = ctx->stream;

    /* the time until the steps have ended is not that of encoding */

    ctx->run = 0;

    ngx_http_webtorch_stream_opened(st);

    if (ctx->oip
        && ngx_http_webtorch_stream_generate_set_prefix(r, ctx, st) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_webtorch_stream_answer_only(st);

    if (st->out_framing != NGX_HTTP_WEBTORCH_FRAMING_WHOLE) {

        r->headers_out.status = NGX_HTTP_OK;

        if (ngx_http_webtorch_stream_send_head(st) != NGX_OK) {
            return NGX_DECLINED;
        }
    }

    if (st->out_framing == NGX_HTTP_WEBTORCH_FRAMING_SSE) {
        ngx_http_webtorch_stream_ping_start(st);
    }

    ngx_http_webtorch_stream_turn(st);

    return NGX_DECLINED;
}


/* of each answer of the inference protocol, which has its outputs beside it */

static ngx_int_t
ngx_http_webtorch_stream_generate_set_prefix(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_http_webtorch_stream_t *st)
{
    u_char     *p;
    size_t      escape;
    ngx_str_t  *name;

    name = &ctx->endpoint->json;
    escape = ngx_escape_json(NULL, (u_char *) ctx->oip->id, ctx->oip->id_len);

    p = ngx_pnalloc(r->pool,
                    sizeof("{\"model_name\":\"\",\"model_version\":\"1\""
                           ",\"id\":\"\"")
                    + name->len + ctx->oip->id_len + escape);
    if (p == NULL) {
        return NGX_ERROR;
    }

    st->prefix.data = p;

    p = ngx_sprintf(p, "{\"model_name\":\"%V\",\"model_version\":\"1\"",
                    name);

    if (ctx->oip->id_len) {
        p = ngx_cpymem(p, ",\"id\":\"", sizeof(",\"id\":\"") - 1);
        p = (u_char *) ngx_escape_json(p, (u_char *) ctx->oip->id,
                                       ctx->oip->id_len);
        *p++ = '"';
    }

    st->prefix.len = (size_t) (p - st->prefix.data);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_generate_produce(ngx_http_webtorch_stream_t *st)
{
    int64_t                *rows;
    webtorch_job_t         *job;
    ngx_webtorch_sink_t     sink;
    ngx_webtorch_runner_t  *runner;

    runner = st->handler->runner;

    ngx_memzero(&st->layout, sizeof(ngx_webtorch_layout_t));

    st->layout.rows = 1;
    st->layout.single = 1;

    if (ngx_webtorch_runner_reserve(runner, &st->layout, &sink) != NGX_OK) {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    rows = sink.data[0];
    rows[0] = st->read;
    rows[1] = st->write;

    st->waiter.done = ngx_http_webtorch_stream_generate_stepped;
    st->waiter.data = st;

    job = ngx_webtorch_runner_add(runner, &st->layout, &st->waiter);
    ngx_webtorch_job_own(job, &st->owner);

    st->in_call = 1;

    return NGX_AGAIN;
}


static void
ngx_http_webtorch_stream_generate_stepped(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_connection_t            *c;
    ngx_http_request_t          *r;
    ngx_http_webtorch_ctx_t     *ctx;
    ngx_http_webtorch_stream_t  *st;

    st = waiter->data;
    r = st->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);
    ngx_http_webtorch_logged_call(r, waiter, job);

    st->in_call = 0;

    if (job == NULL || job->status != 0) {

        if (st->document) {
            ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
            ctx->waiter.deadline = waiter->deadline;

            ngx_http_webtorch_finalize(r,
                                       ngx_http_webtorch_failed(r, job, NULL));
            ngx_http_run_posted_requests(c);
            return;
        }

        (void) ngx_http_webtorch_stream_chunk_failed(st, job);

        st->fail(st);
        st->failure = NULL;

    } else if (ngx_http_webtorch_stream_generate_answer(st, job) != NGX_OK) {
        st->fail(st);
    }

    ngx_http_webtorch_stream_turn(st);

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_webtorch_stream_generate_answer(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job)
{
    ngx_http_webtorch_stream_row_t  row;

    ngx_http_webtorch_stream_row_init(st, job, &row);

    if (st->document) {

        if (ngx_http_webtorch_stream_document_add(st, row.specs, row.data)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

    } else {
        ngx_http_webtorch_stream_row_measure(&row);

        if (ngx_http_webtorch_stream_answer(st, &row) != NGX_OK) {
            return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "no_memory", "no memory");
        }
    }

    st->since = ngx_current_msec;
    st->nsteps++;

    if (ngx_http_webtorch_stream_chunk_done(st, job)
        || st->nsteps >= st->conf->max_steps)
    {
        st->ended = 1;
    }

    return NGX_OK;
}
