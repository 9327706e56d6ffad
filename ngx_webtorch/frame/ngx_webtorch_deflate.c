
#include "ngx_webtorch_deflate.h"

#include <stdlib.h>
#include <zlib.h>


/* the fastest one: most of a message is numbers, which others shorten little */
#define NGX_WEBTORCH_DEFLATE_LEVEL   1

#define NGX_WEBTORCH_DEFLATE_MEMORY  8

/* bytes 00 00 ff ff that RFC 7692 removes from the end of a message */
#define NGX_WEBTORCH_DEFLATE_TAIL    4

/* bytes; zlib's sizes have 32 bits */
#define NGX_WEBTORCH_INFLATE_PIECE   (1024 * 1024 * 1024)

/* bit of z_stream.data_type: the last byte was the end of a block */
#define NGX_WEBTORCH_INFLATE_BLOCK   128


struct ngx_webtorch_inflate_s {
    z_stream        z;
    const uint8_t  *last;                 /* of the message */
    int             tail;                 /* that is what zlib reads */
};


struct ngx_webtorch_deflate_s {
    z_stream        z;
};


static const uint8_t  ngx_webtorch_deflate_tail[NGX_WEBTORCH_DEFLATE_TAIL] = {
    0, 0, 0xff, 0xff
};


ngx_webtorch_inflate_t *
ngx_webtorch_inflate_create(void)
{
    ngx_webtorch_inflate_t  *d;

    d = calloc(1, sizeof(ngx_webtorch_inflate_t));

    if (d && inflateInit2(&d->z, -NGX_WEBTORCH_DEFLATE_MAX_BITS) != Z_OK) {
        free(d);
        return NULL;
    }

    return d;
}


void
ngx_webtorch_inflate_free(ngx_webtorch_inflate_t *d)
{
    (void) inflateEnd(&d->z);
    free(d);
}


void
ngx_webtorch_inflate_begin(ngx_webtorch_inflate_t *d,
    const ngx_webtorch_message_t *from)
{
    (void) inflateReset(&d->z);

    d->z.next_in = (Bytef *) from->data;
    d->z.avail_in = 0;
    d->last = (const uint8_t *) from->data + from->len;
    d->tail = 0;
}


ngx_webtorch_frame_e
ngx_webtorch_inflate_read(ngx_webtorch_inflate_t *d,
    ngx_webtorch_message_t *to)
{
    int        rc;
    size_t     n, room;
    z_stream  *z;

    z = &d->z;

    for ( ;; ) {

        if (z->avail_in == 0 && !d->tail) {
            n = (size_t) (d->last - z->next_in);

            if (n > NGX_WEBTORCH_INFLATE_PIECE) {
                n = NGX_WEBTORCH_INFLATE_PIECE;
            }

            z->avail_in = (uInt) n;

            if (n == 0) {
                d->tail = 1;
                z->next_in = (Bytef *) ngx_webtorch_deflate_tail;
                z->avail_in = NGX_WEBTORCH_DEFLATE_TAIL;
            }
        }

        room = to->size - to->len;

        if (room > NGX_WEBTORCH_INFLATE_PIECE) {
            room = NGX_WEBTORCH_INFLATE_PIECE;
        }

        z->next_out = (Bytef *) to->data + to->len;
        z->avail_out = (uInt) room;

        rc = inflate(z, Z_NO_FLUSH);

        to->len += room - z->avail_out;

        /* a client may end each message, or a part of it, with a last block */

        if (rc == Z_STREAM_END) {
            (void) inflateReset(z);

        } else if (rc != Z_OK && rc != Z_BUF_ERROR) {
            return NGX_WEBTORCH_FRAME_TRUNCATED;
        }

        if (z->avail_out == 0) {
            return NGX_WEBTORCH_FRAME_AGAIN;
        }

        if (z->avail_in == 0 && d->tail) {
            return (z->data_type & NGX_WEBTORCH_INFLATE_BLOCK)
                       ? NGX_WEBTORCH_FRAME_OK : NGX_WEBTORCH_FRAME_TRUNCATED;
        }
    }
}


ngx_webtorch_deflate_t *
ngx_webtorch_deflate_create(int bits)
{
    ngx_webtorch_deflate_t  *d;

    d = calloc(1, sizeof(ngx_webtorch_deflate_t));

    if (d
        && deflateInit2(&d->z, NGX_WEBTORCH_DEFLATE_LEVEL, Z_DEFLATED,
                        -bits, NGX_WEBTORCH_DEFLATE_MEMORY, Z_DEFAULT_STRATEGY)
           != Z_OK)
    {
        free(d);
        return NULL;
    }

    return d;
}


size_t
ngx_webtorch_deflate_write(ngx_webtorch_deflate_t *d, uint8_t *to,
    const uint8_t *from, size_t len)
{
    z_stream  *z;

    z = &d->z;

    (void) deflateReset(z);

    z->next_in = (Bytef *) from;
    z->avail_in = (uInt) len;
    z->next_out = to;
    z->avail_out = (uInt) len;

    /* room that is left says that all was flushed */

    if (deflate(z, Z_SYNC_FLUSH) != Z_OK || z->avail_out == 0) {
        return 0;
    }

    return len - z->avail_out - NGX_WEBTORCH_DEFLATE_TAIL;
}
