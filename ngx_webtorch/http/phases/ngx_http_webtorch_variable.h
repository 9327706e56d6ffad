
/* webtorch_set: variables that models compute. */


#ifndef _NGX_HTTP_WEBTORCH_VARIABLE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_VARIABLE_H_INCLUDED_


#include "ngx_http_webtorch_phases.h"


/* the directive */
char *ngx_http_webtorch_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

ngx_int_t ngx_http_webtorch_set_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_VARIABLE_H_INCLUDED_ */
