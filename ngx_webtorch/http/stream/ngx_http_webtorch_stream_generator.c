
/*
 * A function of requests that yields.  Each item is a job of its handler: the
 * first one has the request, the others the number of the generator.  An item
 * is asked for when the one before has come and few of them wait for the
 * client, so a slow client stops its generator alone.
 */

#include "ngx_http_webtorch_stream_generator.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_logged.h"
#include "ngx_http_webtorch_reply.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_http_webtorch_stream_chunk.h"
#include "ngx_http_webtorch_stream_content.h"
#include "ngx_http_webtorch_stream_head.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_ping.h"
#include "ngx_http_webtorch_stream_pump.h"
#include "ngx_http_webtorch_stream_table.h"
#include "ngx_http_webtorch_stream_turn.h"


static ngx_int_t ngx_http_webtorch_stream_generator_begun(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job);
static ngx_int_t ngx_http_webtorch_stream_generator_start(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_stream_generator_send_head(
    ngx_http_request_t *r, webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_stream_generator_add_item(
    ngx_http_webtorch_stream_t *st, webtorch_reply_t *reply);
static ngx_int_t ngx_http_webtorch_stream_generator_produce(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_generator_yielded(
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job);


ngx_int_t
ngx_http_webtorch_stream_generator_handler(ngx_http_request_t *r)
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

    ngx_http_webtorch_ctx_set_handler(ctx, wlcf->handler);

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
    st->produce = ngx_http_webtorch_stream_generator_produce;
    st->fail = ngx_http_webtorch_stream_fail;

    ctx->answer = ngx_http_webtorch_stream_generator_begun;
    ctx->owner = &st->owner;
    ctx->state_row = st->state_rows[0];

    return ngx_http_webtorch_content_handler(r);
}


/* the first item has come, or there is none */

static ngx_int_t
ngx_http_webtorch_stream_generator_begun(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_job_t *job)
{
    webtorch_reply_t  *reply;

    /* the reply is not in the job any more when that is released */

    if (job->reply->more) {
        ngx_http_webtorch_stream_opened(ctx->stream);
    }

    reply = ngx_http_webtorch_job_take_reply(r, job);
    if (reply == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return reply->more
               ? ngx_http_webtorch_stream_generator_start(r, ctx->stream, reply)
               : ngx_http_webtorch_send_reply(r, ctx, reply);
}


static ngx_int_t
ngx_http_webtorch_stream_generator_start(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st, webtorch_reply_t *reply)
{
    ngx_int_t  rc;

    rc = ngx_http_webtorch_stream_generator_send_head(r, reply);

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

    if (ngx_http_webtorch_stream_generator_add_item(st, reply) != NGX_OK) {
        return NGX_ERROR;
    }

    if (st->out_framing == NGX_HTTP_WEBTORCH_FRAMING_SSE) {
        ngx_http_webtorch_stream_ping_start(st);
    }

    if (ngx_http_webtorch_stream_flush_head(st) == NGX_OK) {
        ngx_http_webtorch_stream_turn(st);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_webtorch_stream_generator_send_head(ngx_http_request_t *r,
    webtorch_reply_t *reply)
{
    ngx_str_t                 type;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    if (ngx_http_webtorch_add_reply_headers(r, ctx, reply) != NGX_OK
        || ngx_http_webtorch_stream_add_defaults(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_webtorch_get_str(&type, &reply->content_type);

    return ngx_http_webtorch_send_head(r, (ngx_uint_t) reply->status, &type,
                                       -1);
}


static ngx_int_t
ngx_http_webtorch_stream_generator_add_item(ngx_http_webtorch_stream_t *st,
    webtorch_reply_t *reply)
{
    if (reply->body.len == 0) {
        return NGX_OK;
    }

    st->since = ngx_current_msec;
    st->inline_end = (reply->body.data[reply->body.len - 1] != LF);

    return ngx_http_webtorch_stream_add_item(st, (u_char *) reply->body.data,
                                             reply->body.len);
}


static ngx_int_t
ngx_http_webtorch_stream_generator_produce(ngx_http_webtorch_stream_t *st)
{
    webtorch_request_t  *request;

    request = ngx_calloc(sizeof(webtorch_request_t), ngx_cycle->log);
    if (request == NULL) {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    request->size = sizeof(webtorch_request_t);
    request->next = 1;
    request->state_row = st->state_rows[0];

    if (ngx_http_webtorch_stream_add_request(st, st->handler->runner, request,
                                   ngx_http_webtorch_stream_generator_yielded)
        != NGX_OK)
    {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    st->in_call = 1;

    return NGX_AGAIN;
}


static void
ngx_http_webtorch_stream_generator_yielded(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_connection_t            *c;
    ngx_http_webtorch_stream_t  *st;

    st = waiter->data;
    c = st->request->connection;

    ngx_http_set_log_request(c->log, st->request);
    ngx_http_webtorch_logged_call(st->request, waiter, job);

    st->in_call = 0;

    if (job == NULL || job->status != 0) {
        (void) ngx_http_webtorch_stream_chunk_failed(st, job);

        st->fail(st);
        st->failure = NULL;

    } else if (job->reply == NULL) {
        /* it has returned */
        st->opened = 0;
        st->ended = 1;

    } else if (ngx_http_webtorch_stream_generator_add_item(st, job->reply)
               != NGX_OK)
    {
        (void) ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
        st->fail(st);
    }

    ngx_http_webtorch_stream_turn(st);

    ngx_http_run_posted_requests(c);
}
