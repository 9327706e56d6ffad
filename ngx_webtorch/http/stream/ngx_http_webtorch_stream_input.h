
/* Chunks of a stream out of the body of a request, which may be still sent. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_INPUT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_INPUT_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/*
 * Reads up to the end of a chunk: NGX_OK: it is in st->message; NGX_AGAIN: the
 * client has not sent it; NGX_DONE: the body has ended; NGX_ERROR: st->err is
 * set; or an HTTP status, with which the request is to be finalized.
 */
ngx_int_t ngx_http_webtorch_stream_read(ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_INPUT_H_INCLUDED_ */
