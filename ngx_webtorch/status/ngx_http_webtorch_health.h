
/*
 * The locations "webtorch_health live" and "webtorch_health ready", which
 * answer 200 or 503 to what probes a server.
 */


#ifndef _NGX_HTTP_WEBTORCH_HEALTH_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_HEALTH_H_INCLUDED_


#include <ngx_http.h>


char *ngx_http_webtorch_conf_health(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_WEBTORCH_HEALTH_H_INCLUDED_ */
