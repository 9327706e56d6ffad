
/*
 * Parses what it reads from the standard input and prints an event in each
 * line: frames MODE LIMIT CUT, with pieces of CUT bytes.
 */

#include "ngx_webtorch_deflate.h"
#include "ngx_webtorch_frame.h"
#include "ngx_webtorch_ws.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static void
print(const char *event, const void *data, size_t len)
{
    size_t  i;

    printf("%s ", event);

    for (i = 0; i < len; i++) {
        printf("%02x", ((const uint8_t *) data)[i]);
    }

    printf("\n");
}


static const char *const  results[] = {
    "ok", "again", "done", "truncated", "too_large", "no_memory"
};


/* returns 0 after an error */

static int
parse_simple(const char *mode, ngx_webtorch_message_t *m,
    ngx_webtorch_bytes_t *in)
{
    ngx_webtorch_frame_e  rc;

    for ( ;; ) {
        rc = (mode[0] == 'r')
                 ? ngx_webtorch_row_read(m, in, (size_t) atoi(mode + 1))
                 : ngx_webtorch_line_read(m, in, mode[0] == 't');

        if (rc == NGX_WEBTORCH_FRAME_AGAIN) {
            return 1;
        }

        print(results[rc], m->data,
              rc == NGX_WEBTORCH_FRAME_TOO_LARGE ? 0 : m->len);

        if (rc != NGX_WEBTORCH_FRAME_OK) {
            return 0;
        }

        ngx_webtorch_message_reset(m);
    }
}


static void
finish_simple(const char *mode, ngx_webtorch_message_t *m)
{
    ngx_webtorch_frame_e  rc;

    rc = (mode[0] == 'r') ? ngx_webtorch_row_finish(m)
                          : ngx_webtorch_line_finish(m, mode[0] == 't');

    print(results[rc], m->data, m->len);
}


/* prints what a message inflates to, in room of 1000 bytes */

static void
print_inflated(ngx_webtorch_message_t *m)
{
    ngx_webtorch_frame_e     rc;
    ngx_webtorch_message_t   to;
    ngx_webtorch_inflate_t  *inflate;

    memset(&to, 0, sizeof(to));
    inflate = ngx_webtorch_inflate_create();

    if (inflate == NULL
        || ngx_webtorch_message_reserve(&to, 1000) != NGX_WEBTORCH_FRAME_OK)
    {
        abort();
    }

    ngx_webtorch_inflate_begin(inflate, m);
    rc = ngx_webtorch_inflate_read(inflate, &to);

    print(results[rc], to.data, to.len);

    ngx_webtorch_inflate_free(inflate);
    ngx_webtorch_message_free(&to);
}


static int
parse_ws(ngx_webtorch_ws_t *ws, ngx_webtorch_message_t *m,
    ngx_webtorch_bytes_t *in)
{
    char  text[16];

    for ( ;; ) {

        switch (ngx_webtorch_ws_read(ws, m, in)) {

        case NGX_WEBTORCH_WS_EVENT_AGAIN:
            return 1;

        case NGX_WEBTORCH_WS_EVENT_MESSAGE:
            print(ws->opcode == NGX_WEBTORCH_WS_TEXT ? "text" : "binary",
                  m->data, m->len);

            if (ws->deflated) {
                print_inflated(m);
            }

            ngx_webtorch_message_reset(m);
            break;

        case NGX_WEBTORCH_WS_EVENT_PING:
            print("ping", ws->control, ws->ncontrol);
            break;

        case NGX_WEBTORCH_WS_EVENT_PONG:
            print("pong", ws->control, ws->ncontrol);
            break;

        case NGX_WEBTORCH_WS_EVENT_CLOSE:
            snprintf(text, sizeof(text), "close:%u", ws->code);
            print(text, ws->control, ws->ncontrol);
            return 0;

        default:
            snprintf(text, sizeof(text), "error:%u", ws->code);
            print(text, NULL, 0);
            return 0;
        }
    }
}


int
main(int argc, char **argv)
{
    int                      more;
    size_t                   n, cut;
    uint8_t                 *piece;
    const char              *mode;
    ngx_webtorch_ws_t        ws;
    ngx_webtorch_bytes_t     in;
    ngx_webtorch_message_t   m;

    if (argc != 4) {
        return 2;
    }

    memset(&m, 0, sizeof(m));
    memset(&ws, 0, sizeof(ws));

    more = 1;
    mode = argv[1];
    ws.deflate = (mode[0] == 'd');
    m.limit = (size_t) atol(argv[2]);
    cut = (size_t) atol(argv[3]);

    while (more) {
        /* of its own memory, so that a sanitizer detects reads beyond it */
        piece = malloc(cut);
        n = fread(piece, 1, cut, stdin);

        if (n == 0) {
            free(piece);
            break;
        }

        piece = realloc(piece, n);
        in.pos = piece;
        in.last = piece + n;

        more = (mode[0] == 'w' || mode[0] == 'd') ? parse_ws(&ws, &m, &in)
                                : parse_simple(mode, &m, &in);
        free(piece);
    }

    if (more && mode[0] != 'w' && mode[0] != 'd') {
        finish_simple(mode, &m);
    }

    ngx_webtorch_message_free(&m);

    return 0;
}
