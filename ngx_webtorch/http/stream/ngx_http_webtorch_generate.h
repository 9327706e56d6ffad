
/* The content handler of locations whose handler generates. */


#ifndef _NGX_HTTP_WEBTORCH_GENERATE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_GENERATE_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


ngx_int_t ngx_http_webtorch_generate_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_GENERATE_H_INCLUDED_ */
