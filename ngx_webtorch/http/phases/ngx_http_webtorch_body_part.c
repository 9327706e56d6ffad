
/*
 * The part of a request's body that is in its features.  A compressed body is
 * inflated, as the application behind the model may do that.
 */

#include "ngx_http_webtorch_body_part.h"
#include "ngx_http_webtorch_body_read.h"
#include "ngx_http_webtorch_inflate.h"

#include <zlib.h>


/*
 * Bounds of what the event loop inflates of one body: bytes of input, and
 * blocks and headers of members.  A block of 12 bytes may inflate to nothing
 * and take 2 microseconds, as its codes are built.
 */
#define NGX_HTTP_WEBTORCH_BODY_INPUT   65536
#define NGX_HTTP_WEBTORCH_BODY_BLOCKS  256


static ngx_int_t ngx_http_webtorch_body_read(ngx_chain_t *cl, u_char *p,
    size_t limit, ngx_str_t *piece);
static ngx_int_t ngx_http_webtorch_body_inflate(ngx_uint_t coding,
    ngx_str_t *input, size_t limit, ngx_str_t *output);
static ngx_int_t ngx_http_webtorch_body_reset(int window_bits);


/* the event loop's: the body of one request at a time */

static z_stream    ngx_http_webtorch_body_stream;
static ngx_uint_t  ngx_http_webtorch_body_stream_ready;
static u_char      ngx_http_webtorch_body_input[NGX_HTTP_WEBTORCH_BODY_INPUT];
static u_char      ngx_http_webtorch_body_output[NGX_WEBTORCH_TEXT_SIZE + 1];


ngx_int_t
ngx_http_webtorch_body_part(ngx_http_request_t *r, size_t limit,
    ngx_webtorch_part_t *part)
{
    off_t         size;
    ngx_int_t     rc;
    ngx_str_t     piece;
    ngx_uint_t    coding;
    ngx_chain_t  *cl, *bufs;

    if (limit == 0 || r->request_body == NULL) {
        return NGX_OK;
    }

    if (!ngx_http_webtorch_body_complete(r)) {
        return NGX_HTTP_WEBTORCH_BODY_MISSING;
    }

    size = 0;
    bufs = r->request_body->bufs;

    for (cl = bufs; cl; cl = cl->next) {

        /* a proxy closes the file when it has an answer, unless it is kept */

        if (cl->buf->in_file && cl->buf->file->fd == NGX_INVALID_FILE) {
            return NGX_HTTP_WEBTORCH_BODY_MISSING;
        }

        size += ngx_buf_size(cl->buf);
    }

    if (size == 0) {
        return NGX_OK;
    }

    if (ngx_http_webtorch_coding(r, &coding) != NGX_OK) {
        return NGX_HTTP_WEBTORCH_BODY_CODING;
    }

    if (coding == NGX_HTTP_WEBTORCH_IDENTITY) {
        rc = ngx_http_webtorch_body_read(bufs, ngx_http_webtorch_body_output,
                                         limit, &piece);

        if (rc == NGX_OK && size > (off_t) limit) {
            rc = NGX_HTTP_WEBTORCH_BODY_CUT;
        }

    } else {
        rc = ngx_http_webtorch_body_read(bufs, ngx_http_webtorch_body_input,
                                         NGX_HTTP_WEBTORCH_BODY_INPUT, &piece);

        if (rc == NGX_OK) {
            size -= piece.len;
            rc = ngx_http_webtorch_body_inflate(coding, &piece, limit, &piece);
        }

        if (rc == NGX_AGAIN) {
            rc = size ? NGX_HTTP_WEBTORCH_BODY_BOUND
                      : NGX_HTTP_WEBTORCH_BODY_MALFORMED;
        }
    }

    if (rc == NGX_OK || rc == NGX_HTTP_WEBTORCH_BODY_CUT) {
        part->data = (char *) piece.data;
        part->len = piece.len;
    }

    return rc;
}


/* sets the first bytes, which are copied to p if they are not in one piece */

static ngx_int_t
ngx_http_webtorch_body_read(ngx_chain_t *cl, u_char *p, size_t limit,
    ngx_str_t *piece)
{
    size_t      size;
    ssize_t     n;
    ngx_buf_t  *b;

    b = cl->buf;

    if (cl->next == NULL && ngx_buf_in_memory(b)) {
        piece->data = b->pos;
        piece->len = ngx_min((size_t) (b->last - b->pos), limit);
        return NGX_OK;
    }

    piece->data = p;

    for ( /* void */ ; cl && limit; cl = cl->next) {
        b = cl->buf;
        size = (size_t) ngx_min(ngx_buf_size(b), (off_t) limit);

        if (ngx_buf_in_memory(b)) {
            ngx_memcpy(p, b->pos, size);

        } else if (size) {
            n = ngx_read_file(b->file, p, size, b->file_pos);

            if (n != (ssize_t) size) {
                return NGX_ERROR;
            }
        }

        p += size;
        limit -= size;
    }

    piece->len = p - piece->data;

    return NGX_OK;
}


/*
 * Stops at the limit, as identity does, with NGX_HTTP_WEBTORCH_BODY_CUT if the
 * stream goes on.  NGX_AGAIN: the input ends before the limit and before the
 * end of the stream.
 */

static ngx_int_t
ngx_http_webtorch_body_inflate(ngx_uint_t coding, ngx_str_t *input,
    size_t limit, ngx_str_t *output)
{
    int          rc, window_bits;
    z_stream    *z;
    ngx_uint_t   blocks;

    z = &ngx_http_webtorch_body_stream;
    window_bits = ngx_http_webtorch_inflate_window_bits(coding, input);

    if (ngx_http_webtorch_body_reset(window_bits) != NGX_OK) {
        return NGX_ERROR;
    }

    z->next_in = input->data;
    z->avail_in = (uInt) input->len;
    z->next_out = ngx_http_webtorch_body_output;

    /* one more byte shows that the stream goes on */

    z->avail_out = (uInt) limit + 1;
    output->data = ngx_http_webtorch_body_output;
    output->len = limit;

    for (blocks = 0; z->avail_out; blocks++) {

        if (blocks == NGX_HTTP_WEBTORCH_BODY_BLOCKS) {
            return NGX_HTTP_WEBTORCH_BODY_BOUND;
        }

        /* Z_BLOCK: returns after each block, and after a header */

        rc = inflate(z, Z_BLOCK);

        if (rc == Z_OK) {
            continue;
        }

        if (rc == Z_BUF_ERROR) {
            return (z->avail_out == 1) ? NGX_HTTP_WEBTORCH_BODY_CUT : NGX_AGAIN;
        }

        if (rc == Z_MEM_ERROR) {
            return NGX_ERROR;
        }

        if (rc != Z_STREAM_END) {
            return NGX_HTTP_WEBTORCH_BODY_MALFORMED;
        }

        if (z->avail_in == 0) {
            break;
        }

        /* gzip allows another member after the first */

        if (coding != NGX_HTTP_WEBTORCH_GZIP) {
            return NGX_HTTP_WEBTORCH_BODY_MALFORMED;
        }

        if (ngx_http_webtorch_body_reset(window_bits) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (z->avail_out == 0) {
        return NGX_HTTP_WEBTORCH_BODY_CUT;
    }

    output->len = limit + 1 - z->avail_out;

    return NGX_OK;
}


/* zlib's state is allocated once; the window's size is always the same */

static ngx_int_t
ngx_http_webtorch_body_reset(int window_bits)
{
    z_stream  *z;

    z = &ngx_http_webtorch_body_stream;

    if (ngx_http_webtorch_body_stream_ready) {
        return (inflateReset2(z, window_bits) == Z_OK) ? NGX_OK : NGX_ERROR;
    }

    if (inflateInit2(z, window_bits) != Z_OK) {
        return NGX_ERROR;
    }

    ngx_http_webtorch_body_stream_ready = 1;

    return NGX_OK;
}


const char *
ngx_http_webtorch_body_part_strerror(ngx_int_t rc)
{
    switch (rc) {

    case NGX_HTTP_WEBTORCH_BODY_CODING:
        return "the body's content encoding is not gzip or deflate";

    case NGX_HTTP_WEBTORCH_BODY_MALFORMED:
        return "the compressed body is malformed or cut off";

    case NGX_HTTP_WEBTORCH_BODY_BOUND:
        return "the first 64k or 256 blocks of the compressed body inflate to "
               "less than is scored";

    case NGX_HTTP_WEBTORCH_BODY_MISSING:
        return "the body has not been read to its end";

    case NGX_HTTP_WEBTORCH_BODY_CUT:
        return "the body is longer than \"body=\"";

    default:
        return NULL;
    }
}
