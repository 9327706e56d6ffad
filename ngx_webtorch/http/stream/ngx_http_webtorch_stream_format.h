
/* The formats of a stream: how chunks are framed, and what they are. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_FORMAT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_FORMAT_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/*
 * By Content-Type and Accept; sets the content type of the answer.
 * NGX_DECLINED: the formats are set; or what the request's handler returns.
 */
ngx_int_t ngx_http_webtorch_stream_negotiate(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st);

/*
 * By Accept alone, for a stream without chunks: JSON at its end, or lines or
 * events as they come.  Returns the same.
 */
ngx_int_t ngx_http_webtorch_stream_negotiate_answer(ngx_http_request_t *r,
    ngx_http_webtorch_stream_t *st);

/* whether a row can be raw bytes, and whether it can be text as it is */
ngx_uint_t ngx_http_webtorch_stream_takes_raw(ngx_http_webtorch_stream_t *st);
ngx_uint_t ngx_http_webtorch_stream_takes_text(ngx_http_webtorch_stream_t *st);
ngx_uint_t ngx_http_webtorch_stream_gives_raw(ngx_http_webtorch_stream_t *st);
ngx_uint_t ngx_http_webtorch_stream_gives_text(ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_FORMAT_H_INCLUDED_ */
