
#include "ngx_http_webtorch_stream_deflate.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_inflate.h"
#include "ngx_webtorch_deflate.h"
#include "ngx_webtorch_utf8.h"


/* bytes that a message may inflate to in the event loop */
#define NGX_HTTP_WEBTORCH_INFLATE_LOOP   (64 * 1024)

/* bytes that a thread makes room for at first */
#define NGX_HTTP_WEBTORCH_INFLATE_FIRST  (256 * 1024)


/* scratch state of a worker's event loop */

typedef struct {
    ngx_webtorch_inflate_t  *inflate;
    ngx_webtorch_message_t   message;
    ngx_webtorch_deflate_t  *deflate[NGX_WEBTORCH_DEFLATE_MAX_BITS + 1];
    u_char                   data[NGX_HTTP_WEBTORCH_DEFLATE_MAX];
} ngx_http_webtorch_deflate_t;


static size_t ngx_http_webtorch_message_limit(const ngx_webtorch_message_t *m);
static int ngx_http_webtorch_message_grow(ngx_webtorch_message_t *m,
    ngx_webtorch_account_t *account, size_t *held, ngx_webtorch_error_t *err);
static int ngx_http_webtorch_message_inflated(ngx_webtorch_message_t *m,
    ngx_uint_t text, ngx_webtorch_frame_e rc, ngx_webtorch_error_t *err);


static ngx_http_webtorch_deflate_t  ngx_http_webtorch_deflate;


ngx_int_t
ngx_http_webtorch_stream_inflate(ngx_http_webtorch_stream_t *st)
{
    ngx_webtorch_frame_e          rc;
    ngx_webtorch_message_t       *m;
    ngx_http_webtorch_deflate_t  *d;

    d = &ngx_http_webtorch_deflate;
    m = &d->message;

    if (st->message.len >= NGX_WEBTORCH_LARGE_DEFLATED) {
        return NGX_DECLINED;
    }

    if (d->inflate == NULL) {
        d->inflate = ngx_webtorch_inflate_create();
    }

    if (d->inflate == NULL
        || (m->size == 0
            && ngx_webtorch_message_reserve(m, NGX_HTTP_WEBTORCH_INFLATE_LOOP)
               != NGX_WEBTORCH_FRAME_OK))
    {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    m->len = 0;
    m->limit = ngx_http_webtorch_message_limit(&st->message);

    ngx_webtorch_inflate_begin(d->inflate, &st->message);

    rc = ngx_webtorch_inflate_read(d->inflate, m);

    if (rc == NGX_WEBTORCH_FRAME_AGAIN && m->len <= m->limit) {
        return NGX_DECLINED;
    }

    if (ngx_http_webtorch_message_inflated(m, st->text, rc, &st->err) != 0) {
        return NGX_ERROR;
    }

    st->deflated = 0;
    st->message.len = 0;

    if (ngx_webtorch_message_add(&st->message, (uint8_t *) m->data, m->len)
        != NGX_WEBTORCH_FRAME_OK)
    {
        return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_message_inflate(ngx_webtorch_message_t *m, ngx_uint_t text,
    ngx_webtorch_account_t *account, size_t *held, ngx_webtorch_error_t *err)
{
    int                      error;
    ngx_webtorch_frame_e     rc;
    ngx_webtorch_inflate_t  *inflate;
    ngx_webtorch_message_t   to;

    *held = 0;

    ngx_memzero(&to, sizeof(ngx_webtorch_message_t));
    to.limit = ngx_http_webtorch_message_limit(m);

    inflate = ngx_webtorch_inflate_create();
    if (inflate == NULL) {
        return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    ngx_webtorch_inflate_begin(inflate, m);

    do {
        error = ngx_http_webtorch_message_grow(&to, account, held, err);

        rc = error ? NGX_WEBTORCH_FRAME_NO_MEMORY
                   : ngx_webtorch_inflate_read(inflate, &to);

    } while (rc == NGX_WEBTORCH_FRAME_AGAIN && to.len <= to.limit);

    ngx_webtorch_inflate_free(inflate);

    if (error || ngx_http_webtorch_message_inflated(&to, text, rc, err) != 0) {
        ngx_webtorch_message_free(&to);
        return NGX_ERROR;
    }

    ngx_webtorch_message_free(m);
    *m = to;

    return NGX_OK;
}


/* that of what it inflates to, as of a body */

static size_t
ngx_http_webtorch_message_limit(const ngx_webtorch_message_t *m)
{
    return m->limit ? m->limit : NGX_HTTP_WEBTORCH_INFLATE_MAX;
}


/* one byte more than the limit says that a message is larger */

static int
ngx_http_webtorch_message_grow(ngx_webtorch_message_t *m,
    ngx_webtorch_account_t *account, size_t *held, ngx_webtorch_error_t *err)
{
    size_t  size;

    size = ngx_max(2 * m->size, NGX_HTTP_WEBTORCH_INFLATE_FIRST);
    size = ngx_min(size, m->limit + 1);

    if (ngx_webtorch_queue_reserve(account, size - m->size) != NGX_OK) {
        return ngx_http_webtorch_body_full(err);
    }

    *held += size - m->size;

    if (ngx_webtorch_message_reserve(m, size) != NGX_WEBTORCH_FRAME_OK) {
        return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    return 0;
}


/* checks what has become of a message, and sets the padding after it */

static int
ngx_http_webtorch_message_inflated(ngx_webtorch_message_t *m, ngx_uint_t text,
    ngx_webtorch_frame_e rc, ngx_webtorch_error_t *err)
{
    ngx_webtorch_utf8_t  utf8;

    if (rc == NGX_WEBTORCH_FRAME_TRUNCATED) {
        return ngx_webtorch_error(err, NGX_HTTP_BAD_REQUEST, "malformed_body",
                                  "the message cannot be inflated");
    }

    if (m->len > m->limit) {
        return ngx_webtorch_error(err, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                   "too_large",
                   "the inflated message is larger than "
                   "\"client_max_body_size\" allows");
    }

    ngx_memzero(&utf8, sizeof(ngx_webtorch_utf8_t));

    if (text
        && (ngx_webtorch_utf8_check(&utf8, (uint8_t *) m->data, m->len) != 0
            || utf8.left))
    {
        return ngx_webtorch_error(err, NGX_HTTP_BAD_REQUEST, "malformed_body",
                                  "the text is not UTF-8");
    }

    ngx_memzero(m->data + m->len, NGX_WEBTORCH_PADDING);

    return 0;
}


size_t
ngx_http_webtorch_stream_deflate(ngx_http_webtorch_stream_t *st,
    const u_char *payload, size_t len, u_char **data)
{
    ngx_http_webtorch_deflate_t  *d;

    d = &ngx_http_webtorch_deflate;

    if (d->deflate[st->window] == NULL) {
        d->deflate[st->window] = ngx_webtorch_deflate_create((int) st->window);

        if (d->deflate[st->window] == NULL) {
            return 0;
        }
    }

    *data = d->data;

    return ngx_webtorch_deflate_write(d->deflate[st->window], d->data, payload,
                                      len);
}
