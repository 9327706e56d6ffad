
/* webtorch_log: models learn from finished requests. */


#ifndef _NGX_HTTP_WEBTORCH_LOG_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_LOG_H_INCLUDED_


#include "ngx_http_webtorch_phases.h"


/* the directive */
char *ngx_http_webtorch_log(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

ngx_int_t ngx_http_webtorch_log_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_LOG_H_INCLUDED_ */
