
/* $webtorch_upstream_score and $webtorch_upstream_reason. */


#ifndef _NGX_HTTP_WEBTORCH_UPSTREAM_VARIABLE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_UPSTREAM_VARIABLE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


ngx_int_t ngx_http_webtorch_upstream_add_variables(ngx_conf_t *cf);


#endif /* _NGX_HTTP_WEBTORCH_UPSTREAM_VARIABLE_H_INCLUDED_ */
