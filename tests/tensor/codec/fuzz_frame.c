
/*
 * Fuzzes the parsers of frames.  The first byte is the size of the pieces that
 * the others are cut into, the second one the limit or size of a message.  The
 * events must be those of the input in one piece.
 */

#include "ngx_webtorch_deflate.h"
#include "ngx_webtorch_frame.h"
#include "ngx_webtorch_ws.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define fuzz_check(condition, what)                                           \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);             \
        abort();                                                              \
    }


/* a hash of all events, and how many there were */

typedef struct {
    uint64_t                 hash;
    size_t                   n;
    size_t                   param;
    ngx_webtorch_message_t   m;
    ngx_webtorch_ws_t        ws;
} fuzz_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
fuzz_event(fuzz_t *f, unsigned event, const void *data, size_t len)
{
    size_t          i;
    const uint8_t  *p = data;

    f->n++;
    f->hash = (f->hash ^ event) * 0x100000001b3;
    f->hash = (f->hash ^ len) * 0x100000001b3;

    for (i = 0; i < len; i++) {
        f->hash = (f->hash ^ p[i]) * 0x100000001b3;
    }
}


/* all return 0 after an error */

static inline int
fuzz_simple(fuzz_t *f, ngx_webtorch_bytes_t *in, int rows)
{
    ngx_webtorch_frame_e  rc;

    for ( ;; ) {
        rc = rows ? ngx_webtorch_row_read(&f->m, in, f->param + 1)
                  : ngx_webtorch_line_read(&f->m, in, f->param & 1);

        fuzz_check(f->m.limit == 0 || f->m.len <= f->m.limit, "limit");

        if (rc == NGX_WEBTORCH_FRAME_AGAIN) {
            fuzz_check(in->pos == in->last, "bytes are left");
            return 1;
        }

        if (rc != NGX_WEBTORCH_FRAME_OK) {
            fuzz_event(f, rc, NULL, 0);
            return 0;
        }

        fuzz_check(!rows || f->m.len == f->param + 1, "size of a row");
        fuzz_check(rows || f->m.len == 0
                   || memchr(f->m.data, '\n', f->m.len) == NULL,
                   "a newline in a line");

        fuzz_event(f, rc, f->m.data, f->m.len);
        ngx_webtorch_message_reset(&f->m);
    }
}


int
fuzz_lines(fuzz_t *f, ngx_webtorch_bytes_t *in)
{
    if (in == NULL) {
        fuzz_event(f, ngx_webtorch_line_finish(&f->m, f->param & 1),
                   f->m.data, f->m.len);
        return 0;
    }

    f->m.limit = f->param;

    return fuzz_simple(f, in, 0);
}


int
fuzz_rows(fuzz_t *f, ngx_webtorch_bytes_t *in)
{
    if (in == NULL) {
        fuzz_event(f, ngx_webtorch_row_finish(&f->m), f->m.data, f->m.len);
        return 0;
    }

    return fuzz_simple(f, in, 1);
}


/* inflates into memory that is as large as the limit */

static inline void
fuzz_inflate(fuzz_t *f)
{
    ngx_webtorch_frame_e     rc;
    ngx_webtorch_message_t   to;

    static ngx_webtorch_inflate_t  *inflate;

    if (inflate == NULL) {
        inflate = ngx_webtorch_inflate_create();
        fuzz_check(inflate != NULL, "no memory");
    }

    memset(&to, 0, sizeof(to));
    fuzz_check(ngx_webtorch_message_reserve(&to, 16 * f->param + 1)
               == NGX_WEBTORCH_FRAME_OK, "no memory");

    ngx_webtorch_inflate_begin(inflate, &f->m);
    rc = ngx_webtorch_inflate_read(inflate, &to);

    fuzz_check(to.len <= to.size, "limit");
    fuzz_event(f, 32 + rc, to.data, to.len);

    ngx_webtorch_message_free(&to);
}


int
fuzz_websocket(fuzz_t *f, ngx_webtorch_bytes_t *in)
{
    ngx_webtorch_ws_event_e  event;

    if (in == NULL) {
        return 0;
    }

    f->m.limit = f->param;
    f->ws.deflate = f->param & 1;

    for ( ;; ) {
        event = ngx_webtorch_ws_read(&f->ws, &f->m, in);

        fuzz_check(f->m.limit == 0 || f->m.len <= f->m.limit, "limit");

        switch (event) {

        case NGX_WEBTORCH_WS_EVENT_AGAIN:
            fuzz_check(in->pos == in->last, "bytes are left");
            return 1;

        case NGX_WEBTORCH_WS_EVENT_MESSAGE:
            fuzz_event(f, 16 + f->ws.opcode, f->m.data, f->m.len);

            if (f->ws.deflated) {
                fuzz_check(f->ws.deflate, "it was not allowed");
                fuzz_inflate(f);
            }

            ngx_webtorch_message_reset(&f->m);
            break;

        case NGX_WEBTORCH_WS_EVENT_PING:
        case NGX_WEBTORCH_WS_EVENT_PONG:
            fuzz_event(f, event, f->ws.control, f->ws.ncontrol);
            break;

        default:
            fuzz_event(f, event, &f->ws.code, sizeof(f->ws.code));
            return 0;
        }
    }
}


int FUZZ_FRAME(fuzz_t *f, ngx_webtorch_bytes_t *in);


static void
fuzz_parse(fuzz_t *f, const uint8_t *data, size_t size, size_t cut)
{
    size_t                 n;
    uint8_t               *piece;
    ngx_webtorch_bytes_t   in;

    memset(f, 0, sizeof(fuzz_t));
    f->param = data[1];

    for (data += 2, size -= 2; size; data += n, size -= n) {
        n = size < cut ? size : cut;

        /* of its own memory, so that a sanitizer detects reads beyond it */
        piece = malloc(n);
        fuzz_check(piece != NULL, "no memory");
        memcpy(piece, data, n);

        in.pos = piece;
        in.last = piece + n;

        if (FUZZ_FRAME(f, &in) == 0) {
            free(piece);
            ngx_webtorch_message_free(&f->m);
            return;
        }

        free(piece);
    }

    FUZZ_FRAME(f, NULL);
    ngx_webtorch_message_free(&f->m);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t  whole, cut;

    if (size < 2) {
        return 0;
    }

    fuzz_parse(&whole, data, size, size);
    fuzz_parse(&cut, data, size, (size_t) data[0] + 1);

    fuzz_check(whole.n == cut.n && whole.hash == cut.hash,
               "cuts change the events");

    return 0;
}
