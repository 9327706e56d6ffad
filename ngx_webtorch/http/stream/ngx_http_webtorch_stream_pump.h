
/* The life of a stream over HTTP: open, chunk, answer, the next chunk, end. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_PUMP_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_PUMP_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/* the content handler of locations whose handler is one of streams */
ngx_int_t ngx_http_webtorch_stream_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_PUMP_H_INCLUDED_ */
