
/*
 * What the Open Inference Protocol reports about the server and its models;
 * endpoint NULL: about all of them.
 */


#ifndef _NGX_HTTP_WEBTORCH_METADATA_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_METADATA_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_endpoint.h"


ngx_int_t ngx_http_webtorch_server_metadata(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
/* the same as about an endpoint, of the function of a location: for OPTIONS */
ngx_int_t ngx_http_webtorch_handler_metadata(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler);

ngx_int_t ngx_http_webtorch_model_metadata(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
ngx_int_t ngx_http_webtorch_model_config(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
ngx_int_t ngx_http_webtorch_model_stats(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);
ngx_int_t ngx_http_webtorch_model_index(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);


#endif /* _NGX_HTTP_WEBTORCH_METADATA_H_INCLUDED_ */
