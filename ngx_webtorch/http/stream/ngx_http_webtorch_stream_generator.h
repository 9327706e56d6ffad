
/* The content handler of locations whose handler is a generator of requests. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_GENERATOR_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_GENERATOR_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


ngx_int_t ngx_http_webtorch_stream_generator_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_GENERATOR_H_INCLUDED_ */
