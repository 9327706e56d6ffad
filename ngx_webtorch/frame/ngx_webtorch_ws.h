
/*
 * WebSocket (RFC 6455): frames of a client become messages and control frames.
 * Written here and not taken from a library as it allocates nothing but the
 * message, whose bytes are counted, and knows of no sockets.
 */


#ifndef _NGX_WEBTORCH_WS_H_INCLUDED_
#define _NGX_WEBTORCH_WS_H_INCLUDED_


#include "ngx_webtorch_frame.h"
#include "ngx_webtorch_utf8.h"


#define NGX_WEBTORCH_WS_CONTINUE    0
#define NGX_WEBTORCH_WS_TEXT        1
#define NGX_WEBTORCH_WS_BINARY      2
#define NGX_WEBTORCH_WS_CLOSE       8
#define NGX_WEBTORCH_WS_PING        9
#define NGX_WEBTORCH_WS_PONG        10

/* a bit beside the opcode of a message that is compressed */
#define NGX_WEBTORCH_WS_DEFLATED    0x40

/* codes of a close frame */
#define NGX_WEBTORCH_WS_NORMAL      1000
#define NGX_WEBTORCH_WS_GOING_AWAY  1001
#define NGX_WEBTORCH_WS_PROTOCOL    1002
#define NGX_WEBTORCH_WS_UNSUPPORTED 1003
#define NGX_WEBTORCH_WS_NO_CODE     1005    /* never sent: there was none */
#define NGX_WEBTORCH_WS_NOT_UTF8    1007
#define NGX_WEBTORCH_WS_POLICY      1008
#define NGX_WEBTORCH_WS_TOO_LARGE   1009
#define NGX_WEBTORCH_WS_INTERNAL    1011
#define NGX_WEBTORCH_WS_RESTART     1012
#define NGX_WEBTORCH_WS_TRY_LATER   1013
#define NGX_WEBTORCH_WS_APPLICATION 3000    /* and above */

/* bytes of a control frame's payload */
#define NGX_WEBTORCH_WS_CONTROL     125

/* bytes in front of a frame that a server sends, at most */
#define NGX_WEBTORCH_WS_HEADER      10


typedef enum {
    NGX_WEBTORCH_WS_EVENT_AGAIN = 0,      /* all bytes are taken */
    NGX_WEBTORCH_WS_EVENT_MESSAGE,        /* in the message; its "opcode" */
    NGX_WEBTORCH_WS_EVENT_PING,           /* in "control" */
    NGX_WEBTORCH_WS_EVENT_PONG,
    NGX_WEBTORCH_WS_EVENT_CLOSE,          /* "code" is the client's */
    NGX_WEBTORCH_WS_EVENT_ERROR           /* "code" is to be sent */
} ngx_webtorch_ws_event_e;


/* zeroed before its first use, and "deflate" is set then */

typedef struct {
    uint8_t               deflate;        /* messages may be compressed */
    uint8_t               header[14];
    uint8_t               nheader;        /* bytes of it that are there */
    uint8_t               wanted;         /* bytes that it has; 0: not known */
    uint8_t               opcode;         /* of the message */
    uint8_t               deflated;       /* the message is, and not checked
                                             for UTF-8 */
    uint8_t               frame;          /* opcode of this frame */
    uint8_t               fin;
    uint8_t               open;           /* a message waits for more frames */
    uint8_t               payload;        /* the header is read */
    uint8_t               shift;          /* of the mask */
    uint64_t              rest;           /* bytes of the payload to come */
    ngx_webtorch_utf8_t   utf8;
    uint8_t               control[NGX_WEBTORCH_WS_CONTROL];
    uint8_t               ncontrol;
    uint16_t              code;
} ngx_webtorch_ws_t;


/*
 * Takes bytes up to the next event.  A message must be reset before the next
 * call; after an error or a close frame no call is allowed.
 */
ngx_webtorch_ws_event_e ngx_webtorch_ws_read(ngx_webtorch_ws_t *ws,
    ngx_webtorch_message_t *m, ngx_webtorch_bytes_t *in);

/*
 * Writes the bytes in front of an unmasked, whole message; the opcode may have
 * NGX_WEBTORCH_WS_DEFLATED.  Returns the end.
 */
uint8_t *ngx_webtorch_ws_header(uint8_t *p, unsigned opcode, uint64_t len);

/*
 * Writes a close frame with a reason of at most NGX_WEBTORCH_WS_CONTROL - 2
 * bytes; longer ones are cut at a character.  Returns the end.
 */
uint8_t *ngx_webtorch_ws_close(uint8_t *p, unsigned code, const char *reason,
    size_t len);


#endif /* _NGX_WEBTORCH_WS_H_INCLUDED_ */
