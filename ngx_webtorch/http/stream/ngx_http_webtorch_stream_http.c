
#include "ngx_http_webtorch_stream_http.h"
#include "ngx_http_webtorch_body_read.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_stream_head.h"
#include "ngx_http_webtorch_stream_input.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_pump.h"


static void ngx_http_webtorch_stream_http_body_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_stream_http_start(ngx_http_webtorch_stream_t *st);


ngx_int_t
ngx_http_webtorch_stream_http_check(ngx_http_request_t *r)
{
    ngx_http_webtorch_body_drop_refused(r);

    if (ngx_http_webtorch_body_complete(r)) {
        return NGX_DECLINED;
    }

    /* a stream that "open" has refused has taken nothing of it yet */

    if (r->reading_body
        && r->request_body->post_handler
           == ngx_http_webtorch_stream_http_body_handler)
    {
        return NGX_DECLINED;
    }

    return ngx_http_webtorch_incomplete_body(r);
}


ngx_int_t
ngx_http_webtorch_stream_http(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    ngx_int_t  rc;

    st->start = ngx_http_webtorch_stream_http_start;
    st->read_chunk = ngx_http_webtorch_stream_read;
    st->fail = ngx_http_webtorch_stream_fail;

    if (st->out_framing == NGX_HTTP_WEBTORCH_FRAMING_SSE) {
        st->ping = ngx_http_webtorch_stream_add_ping;
    }

    if (r->request_body) {
        rc = ngx_http_webtorch_read_body(r,
                                   ngx_http_webtorch_stream_http_body_handler);

    } else {
        r->request_body_no_buffering = 1;

        rc = ngx_http_read_client_request_body(r,
                                   ngx_http_webtorch_stream_http_body_handler);
    }

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    return NGX_DONE;
}


/* called at once, with as much of the body as has come with the headers */

static void
ngx_http_webtorch_stream_http_body_handler(ngx_http_request_t *r)
{
    ngx_http_webtorch_ctx_t  *ctx;

    /* nginx resets it if another location has begun to read the body */

    r->request_body_no_buffering = r->reading_body;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_http_webtorch_stream_begin(ctx->stream);
}


static void
ngx_http_webtorch_stream_http_start(ngx_http_webtorch_stream_t *st)
{
    ngx_http_request_t  *r;

    r = st->request;

    r->headers_out.status = NGX_HTTP_OK;

    if (ngx_http_webtorch_stream_send_head(st) != NGX_OK) {
        return;
    }

    ngx_http_webtorch_stream_pump(st);
}
