
#include "ngx_http_webtorch_websocket.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_stream_format.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_pump.h"
#include "ngx_webtorch_ws.h"

#include <ngx_sha1.h>


#define NGX_HTTP_WEBTORCH_WEBSOCKET_GUID                                      \
    "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/* bytes that are read at a time */
#define NGX_HTTP_WEBTORCH_WEBSOCKET_BUFFER  4096

/* bytes of a key, and as base64 */
#define NGX_HTTP_WEBTORCH_WEBSOCKET_KEY     16
#define NGX_HTTP_WEBTORCH_WEBSOCKET_CODED   24


typedef struct {
    ngx_webtorch_ws_t    ws;
    ngx_buf_t            in;
    ngx_str_t            key;
    ngx_str_t            protocol;        /* that was chosen; or empty */
    u_char               buffer[NGX_HTTP_WEBTORCH_WEBSOCKET_BUFFER];
} ngx_http_webtorch_websocket_t;


static const char *ngx_http_webtorch_websocket_check(ngx_http_request_t *r,
    ngx_http_webtorch_websocket_t *w);
static ngx_uint_t ngx_http_webtorch_websocket_has_token(ngx_str_t *value,
    const char *token);
static ngx_uint_t ngx_http_webtorch_websocket_next(ngx_str_t *list,
    ngx_str_t *item);
static ngx_uint_t ngx_http_webtorch_websocket_allowed(ngx_http_request_t *r,
    ngx_str_t *origins);
static void ngx_http_webtorch_websocket_choose(ngx_http_request_t *r,
    ngx_str_t *protocols, ngx_str_t *chosen);
static void ngx_http_webtorch_websocket_start(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_websocket_accept(ngx_http_request_t *r,
    ngx_http_webtorch_websocket_t *w);
static ngx_int_t ngx_http_webtorch_websocket_read(
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_websocket_parse(
    ngx_http_webtorch_stream_t *st, ngx_http_webtorch_websocket_t *w);
static ngx_int_t ngx_http_webtorch_websocket_message(
    ngx_http_webtorch_stream_t *st, ngx_uint_t opcode);
static ngx_int_t ngx_http_webtorch_websocket_pong(
    ngx_http_webtorch_stream_t *st, ngx_webtorch_ws_t *ws);
static void ngx_http_webtorch_websocket_fail(ngx_http_webtorch_stream_t *st);
static ngx_uint_t ngx_http_webtorch_websocket_code(int status);
static ngx_int_t ngx_http_webtorch_websocket_ping(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_websocket_end(ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_websocket_leave(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_websocket_close(
    ngx_http_webtorch_stream_t *st, ngx_uint_t code, const char *reason);


ngx_int_t
ngx_http_webtorch_websocket(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st)
{
    ngx_str_t                       name, value;
    const char                     *error;
    ngx_http_webtorch_websocket_t  *w;

    w = ngx_pcalloc(r->pool, sizeof(ngx_http_webtorch_websocket_t));
    if (w == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    error = ngx_http_webtorch_websocket_check(r, w);

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

    if (!ngx_http_webtorch_websocket_allowed(r, &st->handler->origins)) {
        return ngx_http_webtorch_refuse(r, NGX_HTTP_FORBIDDEN, "wrong_origin",
                   "pages of this origin may not open WebSockets here, see "
                   "\"origins\"");
    }

    ngx_http_webtorch_websocket_choose(r, &st->handler->protocols,
                                       &w->protocol);

    /* what came after the head */

    w->in = *r->header_in;
    r->header_in->pos = r->header_in->last;

    st->websocket = w;
    st->framing = NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET;
    st->out_framing = NGX_HTTP_WEBTORCH_FRAMING_WEBSOCKET;
    st->row_size = (size_t) st->conf->wire.inputs[0].row_size;

    st->start = ngx_http_webtorch_websocket_start;
    st->read_chunk = ngx_http_webtorch_websocket_read;
    st->fail = ngx_http_webtorch_websocket_fail;
    st->ping = ngx_http_webtorch_websocket_ping;
    st->end = ngx_http_webtorch_websocket_end;
    st->leave = ngx_http_webtorch_websocket_leave;
    st->lingering = 1;

    r->keepalive = 0;
    r->main->count++;

    ngx_http_webtorch_stream_begin(st);

    return NGX_DONE;
}


/* NULL: the request is a handshake, and the key is set */

static const char *
ngx_http_webtorch_websocket_check(ngx_http_request_t *r,
    ngx_http_webtorch_websocket_t *w)
{
    u_char      buf[NGX_HTTP_WEBTORCH_WEBSOCKET_CODED];
    ngx_int_t   rc;
    ngx_str_t  *upgrade, *version, *key, connection, decoded;

    upgrade = ngx_http_webtorch_find_header(r, "upgrade");
    rc = ngx_http_webtorch_join_headers(r, "connection", &connection);
    version = ngx_http_webtorch_find_header(r, "sec-websocket-version");
    key = ngx_http_webtorch_find_header(r, "sec-websocket-key");

    if (r->http_version != NGX_HTTP_VERSION_11
        || upgrade == NULL
        || !ngx_http_webtorch_websocket_has_token(upgrade, "websocket")
        || rc != NGX_OK
        || !ngx_http_webtorch_websocket_has_token(&connection, "upgrade"))
    {
        return "a stream is a POST, or a WebSocket over HTTP/1.1";
    }

    if (r->headers_in.content_length_n > 0 || r->headers_in.chunked) {
        return "a WebSocket begins with a request without a body";
    }

    if (version == NULL || version->len != 2
        || ngx_strncmp(version->data, "13", 2) != 0)
    {
        return "the header \"Sec-WebSocket-Version\" is not 13";
    }

    decoded.data = buf;

    if (key == NULL || key->len != NGX_HTTP_WEBTORCH_WEBSOCKET_CODED
        || ngx_decode_base64(&decoded, key) != NGX_OK
        || decoded.len != NGX_HTTP_WEBTORCH_WEBSOCKET_KEY)
    {
        return "the header \"Sec-WebSocket-Key\" is not one of 16 bytes";
    }

    w->key = *key;

    return NULL;
}


static ngx_uint_t
ngx_http_webtorch_websocket_has_token(ngx_str_t *value, const char *token)
{
    ngx_str_t  list, item;

    list = *value;

    while (ngx_http_webtorch_websocket_next(&list, &item)) {
        if (item.len == ngx_strlen(token)
            && ngx_strncasecmp(item.data, (u_char *) token, item.len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* the next item of a list with commas, without the spaces around it */

static ngx_uint_t
ngx_http_webtorch_websocket_next(ngx_str_t *list, ngx_str_t *item)
{
    u_char  *p, *last;

    if (list->len == 0) {
        return 0;
    }

    last = list->data + list->len;
    p = ngx_strlchr(list->data, last, ',');

    item->data = list->data;
    item->len = (size_t) ((p ? p : last) - list->data);

    list->data = p ? p + 1 : last;
    list->len = (size_t) (last - list->data);

    while (item->len && (*item->data == ' ' || *item->data == '\t')) {
        item->data++;
        item->len--;
    }

    while (item->len && (item->data[item->len - 1] == ' '
                         || item->data[item->len - 1] == '\t'))
    {
        item->len--;
    }

    return 1;
}


/* a client that is no browser sends no origin; ports are compared, too */

static ngx_uint_t
ngx_http_webtorch_websocket_allowed(ngx_http_request_t *r, ngx_str_t *origins)
{
    u_char     *p;
    ngx_str_t   list, item, host, *origin;

    origin = ngx_http_webtorch_find_header(r, "origin");

    if (origin == NULL) {
        return 1;
    }

    list = *origins;

    while (ngx_http_webtorch_websocket_next(&list, &item)) {
        if ((item.len == 1 && *item.data == '*')
            || (item.len == origin->len
                && ngx_strncasecmp(item.data, origin->data, item.len) == 0))
        {
            return 1;
        }
    }

    if (origins->len || r->headers_in.host == NULL) {
        return 0;
    }

    p = ngx_strlchr(origin->data, origin->data + origin->len, '/');

    if (p == NULL || p + 2 > origin->data + origin->len || p[1] != '/') {
        return 0;
    }

    host.data = p + 2;
    host.len = (size_t) (origin->data + origin->len - host.data);

    return host.len == r->headers_in.host->value.len
           && ngx_strncasecmp(host.data, r->headers_in.host->value.data,
                              host.len)
              == 0;
}


/* the first of the client's that is one of the server's */

static void
ngx_http_webtorch_websocket_choose(ngx_http_request_t *r, ngx_str_t *protocols,
    ngx_str_t *chosen)
{
    ngx_str_t  wanted, item, list, known;

    if (ngx_http_webtorch_join_headers(r, "sec-websocket-protocol", &wanted)
        != NGX_OK)
    {
        return;
    }

    while (ngx_http_webtorch_websocket_next(&wanted, &item)) {
        list = *protocols;

        while (ngx_http_webtorch_websocket_next(&list, &known)) {
            if (item.len && item.len == known.len
                && ngx_strncmp(item.data, known.data, item.len) == 0)
            {
                *chosen = item;
                return;
            }
        }
    }
}


static void
ngx_http_webtorch_websocket_start(ngx_http_webtorch_stream_t *st)
{
    ngx_http_request_t  *r;

    r = st->request;

    if (ngx_http_webtorch_websocket_accept(r, st->websocket) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    if (ngx_http_webtorch_stream_send_head(st) == NGX_OK) {
        ngx_http_webtorch_stream_pump(st);
    }
}


static ngx_int_t
ngx_http_webtorch_websocket_accept(ngx_http_request_t *r,
    ngx_http_webtorch_websocket_t *w)
{
    u_char      digest[20];
    ngx_str_t   bytes, value;
    ngx_sha1_t  sha1;

    static ngx_str_t  upgrade = ngx_string("Upgrade");
    static ngx_str_t  websocket = ngx_string("websocket");
    static ngx_str_t  accept = ngx_string("Sec-WebSocket-Accept");
    static ngx_str_t  protocol = ngx_string("Sec-WebSocket-Protocol");

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, w->key.data, w->key.len);
    ngx_sha1_update(&sha1, NGX_HTTP_WEBTORCH_WEBSOCKET_GUID,
                    sizeof(NGX_HTTP_WEBTORCH_WEBSOCKET_GUID) - 1);
    ngx_sha1_final(digest, &sha1);

    bytes.data = digest;
    bytes.len = sizeof(digest);

    value.data = ngx_pnalloc(r->pool, ngx_base64_encoded_length(bytes.len));
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    ngx_encode_base64(&value, &bytes);

    if (ngx_http_webtorch_add_header(r, &upgrade, &websocket) != NGX_OK
        || ngx_http_webtorch_add_header(r, &accept, &value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (w->protocol.len
        && ngx_http_webtorch_add_header(r, &protocol, &w->protocol) != NGX_OK)
    {
        return NGX_ERROR;
    }

    r->headers_out.status = NGX_HTTP_SWITCHING_PROTOCOLS;
    ngx_str_set(&r->headers_out.status_line, "101 Switching Protocols");

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_websocket_read(ngx_http_webtorch_stream_t *st)
{
    ssize_t                         n;
    ngx_int_t                       rc;
    ngx_connection_t               *c;
    ngx_http_webtorch_websocket_t  *w;

    w = st->websocket;
    c = st->request->connection;

    for ( ;; ) {

        if (w->in.pos < w->in.last) {
            rc = ngx_http_webtorch_websocket_parse(st, w);

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
ngx_http_webtorch_websocket_parse(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_websocket_t *w)
{
    ngx_webtorch_bytes_t     in;
    ngx_webtorch_ws_event_e  event;

    in.pos = w->in.pos;
    in.last = w->in.last;

    event = ngx_webtorch_ws_read(&w->ws, &st->message, &in);

    w->in.pos = (u_char *) in.pos;

    switch (event) {

    case NGX_WEBTORCH_WS_EVENT_MESSAGE:
        return ngx_http_webtorch_websocket_message(st, w->ws.opcode);

    case NGX_WEBTORCH_WS_EVENT_PING:
        return ngx_http_webtorch_websocket_pong(st, &w->ws);

    case NGX_WEBTORCH_WS_EVENT_CLOSE:

        /* the same code goes back */

        (void) ngx_http_webtorch_websocket_close(st,
                   (w->ws.code == NGX_WEBTORCH_WS_NO_CODE)
                       ? NGX_WEBTORCH_WS_NORMAL : w->ws.code, "");
        return NGX_DONE;

    case NGX_WEBTORCH_WS_EVENT_ERROR:
        (void) ngx_http_webtorch_websocket_close(st, w->ws.code,
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


/* an answer has the kind of its message, if the outputs can have it */

static ngx_int_t
ngx_http_webtorch_websocket_message(ngx_http_webtorch_stream_t *st,
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
        st->binary = (opcode == NGX_WEBTORCH_WS_BINARY);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_websocket_pong(ngx_http_webtorch_stream_t *st,
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
ngx_http_webtorch_websocket_fail(ngx_http_webtorch_stream_t *st)
{
    (void) ngx_http_webtorch_stream_add_error(st);
    (void) ngx_http_webtorch_websocket_close(st,
               st->failure ? 4000 + (ngx_uint_t) st->err.status
                           : ngx_http_webtorch_websocket_code(st->err.status),
               st->err.code);

    st->ended = 1;
}


static ngx_uint_t
ngx_http_webtorch_websocket_code(int status)
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
ngx_http_webtorch_websocket_ping(ngx_http_webtorch_stream_t *st)
{
    u_char  buf[NGX_WEBTORCH_WS_HEADER];

    (void) ngx_webtorch_ws_header(buf, NGX_WEBTORCH_WS_PING, 0);

    return ngx_http_webtorch_stream_add_bytes(st, buf, 2);
}


/* "done": the function has ended the stream */

static void
ngx_http_webtorch_websocket_end(ngx_http_webtorch_stream_t *st)
{
    (void) ngx_http_webtorch_websocket_close(st, NGX_WEBTORCH_WS_NORMAL,
                                             "done");
}


/*
 * nginx closes the connection, for example after worker_shutdown_timeout.  No
 * frame is sent in the middle of another one.
 */

static void
ngx_http_webtorch_websocket_leave(ngx_http_webtorch_stream_t *st)
{
    u_char             buf[4];
    ngx_connection_t  *c;

    c = st->request->connection;

    if (!st->request->header_sent
        || st->ended || st->sending
        || c->buffered || st->request->buffered
        || !c->close)
    {
        return;
    }

    (void) ngx_webtorch_ws_close(buf, NGX_WEBTORCH_WS_GOING_AWAY, "", 0);
    (void) c->send(c, buf, sizeof(buf));
}


static ngx_int_t
ngx_http_webtorch_websocket_close(ngx_http_webtorch_stream_t *st,
    ngx_uint_t code, const char *reason)
{
    u_char  buf[NGX_WEBTORCH_WS_HEADER + NGX_WEBTORCH_WS_CONTROL], *p;

    p = ngx_webtorch_ws_close(buf, (unsigned) code, reason,
                              ngx_strlen(reason));

    return ngx_http_webtorch_stream_add_bytes(st, buf, (size_t) (p - buf));
}
