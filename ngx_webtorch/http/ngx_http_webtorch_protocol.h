
/*
 * webtorch_inference_protocol: the addresses of the Open Inference Protocol.
 */


#ifndef _NGX_HTTP_WEBTORCH_PROTOCOL_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_PROTOCOL_H_INCLUDED_


#include <ngx_http.h>


ngx_int_t ngx_http_webtorch_protocol_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_PROTOCOL_H_INCLUDED_ */
