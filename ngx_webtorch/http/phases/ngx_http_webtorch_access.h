
/* webtorch_access: a model allows or denies requests. */


#ifndef _NGX_HTTP_WEBTORCH_ACCESS_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_ACCESS_H_INCLUDED_


#include "ngx_http_webtorch_phases.h"


/* the directive */
char *ngx_http_webtorch_access(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

ngx_int_t ngx_http_webtorch_access_handler(ngx_http_request_t *r);

/* in the precontent phase: the request has passed the access phase */
ngx_int_t ngx_http_webtorch_access_passed(ngx_http_request_t *r);

/* data 0: the verdict, 1: the score */
ngx_int_t ngx_http_webtorch_access_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

/* data: the offset of a string in the reason of a denial */
ngx_int_t ngx_http_webtorch_access_reason_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


#endif /* _NGX_HTTP_WEBTORCH_ACCESS_H_INCLUDED_ */
