
/* Variables for logs: handler, times, call, error and models of a request. */


#ifndef _NGX_HTTP_WEBTORCH_VARIABLES_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_VARIABLES_H_INCLUDED_


#include <ngx_http.h>


ngx_int_t ngx_http_webtorch_variables_add(ngx_conf_t *cf);

/* when the configuration has been read: notes which of them are used */
ngx_int_t ngx_http_webtorch_variables_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_WEBTORCH_VARIABLES_H_INCLUDED_ */
