
/* Secrets of webtorch_cluster. */


#ifndef _NGX_HTTP_WEBTORCH_CLUSTER_SECRET_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CLUSTER_SECRET_H_INCLUDED_


#include "ngx_webtorch.h"


/*
 * Reads the file of a secret, whose name is relative to the configuration file.
 * Returns NGX_CONF_OK, NGX_CONF_ERROR if the error was logged, or an error.
 */
char *ngx_http_webtorch_cluster_secret(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value);


#endif /* _NGX_HTTP_WEBTORCH_CLUSTER_SECRET_H_INCLUDED_ */
