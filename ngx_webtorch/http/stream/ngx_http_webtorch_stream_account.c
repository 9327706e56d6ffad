
#include "ngx_http_webtorch_stream_account.h"


/* bytes of a message that is small */
#define NGX_HTTP_WEBTORCH_STREAM_SMALL  4096


static size_t ngx_http_webtorch_stream_size(ngx_http_webtorch_stream_t *st);


size_t
ngx_http_webtorch_stream_counted(ngx_webtorch_message_t *m)
{
    return (m->size > NGX_HTTP_WEBTORCH_STREAM_SMALL) ? m->size : 0;
}


void
ngx_http_webtorch_stream_count(ngx_http_webtorch_stream_t *st)
{
    size_t  size;

    size = ngx_http_webtorch_stream_size(st);

    if (size > st->account.held) {
        ngx_webtorch_queue_hold(&st->account, size - st->account.held);

    } else if (size < st->account.held) {
        ngx_webtorch_queue_release(&st->account, st->account.held - size);
    }
}


ngx_int_t
ngx_http_webtorch_stream_count_chunk(ngx_http_webtorch_stream_t *st)
{
    size_t  size;

    size = ngx_http_webtorch_stream_size(st);

    if (size <= st->account.held
        || ngx_webtorch_queue_reserve(&st->account, size - st->account.held)
           == NGX_OK)
    {
        return NGX_OK;
    }

    return ngx_webtorch_error(&st->err, NGX_HTTP_SERVICE_UNAVAILABLE,
                              "queue_full",
                              "requests hold as many bytes as \"queue_size\" "
                              "allows");
}


static size_t
ngx_http_webtorch_stream_size(ngx_http_webtorch_stream_t *st)
{
    return ngx_http_webtorch_stream_counted(&st->message)
           + ngx_http_webtorch_stream_counted(&st->answers[0].bytes)
           + ngx_http_webtorch_stream_counted(&st->answers[1].bytes);
}
