
/* Directives of locations: the handlers of their requests. */


#ifndef _NGX_HTTP_WEBTORCH_LOC_CONF_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_LOC_CONF_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


void *ngx_http_webtorch_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_webtorch_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

char *ngx_http_webtorch_conf_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_webtorch_conf_device(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_webtorch_conf_control(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_webtorch_conf_slow(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_webtorch_conf_openapi(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_webtorch_conf_protocol(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_WEBTORCH_LOC_CONF_H_INCLUDED_ */
