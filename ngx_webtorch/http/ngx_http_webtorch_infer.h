
/* Inference of the Open Inference Protocol: JSON, and tensors as bytes. */


#ifndef _NGX_HTTP_WEBTORCH_INFER_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_INFER_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_endpoint.h"


/* the request must have a context; returns what its handler returns */
ngx_int_t ngx_http_webtorch_infer(ngx_http_request_t *r,
    ngx_webtorch_endpoint_t *endpoint);


#endif /* _NGX_HTTP_WEBTORCH_INFER_H_INCLUDED_ */
