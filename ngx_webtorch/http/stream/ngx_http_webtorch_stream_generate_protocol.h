
/* Generate functions in the inference protocol, as Triton's extension. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_GENERATE_PROTOCOL_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_GENERATE_PROTOCOL_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_endpoint.h"


/* see ngx_http_webtorch_protocol_generate; the request has a context */
ngx_int_t ngx_http_webtorch_stream_generate_protocol(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_uint_t events);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_GENERATE_PROTOCOL_H_INCLUDED_ */
