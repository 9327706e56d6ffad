
#include "ngx_http_webtorch_status_writer.h"

#include <math.h>


#define NGX_HTTP_WEBTORCH_STATUS_BUFFER  65536


static ngx_int_t ngx_http_webtorch_status_add_buffer(
    ngx_http_webtorch_status_writer_t *w, size_t size);


ngx_int_t
ngx_http_webtorch_status_writer_init(ngx_http_webtorch_status_writer_t *w,
    ngx_pool_t *pool)
{
    ngx_memzero(w, sizeof(ngx_http_webtorch_status_writer_t));

    w->pool = pool;
    w->last = &w->out;

    return ngx_http_webtorch_status_add_buffer(w, 0);
}


static ngx_int_t
ngx_http_webtorch_status_add_buffer(ngx_http_webtorch_status_writer_t *w,
    size_t size)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(w->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    b = ngx_create_temp_buf(w->pool,
                            ngx_max(size, NGX_HTTP_WEBTORCH_STATUS_BUFFER));
    if (b == NULL) {
        return NGX_ERROR;
    }

    if (w->buf) {
        w->len += w->buf->last - w->buf->pos;
    }

    w->buf = b;

    cl->buf = b;
    cl->next = NULL;

    *w->last = cl;
    w->last = &cl->next;

    return NGX_OK;
}


u_char *
ngx_http_webtorch_status_reserve(ngx_http_webtorch_status_writer_t *w,
    size_t size)
{
    if ((size_t) (w->buf->end - w->buf->last) >= size) {
        return w->buf->last;
    }

    if (ngx_http_webtorch_status_add_buffer(w, size) != NGX_OK) {

        /* after this a request is never larger than a buffer */

        w->failed = 1;
        w->buf->last = w->buf->pos;
    }

    return w->buf->last;
}


void
ngx_http_webtorch_status_write(ngx_http_webtorch_status_writer_t *w,
    const void *text, size_t len)
{
    size_t         n;
    const u_char  *p;

    for (p = text; len; p += n, len -= n) {
        n = ngx_min(len, NGX_HTTP_WEBTORCH_STATUS_BUFFER);
        w->buf->last = ngx_cpymem(ngx_http_webtorch_status_reserve(w, n), p, n);
    }
}


void
ngx_http_webtorch_status_puts(ngx_http_webtorch_status_writer_t *w,
    const char *text)
{
    ngx_http_webtorch_status_write(w, text, ngx_strlen(text));
}


void
ngx_http_webtorch_status_escape(ngx_http_webtorch_status_writer_t *w,
    const void *text, size_t len)
{
    u_char        *p;
    const u_char  *s;

    s = text;

    for ( /* void */ ; len; len--, s++) {
        p = ngx_http_webtorch_status_reserve(w, 2);

        switch (*s) {

        case '"':
        case '\\':
            *p++ = '\\';
            *p++ = *s;
            break;

        case '\n':
            *p++ = '\\';
            *p++ = 'n';
            break;

        default:
            /* labels could have others, JSON could not */
            *p++ = (*s < ' ') ? ' ' : *s;
        }

        w->buf->last = p;
    }
}


u_char *
ngx_http_webtorch_status_digits(u_char *p, uint64_t n)
{
    u_char  text[NGX_INT64_LEN], *s;

    s = text + sizeof(text);

    do {
        *--s = (u_char) ('0' + n % 10);
        n /= 10;
    } while (n);

    return ngx_cpymem(p, s, text + sizeof(text) - s);
}


u_char *
ngx_http_webtorch_status_seconds(u_char *p, uint64_t usec)
{
    ngx_uint_t  i;

    p = ngx_http_webtorch_status_digits(p, usec / 1000000);
    usec %= 1000000;

    *p++ = '.';

    for (i = 100000; i; i /= 10) {
        *p++ = (u_char) ('0' + usec / i % 10);
    }

    return p;
}


u_char *
ngx_http_webtorch_status_number(u_char *p, double n)
{
    if (isnan(n)) {
        return ngx_cpymem(p, "NaN", 3);
    }

    if (isinf(n)) {
        return ngx_cpymem(p, n > 0 ? "+Inf" : "-Inf", 4);
    }

    return ngx_webtorch_print_exact(p, n);
}
