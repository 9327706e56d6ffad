
#include "ngx_http_webtorch_stream_handshake.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_webtorch_deflate.h"

#include <ngx_sha1.h>


#define NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_GUID                               \
    "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/* bytes of a key, and as base64 */
#define NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_KEY    16
#define NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_CODED  24


static ngx_uint_t ngx_http_webtorch_stream_handshake_has_token(ngx_str_t *value,
    const char *token);
static ngx_uint_t ngx_http_webtorch_stream_handshake_next(ngx_str_t *list,
    u_char separator, ngx_str_t *item);
static ngx_uint_t ngx_http_webtorch_stream_handshake_offer(ngx_str_t *offer,
    ngx_uint_t *named);
static ngx_uint_t ngx_http_webtorch_stream_handshake_bits(ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_stream_handshake_add_extension(
    ngx_http_request_t *r, ngx_http_webtorch_stream_handshake_t *handshake);


const char *
ngx_http_webtorch_stream_handshake_check(ngx_http_request_t *r,
    ngx_http_webtorch_stream_handshake_t *handshake)
{
    u_char      buf[NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_CODED];
    ngx_int_t   rc;
    ngx_str_t  *upgrade, *version, *key, connection, decoded;

    upgrade = ngx_http_webtorch_find_header(r, "upgrade");
    rc = ngx_http_webtorch_join_headers(r, "connection", &connection);
    version = ngx_http_webtorch_find_header(r, "sec-websocket-version");
    key = ngx_http_webtorch_find_header(r, "sec-websocket-key");

    if (r->http_version != NGX_HTTP_VERSION_11
        || upgrade == NULL
        || !ngx_http_webtorch_stream_handshake_has_token(upgrade, "websocket")
        || rc != NGX_OK
        || !ngx_http_webtorch_stream_handshake_has_token(&connection,
                                                         "upgrade"))
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

    if (key == NULL || key->len != NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_CODED
        || ngx_decode_base64(&decoded, key) != NGX_OK
        || decoded.len != NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_KEY)
    {
        return "the header \"Sec-WebSocket-Key\" is not one of 16 bytes";
    }

    handshake->key = *key;

    return NULL;
}


static ngx_uint_t
ngx_http_webtorch_stream_handshake_has_token(ngx_str_t *value,
    const char *token)
{
    ngx_str_t  list, item;

    list = *value;

    while (ngx_http_webtorch_stream_handshake_next(&list, ',', &item)) {
        if (item.len == ngx_strlen(token)
            && ngx_strncasecmp(item.data, (u_char *) token, item.len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* the next item of a list, without the spaces around it */

static ngx_uint_t
ngx_http_webtorch_stream_handshake_next(ngx_str_t *list, u_char separator,
    ngx_str_t *item)
{
    u_char  *p, *last;

    if (list->len == 0) {
        return 0;
    }

    last = list->data + list->len;
    p = ngx_strlchr(list->data, last, separator);

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


ngx_uint_t
ngx_http_webtorch_stream_handshake_allowed(ngx_http_request_t *r,
    ngx_str_t *origins)
{
    u_char     *p;
    ngx_str_t   list, item, host, *origin;

    origin = ngx_http_webtorch_find_header(r, "origin");

    if (origin == NULL) {
        return 1;
    }

    list = *origins;

    while (ngx_http_webtorch_stream_handshake_next(&list, ',', &item)) {
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


void
ngx_http_webtorch_stream_handshake_choose(ngx_http_request_t *r,
    ngx_str_t *protocols, ngx_str_t *chosen)
{
    ngx_str_t  wanted, item, list, known;

    if (ngx_http_webtorch_join_headers(r, "sec-websocket-protocol", &wanted)
        != NGX_OK)
    {
        return;
    }

    while (ngx_http_webtorch_stream_handshake_next(&wanted, ',', &item)) {
        list = *protocols;

        while (ngx_http_webtorch_stream_handshake_next(&list, ',', &known)) {
            if (item.len && item.len == known.len
                && ngx_strncmp(item.data, known.data, item.len) == 0)
            {
                *chosen = item;
                return;
            }
        }
    }
}


ngx_int_t
ngx_http_webtorch_stream_handshake_extend(ngx_http_request_t *r,
    ngx_http_webtorch_stream_handshake_t *handshake)
{
    ngx_int_t  rc;
    ngx_str_t  offers, offer;

    rc = ngx_http_webtorch_join_headers(r, "sec-websocket-extensions", &offers);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? NGX_OK : NGX_ERROR;
    }

    while (handshake->window == 0
           && ngx_http_webtorch_stream_handshake_next(&offers, ',', &offer))
    {
        handshake->window = ngx_http_webtorch_stream_handshake_offer(&offer,
                                                        &handshake->named);
    }

    return NGX_OK;
}


/*
 * Returns the bits of the window that the client lets the server use, and
 * whether it named them; 0: it is another extension, or a parameter is
 * unknown, wrong or there twice.
 */

static ngx_uint_t
ngx_http_webtorch_stream_handshake_offer(ngx_str_t *offer, ngx_uint_t *named)
{
    u_char      *p;
    ngx_str_t    item, value;
    ngx_uint_t   i, bits, window, seen;

    static ngx_str_t  names[] = {
        ngx_string("server_no_context_takeover"),
        ngx_string("client_no_context_takeover"),
        ngx_string("client_max_window_bits"),
        ngx_string("server_max_window_bits")
    };

    if (!ngx_http_webtorch_stream_handshake_next(offer, ';', &item)
        || item.len != sizeof("permessage-deflate") - 1
        || ngx_strncasecmp(item.data, (u_char *) "permessage-deflate", item.len)
           != 0)
    {
        return 0;
    }

    window = NGX_WEBTORCH_DEFLATE_MAX_BITS;
    seen = 0;

    while (ngx_http_webtorch_stream_handshake_next(offer, ';', &item)) {

        p = ngx_strlchr(item.data, item.data + item.len, '=');
        ngx_str_null(&value);

        if (p) {
            value.data = p + 1;
            value.len = (size_t) (item.data + item.len - value.data);
            item.len = (size_t) (p - item.data);
        }

        for (i = 0; i < 4; i++) {
            if (item.len == names[i].len
                && ngx_strncasecmp(item.data, names[i].data, item.len) == 0)
            {
                break;
            }
        }

        if (i == 4 || (seen & (1u << i))) {
            return 0;
        }

        seen |= 1u << i;
        bits = ngx_http_webtorch_stream_handshake_bits(&value);

        /* the client's window may have no number, and is of any size here */

        if (i < 2 ? p != NULL : bits == 0 && (i == 3 || p)) {
            return 0;
        }

        if (i == 3) {
            window = bits;
        }
    }

    *named = (seen >> 3) & 1;

    return window;
}


/* "8" to "15", perhaps in quotes; 0: it is malformed */

static ngx_uint_t
ngx_http_webtorch_stream_handshake_bits(ngx_str_t *value)
{
    ngx_int_t  n;
    ngx_str_t  s;

    s = *value;

    if (s.len > 2 && s.data[0] == '"' && s.data[s.len - 1] == '"') {
        s.data++;
        s.len -= 2;
    }

    if (s.len == 0 || s.len > 2 || s.data[0] == '0') {
        return 0;
    }

    n = ngx_atoi(s.data, s.len);

    return (n >= 8 && n <= NGX_WEBTORCH_DEFLATE_MAX_BITS) ? (ngx_uint_t) n : 0;
}


ngx_int_t
ngx_http_webtorch_stream_handshake_accept(ngx_http_request_t *r,
    ngx_http_webtorch_stream_handshake_t *handshake)
{
    u_char      digest[20];
    ngx_str_t   bytes, value;
    ngx_sha1_t  sha1;

    static ngx_str_t  upgrade = ngx_string("Upgrade");
    static ngx_str_t  websocket = ngx_string("websocket");
    static ngx_str_t  accept = ngx_string("Sec-WebSocket-Accept");
    static ngx_str_t  protocol = ngx_string("Sec-WebSocket-Protocol");

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, handshake->key.data, handshake->key.len);
    ngx_sha1_update(&sha1, NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_GUID,
                    sizeof(NGX_HTTP_WEBTORCH_STREAM_HANDSHAKE_GUID) - 1);
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

    if (handshake->protocol.len
        && ngx_http_webtorch_add_header(r, &protocol, &handshake->protocol)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (handshake->window
        && ngx_http_webtorch_stream_handshake_add_extension(r, handshake)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    r->headers_out.status = NGX_HTTP_SWITCHING_PROTOCOLS;
    ngx_str_set(&r->headers_out.status_line, "101 Switching Protocols");

    return NGX_OK;
}


/* neither side keeps memory from one message to the next one */

static ngx_int_t
ngx_http_webtorch_stream_handshake_add_extension(ngx_http_request_t *r,
    ngx_http_webtorch_stream_handshake_t *handshake)
{
    u_char     *p;
    ngx_str_t   value;

    static ngx_str_t  name = ngx_string("Sec-WebSocket-Extensions");
    static u_char     text[] = "permessage-deflate; server_no_context_takeover;"
                               " client_no_context_takeover";

    value.data = ngx_pnalloc(r->pool, sizeof(text)
                                      + sizeof("; server_max_window_bits=15"));
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(value.data, text, sizeof(text) - 1);

    /* RFC 7692, 7.1.2.1: an offer with bits is accepted by one with bits */

    if (handshake->named) {
        p = ngx_sprintf(p, "; server_max_window_bits=%ui", handshake->window);
    }

    value.len = (size_t) (p - value.data);

    return ngx_http_webtorch_add_header(r, &name, &value);
}
