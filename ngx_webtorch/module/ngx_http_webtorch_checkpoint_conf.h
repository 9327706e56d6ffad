
/* The directive webtorch_checkpoint. */


#ifndef _NGX_HTTP_WEBTORCH_CHECKPOINT_CONF_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CHECKPOINT_CONF_H_INCLUDED_


#include "ngx_webtorch.h"


char *ngx_http_webtorch_conf_checkpoint(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_WEBTORCH_CHECKPOINT_CONF_H_INCLUDED_ */
