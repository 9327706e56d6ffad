
#include "ngx_http_webtorch_stream_generate_protocol.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_stream_generate.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_stream.h"
#include "ngx_http_webtorch_stream_document.h"
#include "ngx_webtorch_hint.h"
#include "ngx_webtorch_oip_generate.h"


static int ngx_http_webtorch_stream_generate_protocol_decode(
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body, ngx_webtorch_sink_t *sink,
    ngx_webtorch_error_t *err);


static const ngx_http_webtorch_wire_t  ngx_http_webtorch_stream_generate_oip = {
    ngx_http_webtorch_stream_generate_protocol_decode,
    NULL
};


static ngx_str_t  ngx_http_webtorch_events =
    ngx_string("text/event-stream; charset=utf-8");


ngx_int_t
ngx_http_webtorch_stream_generate_protocol(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_uint_t events)
{
    ngx_int_t                    rc;
    ngx_http_webtorch_ctx_t     *ctx;
    ngx_http_webtorch_stream_t  *st;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    ngx_http_webtorch_ctx_set_handler(ctx, endpoint->handler);

    ctx->endpoint = endpoint;
    ctx->wire = &ngx_http_webtorch_stream_generate_oip;
    ctx->json = -1;
    ctx->padded = 1;
    ctx->text = 1;

    rc = ngx_http_webtorch_stream_generate_create(r, ctx, endpoint->handler);

    if (rc != NGX_DECLINED) {
        return rc;
    }

    ctx->oip = ngx_pcalloc(r->pool, sizeof(ngx_webtorch_oip_t));
    if (ctx->oip == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    st = ctx->stream;
    st->out_payload = NGX_HTTP_WEBTORCH_PAYLOAD_JSON;

    if (events) {
        st->out_framing = NGX_HTTP_WEBTORCH_FRAMING_SSE;
        ngx_http_webtorch_set_type(r, &ngx_http_webtorch_events);

    } else {
        st->out_framing = NGX_HTTP_WEBTORCH_FRAMING_WHOLE;

        if (ngx_http_webtorch_stream_document_create(st) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_webtorch_content_serve(r);
}


/* called in any thread, when the stream may have ended */

static int
ngx_http_webtorch_stream_generate_protocol_decode(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err)
{
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = ctx->handler->data;

    if (ngx_webtorch_oip_generate_decode((char *) body->data, body->len,
                                         &conf->open_wire, sink, &ctx->layout,
                                         ctx->oip, err)
        == 0)
    {
        return ngx_http_webtorch_stream_generate_decoded(ctx, sink, err);
    }

    ngx_webtorch_hint_format(err, &ngx_webtorch_codec_json,
                             (char *) body->data, body->len);

    return -1;
}
