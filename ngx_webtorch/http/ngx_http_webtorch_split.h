
#ifndef _NGX_HTTP_WEBTORCH_SPLIT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_SPLIT_H_INCLUDED_


#include "ngx_http_webtorch.h"


char *ngx_http_webtorch_conf_split(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* adds the handler of the log phase, if there are splits */
ngx_int_t ngx_http_webtorch_split_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_WEBTORCH_SPLIT_H_INCLUDED_ */
