
#include "ngx_http_webtorch_stream_input.h"


/* bytes of a body in a file that are read at a time */
#define NGX_HTTP_WEBTORCH_STREAM_PIECE  16384


static ngx_int_t ngx_http_webtorch_stream_read_buf(
    ngx_http_webtorch_stream_t *st, ngx_buf_t *b);
static ngx_int_t ngx_http_webtorch_stream_fill(ngx_http_webtorch_stream_t *st,
    ngx_buf_t *b);
static ngx_int_t ngx_http_webtorch_stream_parse(ngx_http_webtorch_stream_t *st,
    ngx_buf_t *b);
static ngx_int_t ngx_http_webtorch_stream_finish(
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_framed(
    ngx_http_webtorch_stream_t *st, ngx_webtorch_frame_e rc);


/*
 * A buffer that is not yet parsed to its end stays busy for nginx, which reads
 * no more of the body then.  So the client waits if the stream does.
 */

ngx_int_t
ngx_http_webtorch_stream_read(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t                 rc;
    ngx_chain_t              *cl;
    ngx_http_request_t       *r;
    ngx_http_request_body_t  *rb;

    r = st->request;
    rb = r->request_body;

    /* it was discarded, and the stream is the page of an error */

    if (rb == NULL) {
        return ngx_http_webtorch_stream_finish(st);
    }

    for ( ;; ) {

        while (rb->bufs) {
            cl = rb->bufs;

            rc = ngx_http_webtorch_stream_read_buf(st, cl->buf);

            if (rc == NGX_BUSY) {
                ngx_post_event(r->connection->read, &ngx_posted_next_events);
                return NGX_AGAIN;
            }

            if (rc != NGX_AGAIN) {
                return rc;
            }

            rb->bufs = cl->next;
            ngx_free_chain(r->pool, cl);
        }

        if (!r->reading_body) {
            return ngx_http_webtorch_stream_finish(st);
        }

        rc = ngx_http_read_unbuffered_request_body(r);

        if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
            return rc;
        }

        if (rc == NGX_AGAIN && rb->bufs == NULL) {
            return NGX_AGAIN;
        }
    }
}


/* NGX_AGAIN: all of it is parsed; NGX_BUSY: other clients come first */

static ngx_int_t
ngx_http_webtorch_stream_read_buf(ngx_http_webtorch_stream_t *st, ngx_buf_t *b)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (b->pos < b->last) {

            if (st->budget == 0) {
                return NGX_BUSY;
            }

            rc = ngx_http_webtorch_stream_parse(st, b);

            if (rc != NGX_AGAIN) {
                return rc;
            }
        }

        if (!b->in_file || b->file_pos >= b->file_last) {
            return NGX_AGAIN;
        }

        if (ngx_http_webtorch_stream_fill(st, b) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }
}


/* reads the next piece of a body that nginx has written to a file */

static ngx_int_t
ngx_http_webtorch_stream_fill(ngx_http_webtorch_stream_t *st, ngx_buf_t *b)
{
    size_t   size;
    ssize_t  n;

    if (st->piece.data == NULL) {
        st->piece.data = ngx_palloc(st->request->pool,
                                    NGX_HTTP_WEBTORCH_STREAM_PIECE);
        if (st->piece.data == NULL) {
            return NGX_ERROR;
        }
    }

    size = (size_t) ngx_min(b->file_last - b->file_pos,
                            NGX_HTTP_WEBTORCH_STREAM_PIECE);

    n = ngx_read_file(b->file, st->piece.data, size, b->file_pos);

    if (n <= 0) {
        return NGX_ERROR;
    }

    b->file_pos += n;
    b->pos = st->piece.data;
    b->last = b->pos + n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_parse(ngx_http_webtorch_stream_t *st, ngx_buf_t *b)
{
    ngx_webtorch_bytes_t  in;
    ngx_webtorch_frame_e  rc;

    in.pos = b->pos;
    in.last = b->last;

    if (st->framing == NGX_HTTP_WEBTORCH_FRAMING_NONE) {
        rc = ngx_webtorch_row_read(&st->message, &in, st->row_size);

    } else {
        rc = ngx_webtorch_line_read(&st->message, &in,
                 st->payload == NGX_HTTP_WEBTORCH_PAYLOAD_TEXT);
    }

    st->budget -= ngx_min(st->budget, (size_t) ((u_char *) in.pos - b->pos));
    b->pos = (u_char *) in.pos;

    return ngx_http_webtorch_stream_framed(st, rc);
}


/* the last line may lack its newline; it is a chunk, then the body ends */

static ngx_int_t
ngx_http_webtorch_stream_finish(ngx_http_webtorch_stream_t *st)
{
    ngx_webtorch_frame_e  rc;

    if (st->framing == NGX_HTTP_WEBTORCH_FRAMING_NONE) {
        rc = ngx_webtorch_row_finish(&st->message);

    } else {
        rc = ngx_webtorch_line_finish(&st->message,
                 st->payload == NGX_HTTP_WEBTORCH_PAYLOAD_TEXT);
    }

    return ngx_http_webtorch_stream_framed(st, rc);
}


static ngx_int_t
ngx_http_webtorch_stream_framed(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_frame_e rc)
{
    switch (rc) {

    case NGX_WEBTORCH_FRAME_OK:
        return NGX_OK;

    case NGX_WEBTORCH_FRAME_AGAIN:
        return NGX_AGAIN;

    case NGX_WEBTORCH_FRAME_DONE:
        return NGX_DONE;

    case NGX_WEBTORCH_FRAME_TRUNCATED:
        return ngx_webtorch_error(&st->err, 422, "incomplete_body",
                   "the body ended within a row of %zu bytes", st->row_size);

    case NGX_WEBTORCH_FRAME_TOO_LARGE:
        return ngx_webtorch_error(&st->err, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                   "too_large", "a chunk is larger than "
                   "\"client_max_body_size\" allows");

    default: /* NGX_WEBTORCH_FRAME_NO_MEMORY */
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }
}
