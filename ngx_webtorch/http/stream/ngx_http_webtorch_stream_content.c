
#include "ngx_http_webtorch_stream_content.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_inflate.h"
#include "ngx_http_webtorch_job.h"
#include "ngx_http_webtorch_metadata.h"
#include "ngx_http_webtorch_stream_format.h"
#include "ngx_http_webtorch_stream_http.h"
#include "ngx_http_webtorch_stream_resume.h"
#include "ngx_http_webtorch_stream_table.h"
#include "ngx_http_webtorch_stream_websocket.h"
#include "ngx_webtorch_accept.h"
#include "ngx_webtorch_metrics_handler.h"


static ngx_int_t ngx_http_webtorch_stream_metadata(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler);
static ngx_int_t ngx_http_webtorch_stream_admit(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler);
static size_t ngx_http_webtorch_stream_max_chunk(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_cleanup(void *data);


ngx_int_t
ngx_http_webtorch_stream_handler(ngx_http_request_t *r)
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

    if (r->method == NGX_HTTP_OPTIONS && r == r->main) {
        return ngx_http_webtorch_stream_metadata(r, ctx->handler);
    }

    rc = ngx_http_webtorch_stream_admit(r, ctx->handler);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    rc = ngx_http_webtorch_stream_new(r, ctx);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    st = ctx->stream;

    if (r->method == NGX_HTTP_GET) {
        rc = ngx_http_webtorch_stream_websocket_check(r, st);

    } else {
        rc = ngx_http_webtorch_stream_negotiate(r, st);

        if (rc == NGX_DECLINED) {
            rc = ngx_http_webtorch_stream_http_check(r);
        }
    }

    if (rc != NGX_DECLINED) {
        return rc;
    }

    /* a request that is refused takes no stream from the client that has it */

    rc = ngx_http_webtorch_stream_join(r, st);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    st->counted = 1;

    ngx_webtorch_accept_begin(r->connection->requests <= 1);

    return (r->method == NGX_HTTP_GET)
               ? ngx_http_webtorch_stream_websocket(r, st)
               : ngx_http_webtorch_stream_http(r, st);
}


/* as other functions of tensors answer OPTIONS, without states and "done" */

static ngx_int_t
ngx_http_webtorch_stream_metadata(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler)
{
    ngx_webtorch_handler_t           *wire;
    ngx_http_webtorch_stream_conf_t  *conf;

    wire = ngx_palloc(r->pool, sizeof(ngx_webtorch_handler_t));
    if (wire == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    conf = handler->data;

    *wire = *handler;
    wire->schema = conf->wire;

    return ngx_http_webtorch_handler_metadata(r, wire);
}


/* by the headers; NGX_DECLINED: a stream may begin */

static ngx_int_t
ngx_http_webtorch_stream_admit(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler)
{
    ngx_int_t   rc;
    ngx_uint_t  coding;

    if (r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "webtorch handler \"%V\" of streams is used in a "
                      "subrequest", &handler->name);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!(ngx_http_webtorch_method(r) & handler->schema.methods)) {
        return ngx_http_webtorch_not_allowed(r, handler->schema.methods);
    }

    rc = ngx_http_webtorch_job_available(r, handler);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    if (handler->life && handler->life->runner == NULL) {
        return ngx_http_webtorch_job_available(r, handler->life);
    }

    if (ngx_http_webtorch_coding(r, &coding) != NGX_OK
        || coding != NGX_HTTP_WEBTORCH_IDENTITY)
    {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                   "unsupported_media_type",
                   "the body of a stream is not compressed");
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_webtorch_stream_new(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_http_cleanup_t          *cln;
    ngx_http_webtorch_stream_t  *st;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_webtorch_stream_create(r, ctx->handler, &st);

    if (rc == NGX_BUSY) {
        ngx_webtorch_metrics_refused(ctx->counted,
                                     NGX_WEBTORCH_REFUSED_STREAMS);

        return ngx_http_webtorch_refuse(r, NGX_HTTP_SERVICE_UNAVAILABLE,
                   "too_many_streams",
                   "there are as many streams as \"max_streams=\" allows");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_webtorch_stream_cleanup;
    cln->data = st;

    ctx->stream = st;
    st->message.limit = ngx_http_webtorch_stream_max_chunk(r, st);

    return NGX_DECLINED;
}


static size_t
ngx_http_webtorch_stream_max_chunk(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    ngx_uint_t                       i;
    ngx_http_core_loc_conf_t        *clcf;
    ngx_http_webtorch_stream_loc_t  *loc;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    loc = st->conf->locations->elts;

    for (i = 0; i < st->conf->locations->nelts; i++) {
        if (loc[i].clcf == clcf) {
            return loc[i].max_chunk;
        }
    }

    return loc[0].max_chunk;
}


static void
ngx_http_webtorch_stream_cleanup(void *data)
{
    ngx_http_webtorch_stream_t *st = data;

    if (st->counted) {
        ngx_webtorch_accept_end();
    }

    if (st->leave) {
        st->leave(st);
    }

    ngx_http_webtorch_stream_release(st);
}
