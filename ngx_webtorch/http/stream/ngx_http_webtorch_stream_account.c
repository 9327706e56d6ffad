
#include "ngx_http_webtorch_stream_account.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_webtorch_defer.h"


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

    return ngx_http_webtorch_body_full(&st->err);
}


static size_t
ngx_http_webtorch_stream_size(ngx_http_webtorch_stream_t *st)
{
    return ngx_http_webtorch_stream_counted(&st->message)
           + ngx_http_webtorch_stream_counted(&st->answers[0].bytes)
           + ngx_http_webtorch_stream_counted(&st->answers[1].bytes);
}


void
ngx_http_webtorch_stream_drop_message(ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_stream_free_message(&st->message);
    ngx_http_webtorch_stream_count(st);
}


void
ngx_http_webtorch_stream_free_message(ngx_webtorch_message_t *m)
{
    ngx_http_webtorch_stream_free_large(m);
    ngx_webtorch_message_free(m);
}


void
ngx_http_webtorch_stream_free_large(ngx_webtorch_message_t *m)
{
    if (m->size < NGX_WEBTORCH_LARGE_SIZE) {
        return;
    }

    ngx_webtorch_defer_free(m->data, m->size);

    m->data = NULL;
    m->len = 0;
    m->size = 0;
}
