
/*
 * permessage-deflate (RFC 7692) without context takeover: each message is
 * compressed by itself, so that a connection has no memory for it.
 */


#ifndef _NGX_WEBTORCH_DEFLATE_H_INCLUDED_
#define _NGX_WEBTORCH_DEFLATE_H_INCLUDED_


#include "ngx_webtorch_frame.h"


/* bits of a window; zlib deflates with more than 8 */
#define NGX_WEBTORCH_DEFLATE_MIN_BITS  9
#define NGX_WEBTORCH_DEFLATE_MAX_BITS  15


typedef struct ngx_webtorch_inflate_s  ngx_webtorch_inflate_t;
typedef struct ngx_webtorch_deflate_s  ngx_webtorch_deflate_t;


/* for one message after the other, 44 KB; NULL: no memory */
ngx_webtorch_inflate_t *ngx_webtorch_inflate_create(void);
void ngx_webtorch_inflate_free(ngx_webtorch_inflate_t *d);

/* begins with a message, which stays where it is until it is inflated */
void ngx_webtorch_inflate_begin(ngx_webtorch_inflate_t *d,
    const ngx_webtorch_message_t *from);

/*
 * Inflates into the room that a message has.  OK: it is complete; AGAIN: there
 * is no more room; TRUNCATED: the bytes are malformed.
 */
ngx_webtorch_frame_e ngx_webtorch_inflate_read(ngx_webtorch_inflate_t *d,
    ngx_webtorch_message_t *to);

/* for one message after the other, up to 256 KB; NULL: no memory */
ngx_webtorch_deflate_t *ngx_webtorch_deflate_create(int bits);

/*
 * Deflates a whole message into less than its bytes; returns how many these
 * are, 0: it does not become smaller.
 */
size_t ngx_webtorch_deflate_write(ngx_webtorch_deflate_t *d, uint8_t *to,
    const uint8_t *from, size_t len);


#endif /* _NGX_WEBTORCH_DEFLATE_H_INCLUDED_ */
