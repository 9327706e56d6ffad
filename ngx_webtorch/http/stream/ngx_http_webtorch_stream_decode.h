
/* The payload of a chunk becomes a row, that of a large one in a thread. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_DECODE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_DECODE_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"
#include "ngx_webtorch_queue.h"


typedef struct ngx_http_webtorch_chunk_s  ngx_http_webtorch_chunk_t;


struct ngx_http_webtorch_chunk_s {
    ngx_webtorch_sink_t           sink;       /* first; of the row */
    ngx_webtorch_runner_t        *runner;
    webtorch_schema_t            *wire;
    ngx_webtorch_message_t        message;
    ngx_http_webtorch_payload_e   payload;
    size_t                        row_size;   /* of raw rows */
    ngx_webtorch_layout_t         layout;
    ngx_webtorch_error_t          err;

    /* in a thread: buffers of all that the runner's batches have */
    webtorch_schema_t            *schema;
    ngx_webtorch_account_t        account;
    char                         *text;
    int                           rc;         /* -1: err is set */
    unsigned                      deflated:1; /* the message is */
    unsigned                      utf8:1;     /* and becomes text */

    ngx_http_webtorch_stream_t   *st;         /* NULL: it has ended */
    void                        (*done)(ngx_http_webtorch_stream_t *st,
                                        ngx_http_webtorch_chunk_t *chunk);
};


/* decodes st->message into the runner's open batch; -1: st->err is set */
int ngx_http_webtorch_stream_decode(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_sink_t *sink);

/*
 * Has st->message, which is large or deflated, decoded in a thread.  done() is
 * called in the event loop if the stream is still there.  NGX_ERROR: st->err is
 * set; NGX_DECLINED: the message is neither, or there are no threads.
 */
ngx_int_t ngx_http_webtorch_stream_decode_post(ngx_http_webtorch_stream_t *st,
    void (*done)(ngx_http_webtorch_stream_t *st,
        ngx_http_webtorch_chunk_t *chunk));


#endif /* _NGX_HTTP_WEBTORCH_STREAM_DECODE_H_INCLUDED_ */
