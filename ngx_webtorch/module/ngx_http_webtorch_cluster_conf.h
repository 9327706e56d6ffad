
/* The directive webtorch_cluster: one model over many hosts. */


#ifndef _NGX_HTTP_WEBTORCH_CLUSTER_CONF_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CLUSTER_CONF_H_INCLUDED_


#include "ngx_webtorch.h"


/* a secret's name is relative to the configuration file */
char *ngx_http_webtorch_conf_cluster(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_WEBTORCH_CLUSTER_CONF_H_INCLUDED_ */
