
#include "ngx_webtorch_ws.h"

#include <string.h>


#define NGX_WEBTORCH_WS_FIN         0x80
#define NGX_WEBTORCH_WS_RESERVED    0x70
#define NGX_WEBTORCH_WS_OPCODE      0x0f
#define NGX_WEBTORCH_WS_MASKED      0x80
#define NGX_WEBTORCH_WS_LEN         0x7f
#define NGX_WEBTORCH_WS_IS_CONTROL  0x08

#define NGX_WEBTORCH_WS_MASK_LEN    4


static int ngx_webtorch_ws_read_header(ngx_webtorch_ws_t *ws,
    ngx_webtorch_bytes_t *in);
static int ngx_webtorch_ws_check_start(ngx_webtorch_ws_t *ws);
static int ngx_webtorch_ws_parse_len(ngx_webtorch_ws_t *ws);
static ngx_webtorch_ws_event_e ngx_webtorch_ws_begin(ngx_webtorch_ws_t *ws,
    ngx_webtorch_message_t *m);
static ngx_webtorch_ws_event_e ngx_webtorch_ws_read_control(
    ngx_webtorch_ws_t *ws, ngx_webtorch_bytes_t *in);
static ngx_webtorch_ws_event_e ngx_webtorch_ws_read_data(ngx_webtorch_ws_t *ws,
    ngx_webtorch_message_t *m, ngx_webtorch_bytes_t *in);
static ngx_webtorch_ws_event_e ngx_webtorch_ws_parse_close(
    ngx_webtorch_ws_t *ws);
static int ngx_webtorch_ws_code_valid(unsigned code);
static void ngx_webtorch_ws_unmask(ngx_webtorch_ws_t *ws, uint8_t *p,
    size_t len);
static ngx_webtorch_ws_event_e ngx_webtorch_ws_error(ngx_webtorch_ws_t *ws,
    unsigned code);


ngx_webtorch_ws_event_e
ngx_webtorch_ws_read(ngx_webtorch_ws_t *ws, ngx_webtorch_message_t *m,
    ngx_webtorch_bytes_t *in)
{
    ngx_webtorch_ws_event_e  event;

    for ( ;; ) {

        if (!ws->payload) {

            switch (ngx_webtorch_ws_read_header(ws, in)) {

            case 1:
                return NGX_WEBTORCH_WS_EVENT_AGAIN;

            case 0:
                break;

            default:
                return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_PROTOCOL);
            }

            event = ngx_webtorch_ws_begin(ws, m);

            if (event != NGX_WEBTORCH_WS_EVENT_AGAIN) {
                return event;
            }
        }

        if (ws->frame & NGX_WEBTORCH_WS_IS_CONTROL) {
            return ngx_webtorch_ws_read_control(ws, in);
        }

        event = ngx_webtorch_ws_read_data(ws, m, in);

        if (event != NGX_WEBTORCH_WS_EVENT_AGAIN || ws->payload) {
            return event;
        }
    }
}


/* 0: it is whole, 1: bytes are missing, -1: it is not allowed */

static int
ngx_webtorch_ws_read_header(ngx_webtorch_ws_t *ws, ngx_webtorch_bytes_t *in)
{
    uint8_t  len;

    for ( ;; ) {

        if (ws->wanted && ws->nheader == ws->wanted) {
            return ngx_webtorch_ws_parse_len(ws);
        }

        if (in->pos == in->last) {
            return 1;
        }

        ws->header[ws->nheader++] = *in->pos++;

        /* a header that is not allowed is refused as early as it can be */

        if (ws->nheader == 1 && ngx_webtorch_ws_check_start(ws) != 0) {
            return -1;
        }

        if (ws->nheader == 2) {

            if (!(ws->header[1] & NGX_WEBTORCH_WS_MASKED)) {
                return -1;
            }

            len = ws->header[1] & NGX_WEBTORCH_WS_LEN;

            if ((ws->frame & NGX_WEBTORCH_WS_IS_CONTROL)
                && len > NGX_WEBTORCH_WS_CONTROL)
            {
                return -1;
            }

            ws->wanted = 2 + NGX_WEBTORCH_WS_MASK_LEN
                         + (len == 126 ? 2 : len == 127 ? 8 : 0);
        }
    }
}


static int
ngx_webtorch_ws_check_start(ngx_webtorch_ws_t *ws)
{
    unsigned  reserved;

    reserved = ws->header[0] & NGX_WEBTORCH_WS_RESERVED;

    ws->fin = (ws->header[0] & NGX_WEBTORCH_WS_FIN) != 0;
    ws->frame = ws->header[0] & NGX_WEBTORCH_WS_OPCODE;

    /* the first frame of a message says that all of them are compressed */

    if (reserved
        && (reserved != NGX_WEBTORCH_WS_DEFLATED || !ws->deflate
            || (ws->frame != NGX_WEBTORCH_WS_TEXT
                && ws->frame != NGX_WEBTORCH_WS_BINARY)))
    {
        return -1;
    }

    switch (ws->frame) {

    case NGX_WEBTORCH_WS_CONTINUE:
        return ws->open ? 0 : -1;

    case NGX_WEBTORCH_WS_TEXT:
    case NGX_WEBTORCH_WS_BINARY:
        return ws->open ? -1 : 0;

    case NGX_WEBTORCH_WS_CLOSE:
    case NGX_WEBTORCH_WS_PING:
    case NGX_WEBTORCH_WS_PONG:
        return ws->fin ? 0 : -1;

    default:
        return -1;
    }
}


/* a length must be as short as it can be, and below 2^63 */

static int
ngx_webtorch_ws_parse_len(ngx_webtorch_ws_t *ws)
{
    int  i, n;

    ws->rest = ws->header[1] & NGX_WEBTORCH_WS_LEN;

    if (ws->rest < 126) {
        return 0;
    }

    n = (ws->rest == 126) ? 2 : 8;
    ws->rest = 0;

    for (i = 0; i < n; i++) {
        ws->rest = (ws->rest << 8) | ws->header[2 + i];
    }

    if (n == 2) {
        return (ws->rest < 126) ? -1 : 0;
    }

    return (ws->rest <= UINT16_MAX || (ws->rest >> 63)) ? -1 : 0;
}


/* AGAIN: the payload follows */

static ngx_webtorch_ws_event_e
ngx_webtorch_ws_begin(ngx_webtorch_ws_t *ws, ngx_webtorch_message_t *m)
{
    ws->payload = 1;
    ws->shift = 0;

    if (ws->frame & NGX_WEBTORCH_WS_IS_CONTROL) {
        ws->ncontrol = 0;
        return NGX_WEBTORCH_WS_EVENT_AGAIN;
    }

    if (ws->frame != NGX_WEBTORCH_WS_CONTINUE) {
        ws->opcode = ws->frame;
        ws->deflated = (ws->header[0] & NGX_WEBTORCH_WS_DEFLATED) != 0;
        memset(&ws->utf8, 0, sizeof(ngx_webtorch_utf8_t));
    }

    ws->open = !ws->fin;

    /* refused before its bytes come */

    if (m->limit && (ws->rest > m->limit || m->len > m->limit - ws->rest)) {
        return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_TOO_LARGE);
    }

    return NGX_WEBTORCH_WS_EVENT_AGAIN;
}


static ngx_webtorch_ws_event_e
ngx_webtorch_ws_read_control(ngx_webtorch_ws_t *ws, ngx_webtorch_bytes_t *in)
{
    size_t  len;

    len = (size_t) (in->last - in->pos);

    if (len > ws->rest) {
        len = (size_t) ws->rest;
    }

    if (len) {
        memcpy(ws->control + ws->ncontrol, in->pos, len);
        ngx_webtorch_ws_unmask(ws, ws->control + ws->ncontrol, len);
        ws->ncontrol = (uint8_t) (ws->ncontrol + len);
        ws->rest -= len;
        in->pos += len;
    }

    if (ws->rest) {
        return NGX_WEBTORCH_WS_EVENT_AGAIN;
    }

    ws->payload = 0;
    ws->nheader = 0;
    ws->wanted = 0;

    switch (ws->frame) {

    case NGX_WEBTORCH_WS_PING:
        return NGX_WEBTORCH_WS_EVENT_PING;

    case NGX_WEBTORCH_WS_PONG:
        return NGX_WEBTORCH_WS_EVENT_PONG;

    default:
        return ngx_webtorch_ws_parse_close(ws);
    }
}


/* AGAIN without ws->payload: the next frame follows */

static ngx_webtorch_ws_event_e
ngx_webtorch_ws_read_data(ngx_webtorch_ws_t *ws, ngx_webtorch_message_t *m,
    ngx_webtorch_bytes_t *in)
{
    size_t    len, before;
    uint8_t  *data;

    len = (size_t) (in->last - in->pos);

    if (len > ws->rest) {
        len = (size_t) ws->rest;
    }

    before = m->len;

    /* an empty message has memory, too */

    switch (ngx_webtorch_message_add(m, in->pos, len)) {

    case NGX_WEBTORCH_FRAME_OK:
        break;

    case NGX_WEBTORCH_FRAME_TOO_LARGE:
        return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_TOO_LARGE);

    default:
        return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_INTERNAL);
    }

    data = (uint8_t *) m->data + before;

    ngx_webtorch_ws_unmask(ws, data, len);
    ws->rest -= len;
    in->pos += len;

    if (ws->opcode == NGX_WEBTORCH_WS_TEXT
        && !ws->deflated
        && ngx_webtorch_utf8_check(&ws->utf8, data, len) != 0)
    {
        return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_NOT_UTF8);
    }

    if (ws->rest) {
        return NGX_WEBTORCH_WS_EVENT_AGAIN;
    }

    ws->payload = 0;
    ws->nheader = 0;
    ws->wanted = 0;

    if (ws->open) {
        return NGX_WEBTORCH_WS_EVENT_AGAIN;
    }

    if (ws->opcode == NGX_WEBTORCH_WS_TEXT && ws->utf8.left) {
        return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_NOT_UTF8);
    }

    return NGX_WEBTORCH_WS_EVENT_MESSAGE;
}


static ngx_webtorch_ws_event_e
ngx_webtorch_ws_parse_close(ngx_webtorch_ws_t *ws)
{
    ngx_webtorch_utf8_t  utf8;

    if (ws->ncontrol == 0) {
        ws->code = NGX_WEBTORCH_WS_NO_CODE;
        return NGX_WEBTORCH_WS_EVENT_CLOSE;
    }

    if (ws->ncontrol == 1) {
        return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_PROTOCOL);
    }

    ws->code = (uint16_t) ((ws->control[0] << 8) | ws->control[1]);

    if (!ngx_webtorch_ws_code_valid(ws->code)) {
        return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_PROTOCOL);
    }

    memset(&utf8, 0, sizeof(ngx_webtorch_utf8_t));

    if (ngx_webtorch_utf8_check(&utf8, ws->control + 2,
                                (size_t) ws->ncontrol - 2)
        != 0
        || utf8.left)
    {
        return ngx_webtorch_ws_error(ws, NGX_WEBTORCH_WS_NOT_UTF8);
    }

    return NGX_WEBTORCH_WS_EVENT_CLOSE;
}


/* close codes of RFC 6455, its registry, libraries and applications */

static int
ngx_webtorch_ws_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1003)
           || (code >= 1007 && code <= 1014)
           || (code >= 3000 && code <= 4999);
}


static void
ngx_webtorch_ws_unmask(ngx_webtorch_ws_t *ws, uint8_t *p, size_t len)
{
    size_t          i;
    uint64_t        word, mask;
    uint8_t         key[sizeof(uint64_t)];
    const uint8_t  *bytes;

    bytes = ws->header + ws->wanted - NGX_WEBTORCH_WS_MASK_LEN;

    for (i = 0; i < sizeof(key); i++) {
        key[i] = bytes[(ws->shift + i) % NGX_WEBTORCH_WS_MASK_LEN];
    }

    ws->shift = (uint8_t) ((ws->shift + len) % NGX_WEBTORCH_WS_MASK_LEN);

    memcpy(&mask, key, sizeof(key));

    for ( /* void */ ; len >= sizeof(word); len -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        word ^= mask;
        memcpy(p, &word, sizeof(word));
        p += sizeof(word);
    }

    for (i = 0; i < len; i++) {
        p[i] ^= key[i];
    }
}


static ngx_webtorch_ws_event_e
ngx_webtorch_ws_error(ngx_webtorch_ws_t *ws, unsigned code)
{
    ws->code = (uint16_t) code;

    return NGX_WEBTORCH_WS_EVENT_ERROR;
}


uint8_t *
ngx_webtorch_ws_header(uint8_t *p, unsigned opcode, uint64_t len)
{
    int  shift;

    *p++ = (uint8_t) (NGX_WEBTORCH_WS_FIN | opcode);

    if (len < 126) {
        *p++ = (uint8_t) len;
        return p;
    }

    shift = (len <= UINT16_MAX) ? 8 : 56;
    *p++ = (shift == 8) ? 126 : 127;

    for ( /* void */ ; shift >= 0; shift -= 8) {
        *p++ = (uint8_t) (len >> shift);
    }

    return p;
}


uint8_t *
ngx_webtorch_ws_close(uint8_t *p, unsigned code, const char *reason, size_t len)
{
    if (len > NGX_WEBTORCH_WS_CONTROL - 2) {
        len = NGX_WEBTORCH_WS_CONTROL - 2;

        while (len && ((uint8_t) reason[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    p = ngx_webtorch_ws_header(p, NGX_WEBTORCH_WS_CLOSE, len + 2);

    *p++ = (uint8_t) (code >> 8);
    *p++ = (uint8_t) code;

    if (len) {
        memcpy(p, reason, len);
    }

    return p + len;
}
