
#include "ngx_http_webtorch_stream_websocket.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_stream_handshake.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_stream_format.h"
#include "ngx_http_webtorch_stream_head.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_pump.h"
#include "ngx_http_webtorch_stream_resume.h"
#include "ngx_webtorch_deflate.h"
#include "ngx_webtorch_ws.h"


/* bytes that are read at a time */
#define NGX_HTTP_WEBTORCH_WEBSOCKET_BUFFER  4096

typedef struct {
    ngx_webtorch_ws_t                     ws;
    ngx_buf_t                             in;
    ngx_http_webtorch_stream_handshake_t  handshake;
    u_char                       buffer[NGX_HTTP_WEBTORCH_WEBSOCKET_BUFFER];
} ngx_http_webtorch_stream_websocket_t;


static void ngx_http_webtorch_stream_websocket_start(
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_websocket_hello(
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_websocket_read(
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_websocket_parse(
    ngx_http_webtorch_stream_t *st, ngx_http_webtorch_stream_websocket_t *w);
static ngx_int_t ngx_http_webtorch_stream_websocket_message(
    ngx_http_webtorch_stream_t *st, ngx_uint_t opcode);
static ngx_int_t ngx_http_webtorch_stream_websocket_pong(
    ngx_http_webtorch_stream_t *st, ngx_webtorch_ws_t *ws);
static void ngx_http_webtorch_stream_websocket_fail(
    ngx_http_webtorch_stream_t *st);
static ngx_uint_t ngx_http_webtorch_stream_websocket_code(int status);
static ngx_int_t ngx_http_webtorch_stream_websocket_ping(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_websocket_end(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_websocket_leave(
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_websocket_close(
    ngx_http_webtorch_stream_t *st, ngx_uint_t code, const char *reason);


ngx_int_t
ngx_http_webtorch_stream_websocket_check(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    ngx_str_t                              name, value;
    const char                            *error;
    ngx_http_webtorch_stream_websocket_t  *w;

    w = ngx_pcalloc(r->pool, sizeof(ngx_http_webtorch_stream_websocket_t));
    if (w == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    error = ngx_http_webtorch_stream_handshake_check(r, &w->handshake);

    if (error) {
        ngx_str_set(&name, "Upgrade");
        ngx_str_set(&value, "websocket");

        /* HTTP/2 has no such header, clients refuse an answer with it */

        if (r->http_version < NGX_HTTP_VERSION_20
            && ngx_http_webtorch_add_header(r, &name, &value) != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_str_set(&name, "Sec-WebSocket-Version");
        ngx_str_set(&value, "13");

        if (ngx_http_webtorch_add_header(r, &name, &value) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        return ngx_http_webtorch_refuse(r, 426, "upgrade_required", error);
    }

    if (!ngx_http_webtorch_stream_handshake_allowed(r, &st->conf->origins)) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_FORBIDDEN, "wrong_origin",
                   "pages of this origin may not open WebSockets here, see "
                   "\"origins=\"");
    }

    ngx_http_webtorch_stream_handshake_choose(r, &st->conf->protocols,
                                              &w->handshake.protocol);

#if (NGX_THREADS)

    /* only a thread inflates what is large */

    if (st->conf->deflate
        && ngx_http_webtorch_stream_handshake_extend(r, &w->handshake)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

#endif

    w->ws.deflate = (w->handshake.window != 0);

    if (w->handshake.window >= NGX_WEBTORCH_DEFLATE_MIN_BITS) {
        st->window = w->handshake.window;
    }

    st->websocket = w;

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_webtorch_stream_websocket(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_stream_websocket_t  *w;

    w = st->websocket;

    /* bytes received after the request header */

    w->in = *r->header_in;
    r->header_in->pos = r->header_in->last;

    st->framing = NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET;
    st->out_framing = NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET;
    st->row_size = (size_t) st->conf->wire.inputs[0].row_size;

    st->start = ngx_http_webtorch_stream_websocket_start;
    st->read_chunk = ngx_http_webtorch_stream_websocket_read;
    st->fail = ngx_http_webtorch_stream_websocket_fail;
    st->ping = ngx_http_webtorch_stream_websocket_ping;
    st->end = ngx_http_webtorch_stream_websocket_end;
    st->lingering = 1;

    r->keepalive = 0;
    r->main->count++;

    ngx_http_webtorch_stream_begin(st);

    return NGX_DONE;
}


static void
ngx_http_webtorch_stream_websocket_start(ngx_http_webtorch_stream_t *st)
{
    ngx_http_request_t                    *r;
    ngx_http_webtorch_stream_websocket_t  *w;

    r = st->request;
    w = st->websocket;

    if (ngx_http_webtorch_stream_handshake_accept(r, &w->handshake) != NGX_OK) {
        ngx_http_webtorch_stream_finalize(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (ngx_http_webtorch_stream_send_head(st) != NGX_OK) {
        return;
    }

    st->leave = ngx_http_webtorch_stream_websocket_leave;

    if (st->refused) {
        st->fail(st);

    } else if (st->claim.record
               && ngx_http_webtorch_stream_websocket_hello(st) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    ngx_http_webtorch_stream_pump(st);
}


/* the first message, as browsers do not see headers */

static ngx_int_t
ngx_http_webtorch_stream_websocket_hello(ngx_http_webtorch_stream_t *st)
{
    u_char     buf[NGX_WEBTORCH_WS_HEADER
                   + sizeof("{\"stream_id\": \"\", \"stream_offset\": }")
                   + NGX_WEBTORCH_RECORD_ID + NGX_INT64_LEN];
    u_char     text[sizeof(buf)], *p;
    size_t     len;
    ngx_str_t  id;

    id.data = st->id;
    id.len = st->id_len;

    len = (size_t) (ngx_sprintf(text,
                                "{\"stream_id\": \"%V\", "
                                "\"stream_offset\": %uL}", &id,
                                ngx_http_webtorch_stream_offset(st))
                    - text);

    p = ngx_webtorch_ws_header(buf, NGX_WEBTORCH_WS_TEXT, len);
    p = ngx_cpymem(p, text, len);

    return ngx_http_webtorch_stream_add_bytes(st, buf, (size_t) (p - buf));
}


static ngx_int_t
ngx_http_webtorch_stream_websocket_read(ngx_http_webtorch_stream_t *st)
{
    ssize_t                                n;
    ngx_int_t                              rc;
    ngx_connection_t                      *c;
    ngx_http_webtorch_stream_websocket_t  *w;

    w = st->websocket;
    c = st->request->connection;

    for ( ;; ) {

        if (w->in.pos < w->in.last) {
            rc = ngx_http_webtorch_stream_websocket_parse(st, w);

            if (rc != NGX_AGAIN) {
                return rc;
            }

            /* answers to pings are bounded, too */

            if (ngx_http_webtorch_stream_full(st)) {
                st->more = 1;
                return NGX_AGAIN;
            }

            continue;
        }

        w->in.pos = w->buffer;
        w->in.last = w->buffer;

        if (st->budget == 0) {
            ngx_post_event(c->read, &ngx_posted_next_events);
            return NGX_AGAIN;
        }

        n = c->recv(c, w->buffer, NGX_HTTP_WEBTORCH_WEBSOCKET_BUFFER);

        if (n == NGX_AGAIN) {
            return (ngx_handle_read_event(c->read, 0) == NGX_OK)
                       ? NGX_AGAIN : NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (n == 0 || n == NGX_ERROR) {
            c->error = 1;
            return NGX_HTTP_CLIENT_CLOSED_REQUEST;
        }

        w->in.last += n;
        st->budget -= ngx_min(st->budget, (size_t) n);
    }
}


/* up to one event; NGX_AGAIN: there may be another one, or all is read */

static ngx_int_t
ngx_http_webtorch_stream_websocket_parse(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_stream_websocket_t *w)
{
    ngx_webtorch_bytes_t     in;
    ngx_webtorch_ws_event_e  event;

    in.pos = w->in.pos;
    in.last = w->in.last;

    event = ngx_webtorch_ws_read(&w->ws, &st->message, &in);

    w->in.pos = (u_char *) in.pos;

    switch (event) {

    case NGX_WEBTORCH_WS_EVENT_MESSAGE:
        st->deflated = w->ws.deflated;
        st->text = (w->ws.opcode == NGX_WEBTORCH_WS_TEXT);

        return ngx_http_webtorch_stream_websocket_message(st, w->ws.opcode);

    case NGX_WEBTORCH_WS_EVENT_PING:
        return ngx_http_webtorch_stream_websocket_pong(st, &w->ws);

    case NGX_WEBTORCH_WS_EVENT_CLOSE:

        /* other codes are of clients that may come back */

        st->finished = (w->ws.code == NGX_WEBTORCH_WS_NO_CODE
                        || w->ws.code == NGX_WEBTORCH_WS_NORMAL
                        || w->ws.code >= NGX_WEBTORCH_WS_APPLICATION);

        /* RFC 6455 5.5.1: the close code is echoed */

        (void) ngx_http_webtorch_stream_websocket_close(st,
                   (w->ws.code == NGX_WEBTORCH_WS_NO_CODE)
                       ? NGX_WEBTORCH_WS_NORMAL : w->ws.code, "");
        return NGX_DONE;

    case NGX_WEBTORCH_WS_EVENT_ERROR:
        st->fatal = 1;

        (void) ngx_http_webtorch_stream_websocket_close(st, w->ws.code,
                   (w->ws.code == NGX_WEBTORCH_WS_TOO_LARGE)
                       ? "a message is larger than \"client_max_body_size\""
                       : (w->ws.code == NGX_WEBTORCH_WS_NOT_UTF8)
                             ? "a text is not UTF-8"
                             : (w->ws.code == NGX_WEBTORCH_WS_INTERNAL)
                                   ? "no memory" : "frames are malformed");
        return NGX_DONE;

    default: /* NGX_WEBTORCH_WS_EVENT_AGAIN, NGX_WEBTORCH_WS_EVENT_PONG */
        return NGX_AGAIN;
    }
}


/*
 * An answer has the kind of its message, if the outputs can have it; bytes that
 * a function makes of a string are binary.
 */

static ngx_int_t
ngx_http_webtorch_stream_websocket_message(ngx_http_webtorch_stream_t *st,
    ngx_uint_t opcode)
{
    ngx_uint_t  text, bytes;

    bytes = (st->conf->wire.inputs[0].dtype == WEBTORCH_BYTES);
    text = ngx_http_webtorch_stream_takes_text(st)
           && (opcode == NGX_WEBTORCH_WS_TEXT || bytes);

    st->out_payload = NGX_HTTP_WEBTORCH_PAYLOAD_JSON;
    st->binary = 0;

    if (text) {
        st->payload = NGX_HTTP_WEBTORCH_PAYLOAD_TEXT;

    } else if (opcode == NGX_WEBTORCH_WS_TEXT) {
        st->payload = NGX_HTTP_WEBTORCH_PAYLOAD_JSON;
        return NGX_OK;

    } else if (ngx_http_webtorch_stream_takes_raw(st)) {
        st->payload = NGX_HTTP_WEBTORCH_PAYLOAD_RAW;

    } else {
        return ngx_webtorch_error(&st->err, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                   "unsupported_media_type",
                   "binary messages do not carry the tensors of this stream");
    }

    if (opcode == NGX_WEBTORCH_WS_BINARY
        && ngx_http_webtorch_stream_gives_raw(st))
    {
        st->out_payload = NGX_HTTP_WEBTORCH_PAYLOAD_RAW;
        st->binary = 1;

    } else if (text && ngx_http_webtorch_stream_gives_text(st)) {
        st->out_payload = NGX_HTTP_WEBTORCH_PAYLOAD_TEXT;
        st->binary = (opcode == NGX_WEBTORCH_WS_BINARY)
                     || (!bytes
                         && st->conf->wire.outputs[0].dtype == WEBTORCH_BYTES);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_websocket_pong(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_ws_t *ws)
{
    u_char  buf[NGX_WEBTORCH_WS_HEADER + NGX_WEBTORCH_WS_CONTROL], *p;

    p = ngx_webtorch_ws_header(buf, NGX_WEBTORCH_WS_PONG, ws->ncontrol);
    p = ngx_cpymem(p, ws->control, ws->ncontrol);

    return (ngx_http_webtorch_stream_add_bytes(st, buf, (size_t) (p - buf))
            == NGX_OK)
               ? NGX_AGAIN : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


/*
 * A text with the error, then a close frame; the code for webtorch.HTTPError is
 * 4000 and its status.
 */

static void
ngx_http_webtorch_stream_websocket_fail(ngx_http_webtorch_stream_t *st)
{
    ngx_uint_t  code;

    if (st->failure || st->refused || st->err.status == NGX_HTTP_CONFLICT) {
        code = 4000 + (ngx_uint_t) st->err.status;

    } else if (st->restart) {
        code = NGX_WEBTORCH_WS_RESTART;

    } else {
        code = ngx_http_webtorch_stream_websocket_code(st->err.status);
    }

    /* a restart is no error */

    if (code != NGX_WEBTORCH_WS_RESTART) {
        (void) ngx_http_webtorch_stream_add_error(st);
    }

    (void) ngx_http_webtorch_stream_websocket_close(st, code, st->err.code);

    st->ended = 1;
}


static ngx_uint_t
ngx_http_webtorch_stream_websocket_code(int status)
{
    switch (status) {

    case NGX_HTTP_REQUEST_TIME_OUT:
        return NGX_WEBTORCH_WS_POLICY;

    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
        return NGX_WEBTORCH_WS_TOO_LARGE;

    case NGX_HTTP_UNSUPPORTED_MEDIA_TYPE:
        return NGX_WEBTORCH_WS_UNSUPPORTED;

    case NGX_HTTP_SERVICE_UNAVAILABLE:
        return NGX_WEBTORCH_WS_TRY_LATER;

    default:
        return (status < NGX_HTTP_INTERNAL_SERVER_ERROR)
                   ? NGX_WEBTORCH_WS_NOT_UTF8 : NGX_WEBTORCH_WS_INTERNAL;
    }
}


static ngx_int_t
ngx_http_webtorch_stream_websocket_ping(ngx_http_webtorch_stream_t *st)
{
    u_char  buf[NGX_WEBTORCH_WS_HEADER];

    (void) ngx_webtorch_ws_header(buf, NGX_WEBTORCH_WS_PING, 0);

    return ngx_http_webtorch_stream_add_bytes(st, buf, 2);
}


/* "done": the function has ended the stream */

static void
ngx_http_webtorch_stream_websocket_end(ngx_http_webtorch_stream_t *st)
{
    (void) ngx_http_webtorch_stream_websocket_close(st, NGX_WEBTORCH_WS_NORMAL,
                                                    "done");
}


/*
 * nginx closes the connection, for example after worker_shutdown_timeout.  No
 * frame is sent in the middle of another one.
 */

static void
ngx_http_webtorch_stream_websocket_leave(ngx_http_webtorch_stream_t *st)
{
    u_char             buf[4];
    ngx_connection_t  *c;

    c = st->request->connection;

    if (st->ended || st->sending
        || c->buffered || st->request->buffered
        || !c->close)
    {
        return;
    }

    (void) ngx_webtorch_ws_close(buf, NGX_WEBTORCH_WS_GOING_AWAY, "", 0);
    (void) c->send(c, buf, sizeof(buf));
}


static ngx_int_t
ngx_http_webtorch_stream_websocket_close(ngx_http_webtorch_stream_t *st,
    ngx_uint_t code, const char *reason)
{
    u_char  buf[NGX_WEBTORCH_WS_HEADER + NGX_WEBTORCH_WS_CONTROL], *p;

    p = ngx_webtorch_ws_close(buf, (unsigned) code, reason,
                              ngx_strlen(reason));

    return ngx_http_webtorch_stream_add_bytes(st, buf, (size_t) (p - buf));
}
