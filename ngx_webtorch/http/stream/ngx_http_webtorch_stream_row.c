
#include "ngx_http_webtorch_stream_row.h"
#include "ngx_http_webtorch_encode.h"
#include "ngx_webtorch_tensor.h"
#include "ngx_webtorch_utf8.h"


static ngx_uint_t ngx_http_webtorch_stream_row_is_utf8(u_char *start,
    u_char *last);


void
ngx_http_webtorch_stream_row_measure(ngx_http_webtorch_stream_row_t *row)
{
    uint32_t  i;

    row->layout.text = 0;

    if (row->payload == NGX_HTTP_WEBTORCH_PAYLOAD_RAW) {
        row->bound = (size_t) row->specs[0].row_size;
        return;
    }

    for (i = 0; i < row->n; i++) {
        row->layout.text += ngx_webtorch_text_size(&row->specs[i],
                                                   row->data[i], 1);
    }

    if (row->payload == NGX_HTTP_WEBTORCH_PAYLOAD_TEXT) {
        row->bound = row->layout.text;
        return;
    }

    row->bound = row->prefix.len
                 + ngx_webtorch_codec_json.bound(row->specs, row->n,
                                                 &row->layout);
}


size_t
ngx_http_webtorch_stream_row_cost(ngx_http_webtorch_stream_row_t *row)
{
    size_t    cost;
    uint32_t  i;

    cost = row->layout.text;

    for (i = 0; i < row->n; i++) {
        cost += ngx_http_webtorch_number_cost(&row->specs[i], 1);
    }

    return cost;
}


u_char *
ngx_http_webtorch_stream_row_encode(ngx_http_webtorch_stream_row_t *row,
    u_char *p)
{
    u_char                 *last;
    const webtorch_text_t  *text;

    switch (row->payload) {

    case NGX_HTTP_WEBTORCH_PAYLOAD_RAW:
        return ngx_cpymem(p, row->data[0], (size_t) row->specs[0].row_size);

    case NGX_HTTP_WEBTORCH_PAYLOAD_TEXT:
        text = row->data[0];

        if (text->len == 0) {
            return p;
        }

        last = ngx_cpymem(p, (void *) (uintptr_t) text->at, text->len);

        if (row->check) {
            row->binary = !ngx_http_webtorch_stream_row_is_utf8(p, last);
        }

        return last;

    default: /* NGX_HTTP_WEBTORCH_PAYLOAD_JSON */

        if (row->prefix.len) {
            p = ngx_cpymem(p, row->prefix.data, row->prefix.len);
            row->layout.named = 1;
        }

        last = (u_char *) ngx_webtorch_codec_json.encode((char *) p, row->specs,
                                                         row->n, row->data,
                                                         &row->layout);

        if (row->prefix.len) {
            /* both are one object */
            *p = ',';
        }

        return last;
    }
}


/* RFC 6455: a text message that is not UTF-8 fails the connection */

static ngx_uint_t
ngx_http_webtorch_stream_row_is_utf8(u_char *start, u_char *last)
{
    ngx_webtorch_utf8_t  utf8;

    ngx_memzero(&utf8, sizeof(ngx_webtorch_utf8_t));

    return ngx_webtorch_utf8_check(&utf8, start, (size_t) (last - start)) == 0
           && utf8.left == 0;
}
