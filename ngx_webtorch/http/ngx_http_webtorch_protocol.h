
/*
 * webtorch_inference_protocol: the addresses of the Open Inference Protocol.
 */


#ifndef _NGX_HTTP_WEBTORCH_PROTOCOL_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_PROTOCOL_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_endpoint.h"


typedef ngx_int_t (*ngx_http_webtorch_generate_pt)(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint, ngx_uint_t events);


ngx_int_t ngx_http_webtorch_protocol_handler(ngx_http_request_t *r);


/*
 * Serves a generate function, with all outputs at the end, or each one as an
 * event.  Set by http/stream before a function that generates is a model.
 */
extern ngx_http_webtorch_generate_pt  ngx_http_webtorch_protocol_generate;


#endif /* _NGX_HTTP_WEBTORCH_PROTOCOL_H_INCLUDED_ */
