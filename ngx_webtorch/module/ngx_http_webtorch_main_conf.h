
/* Directives of the level http: interpreter, zone. */


#ifndef _NGX_HTTP_WEBTORCH_MAIN_CONF_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_MAIN_CONF_H_INCLUDED_


#include "ngx_webtorch.h"


/* a name is relative to the configuration file, like those of "include" */
char *ngx_http_webtorch_conf_full_name(ngx_conf_t *cf, void *post, void *data);

char *ngx_http_webtorch_conf_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_webtorch_conf_preload(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_webtorch_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_WEBTORCH_MAIN_CONF_H_INCLUDED_ */
