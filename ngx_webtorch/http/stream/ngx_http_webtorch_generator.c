
/*
 * A function of requests that yields.  Each item is a job of its handler: the
 * first one has the request, the others the number of the generator.  An item
 * is asked for when the one before has come and few of them wait for the
 * client, so a slow client stops its generator alone.
 */

#include "ngx_http_webtorch_generator.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_failure.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_reply.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_http_webtorch_stream_chunk.h"
#include "ngx_http_webtorch_stream_content.h"
#include "ngx_http_webtorch_stream_head.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_pump.h"
#include "ngx_http_webtorch_stream_table.h"
#include "ngx_http_webtorch_stream_turn.h"
#include "ngx_webtorch_runner.h"


static void ngx_http_webtorch_generator_begun(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_generator_start(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_generator_send_head(ngx_http_request_t *r,
    webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_generator_add_headers(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_generator_add_item(
    ngx_http_webtorch_stream_t *st, webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_generator_produce(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_generator_yielded(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_generator_fail(ngx_http_webtorch_stream_t *st);


ngx_int_t
ngx_http_webtorch_generator_handler(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_stream_t    *st;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    ctx = ngx_http_webtorch_get_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->handler = wlcf->handler;

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "webtorch handler \"%V\", which yields, is used in a "
                      "subrequest", &ctx->handler->name);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_webtorch_stream_new(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    st = ctx->stream;
    st->produce = ngx_http_webtorch_generator_produce;
    st->fail = ngx_http_webtorch_generator_fail;

    ctx->done = ngx_http_webtorch_generator_begun;
    ctx->owner = &st->owner;
    ctx->place = st->places[0];

    return ngx_http_webtorch_content_handler(r);
}


/* the first item has come, or there is none */

static void
ngx_http_webtorch_generator_begun(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_int_t                 rc;
    ngx_connection_t         *c;
    webtorch_reply_t         *reply;
    ngx_http_request_t       *r;
    ngx_http_webtorch_ctx_t  *ctx;

    r = waiter->data;
    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_http_set_log_request(c->log, r);

    ngx_http_webtorch_body_returned(ctx);

    if (job == NULL || job->status != 0) {
        rc = ngx_http_webtorch_failed(r, job, NULL);

    } else {

        /* the reply is not in the job any more when that is released */

        if (job->reply->more) {
            ngx_http_webtorch_stream_opened(ctx->stream);
        }

        reply = ngx_http_webtorch_job_take_reply(r, job);

        if (reply == NULL) {
            rc = NGX_HTTP_INTERNAL_SERVER_ERROR;

        } else if (reply->more) {
            rc = ngx_http_webtorch_generator_start(r, ctx->stream, reply);

        } else {
            rc = ngx_http_webtorch_send_reply(r, ctx, reply);
        }
    }

    /* NGX_DECLINED: the stream finalizes the request */

    if (rc != NGX_DECLINED) {
        ngx_http_webtorch_finalize(r, rc);
    }

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_webtorch_generator_start(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, webtorch_reply_t *reply)
{
    ngx_int_t  rc;

    rc = ngx_http_webtorch_generator_send_head(r, reply);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    if (reply->content_type.len >= sizeof("text/event-stream") - 1
        && ngx_strncasecmp((u_char *) reply->content_type.data,
                           (u_char *) "text/event-stream",
                           sizeof("text/event-stream") - 1)
           == 0)
    {
        st->out_framing = NGX_HTTP_WEBTORCH_FRAMING_SSE;
    }

    ngx_http_webtorch_stream_answer_only(st);

    if (ngx_http_webtorch_generator_add_item(st, reply) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_webtorch_stream_flush_head(st) == NGX_OK) {
        ngx_http_webtorch_stream_turn(st);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_webtorch_generator_send_head(ngx_http_request_t *r,
    webtorch_reply_t *reply)
{
    ngx_str_t                 type;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ngx_http_webtorch_add_reply_headers(r, ctx, reply) != NGX_OK
        || ngx_http_webtorch_generator_add_headers(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_webtorch_get_str(&type, &reply->content_type);

    return ngx_http_webtorch_send_head(r, (ngx_uint_t) reply->status, &type,
                                       -1);
}


/* those that the function has not set */

static ngx_int_t
ngx_http_webtorch_generator_add_headers(ngx_http_request_t *r)
{
    ngx_str_t         name, value;
    ngx_uint_t        i, cached, buffered;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    cached = 0;
    buffered = 0;

    for (part = &r->headers_out.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].hash == 0) {
                continue;
            }

            cached |= (h[i].key.len == sizeof("Cache-Control") - 1
                       && ngx_strncasecmp(h[i].key.data,
                                          (u_char *) "Cache-Control",
                                          h[i].key.len)
                          == 0);

            buffered |= (h[i].key.len == sizeof("X-Accel-Buffering") - 1
                         && ngx_strncasecmp(h[i].key.data,
                                            (u_char *) "X-Accel-Buffering",
                                            h[i].key.len)
                            == 0);
        }
    }

    ngx_str_set(&name, "Cache-Control");
    ngx_str_set(&value, "no-store");

    if (!cached && ngx_http_webtorch_add_header(r, &name, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_str_set(&name, "X-Accel-Buffering");
    ngx_str_set(&value, "no");

    if (!buffered
        && ngx_http_webtorch_add_header(r, &name, &value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_generator_add_item(ngx_http_webtorch_stream_t *st,
    webtorch_reply_t *reply)
{
    if (reply->body.len == 0) {
        return NGX_OK;
    }

    st->inline_end = (reply->body.data[reply->body.len - 1] != LF);

    return ngx_http_webtorch_stream_add_item(st, (u_char *) reply->body.data,
                                             reply->body.len);
}


static ngx_int_t
ngx_http_webtorch_generator_produce(ngx_http_webtorch_stream_t *st)
{
    webtorch_job_t         *job;
    webtorch_request_t     *request;
    ngx_webtorch_sink_t     sink;
    ngx_webtorch_runner_t  *runner;

    runner = st->handler->runner;

    request = ngx_calloc(sizeof(webtorch_request_t), ngx_cycle->log);
    if (request == NULL) {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    request->size = sizeof(webtorch_request_t);
    request->next = 1;
    request->place = st->places[0];

    st->layout.rows = 1;

    if (ngx_webtorch_runner_reserve(runner, &st->layout, &sink) != NGX_OK) {
        ngx_free(request);
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    st->waiter.done = ngx_http_webtorch_generator_yielded;
    st->waiter.data = st;

    job = ngx_webtorch_runner_add(runner, &st->layout, &st->waiter);
    ngx_webtorch_batch_set_request(&st->waiter, request);
    ngx_webtorch_job_own(job, &st->owner);

    st->in_call = 1;

    return NGX_AGAIN;
}


static void
ngx_http_webtorch_generator_yielded(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_connection_t            *c;
    ngx_http_webtorch_stream_t  *st;

    st = waiter->data;
    c = st->request->connection;

    ngx_http_set_log_request(c->log, st->request);

    st->in_call = 0;

    if (job == NULL || job->status != 0) {
        (void) ngx_http_webtorch_stream_chunk_failed(st, job);

        st->fail(st);
        st->failure = NULL;

    } else if (job->reply == NULL) {
        /* it has returned */
        st->opened = 0;
        st->ended = 1;

    } else if (ngx_http_webtorch_generator_add_item(st, job->reply) != NGX_OK) {
        (void) ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
        st->fail(st);
    }

    ngx_http_webtorch_stream_turn(st);

    ngx_http_run_posted_requests(c);
}


/* the last line, or the last event, is an error */

static void
ngx_http_webtorch_generator_fail(ngx_http_webtorch_stream_t *st)
{
    if (st->inline_end) {
        (void) ngx_http_webtorch_stream_add_bytes(st, (u_char *) "\n", 1);
    }

    (void) ngx_http_webtorch_stream_add_error(st);

    st->ended = 1;
}
