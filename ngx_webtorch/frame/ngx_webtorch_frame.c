
/* Messages, and the two simple framings: lines and rows of a fixed size. */

#include "ngx_webtorch_frame.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_codec.h"

#include <stdlib.h>
#include <string.h>


/* bytes that an empty message keeps */
#define NGX_WEBTORCH_MESSAGE_KEPT   4096

#define NGX_WEBTORCH_MESSAGE_FIRST  256


static int ngx_webtorch_line_is_blank(const ngx_webtorch_message_t *m);


ngx_webtorch_frame_e
ngx_webtorch_message_add(ngx_webtorch_message_t *m, const uint8_t *data,
    size_t len)
{
    size_t  size;

    if (m->limit && (len > m->limit || m->len > m->limit - len)) {
        return NGX_WEBTORCH_FRAME_TOO_LARGE;
    }

    if (m->data == NULL || len > m->size - m->len) {
        size = m->size ? 2 * m->size : NGX_WEBTORCH_MESSAGE_FIRST;

        if (size < m->len + len) {
            size = m->len + len;
        }

        if (ngx_webtorch_message_reserve(m, size) != NGX_WEBTORCH_FRAME_OK) {
            return NGX_WEBTORCH_FRAME_NO_MEMORY;
        }
    }

    if (len) {
        memcpy(m->data + m->len, data, len);
        m->len += len;
    }

    memset(m->data + m->len, 0, NGX_WEBTORCH_PADDING);

    return NGX_WEBTORCH_FRAME_OK;
}


ngx_webtorch_frame_e
ngx_webtorch_message_reserve(ngx_webtorch_message_t *m, size_t size)
{
    char  *p;

    p = ngx_webtorch_buffer_realloc(m->data, size + NGX_WEBTORCH_PADDING);
    if (p == NULL) {
        return NGX_WEBTORCH_FRAME_NO_MEMORY;
    }

    m->data = p;
    m->size = size;

    return NGX_WEBTORCH_FRAME_OK;
}


void
ngx_webtorch_message_reset(ngx_webtorch_message_t *m)
{
    m->len = 0;

    if (m->size > NGX_WEBTORCH_MESSAGE_KEPT) {
        ngx_webtorch_message_free(m);
    }
}


void
ngx_webtorch_message_free(ngx_webtorch_message_t *m)
{
    ngx_webtorch_buffer_free(m->data);

    m->data = NULL;
    m->len = 0;
    m->size = 0;
}


ngx_webtorch_frame_e
ngx_webtorch_line_read(ngx_webtorch_message_t *m, ngx_webtorch_bytes_t *in,
    int blank)
{
    size_t                 len;
    const uint8_t         *end;
    ngx_webtorch_frame_e   rc;

    while (in->pos < in->last) {

        len = (size_t) (in->last - in->pos);
        end = memchr(in->pos, '\n', len);

        if (end) {
            len = (size_t) (end - in->pos);
        }

        /* the white space before a line may be longer than a message */

        if (!blank && m->len == 0) {

            while (len && (*in->pos == ' ' || *in->pos == '\t'
                           || *in->pos == '\r'))
            {
                in->pos++;
                len--;
            }
        }

        if (len || blank) {
            rc = ngx_webtorch_message_add(m, in->pos, len);

            if (rc != NGX_WEBTORCH_FRAME_OK) {
                return rc;
            }
        }

        in->pos += len;

        if (end == NULL) {
            return NGX_WEBTORCH_FRAME_AGAIN;
        }

        in->pos++;

        if (m->len && m->data[m->len - 1] == '\r') {
            m->len--;
        }

        if (blank || !ngx_webtorch_line_is_blank(m)) {
            return NGX_WEBTORCH_FRAME_OK;
        }

        ngx_webtorch_message_reset(m);
    }

    return NGX_WEBTORCH_FRAME_AGAIN;
}


ngx_webtorch_frame_e
ngx_webtorch_line_finish(ngx_webtorch_message_t *m, int blank)
{
    if (m->len == 0 || (!blank && ngx_webtorch_line_is_blank(m))) {
        return NGX_WEBTORCH_FRAME_DONE;
    }

    return NGX_WEBTORCH_FRAME_OK;
}


static int
ngx_webtorch_line_is_blank(const ngx_webtorch_message_t *m)
{
    size_t  i;

    for (i = 0; i < m->len; i++) {
        if (m->data[i] != ' ' && m->data[i] != '\t' && m->data[i] != '\r') {
            return 0;
        }
    }

    return 1;
}


ngx_webtorch_frame_e
ngx_webtorch_row_read(ngx_webtorch_message_t *m, ngx_webtorch_bytes_t *in,
    size_t size)
{
    size_t                len;
    ngx_webtorch_frame_e  rc;

    len = (size_t) (in->last - in->pos);

    if (len > size - m->len) {
        len = size - m->len;
    }

    if (len == 0) {
        return NGX_WEBTORCH_FRAME_AGAIN;
    }

    rc = ngx_webtorch_message_add(m, in->pos, len);

    if (rc != NGX_WEBTORCH_FRAME_OK) {
        return rc;
    }

    in->pos += len;

    return (m->len == size) ? NGX_WEBTORCH_FRAME_OK : NGX_WEBTORCH_FRAME_AGAIN;
}


ngx_webtorch_frame_e
ngx_webtorch_row_finish(ngx_webtorch_message_t *m)
{
    return m->len ? NGX_WEBTORCH_FRAME_TRUNCATED : NGX_WEBTORCH_FRAME_DONE;
}
