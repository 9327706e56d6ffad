
/*
 * Compressed messages of WebSockets.  Small ones are inflated and deflated in
 * the event loop, with memory of the worker that serves one stream after the
 * other; large ones are inflated in a thread, and are sent as they are.
 */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_DEFLATE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_DEFLATE_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/* bytes of an answer that is compressed; shorter ones save nothing */
#define NGX_HTTP_WEBTORCH_DEFLATE_MIN  512

/* above these the event loop would take more than about half a millisecond */
#define NGX_HTTP_WEBTORCH_DEFLATE_MAX  (32 * 1024)


/*
 * Inflates st->message, which is a whole one.  NGX_DECLINED: a thread is to do
 * it; NGX_ERROR: st->err is set.
 */
ngx_int_t ngx_http_webtorch_stream_inflate(ngx_http_webtorch_stream_t *st);

/*
 * The same of a message in any thread; the account holds the bytes that it
 * inflates to, which are returned in "held", also after an error.
 */
ngx_int_t ngx_http_webtorch_message_inflate(ngx_webtorch_message_t *m,
    ngx_uint_t text, ngx_webtorch_account_t *account, size_t *held,
    ngx_webtorch_error_t *err);

/*
 * Deflates a payload of at most NGX_HTTP_WEBTORCH_DEFLATE_MAX bytes; data is
 * valid until the next call.  Returns its length; 0: it is to be sent as it is.
 */
size_t ngx_http_webtorch_stream_deflate(ngx_http_webtorch_stream_t *st,
    const u_char *payload, size_t len, u_char **data);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_DEFLATE_H_INCLUDED_ */
