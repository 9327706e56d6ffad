
/* Metrics of the whole and of each worker. */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_WORKERS_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_WORKERS_H_INCLUDED_


#include "ngx_http_webtorch_status_family.h"


void ngx_http_webtorch_status_server(ngx_http_webtorch_family_t *f);
void ngx_http_webtorch_status_workers(ngx_http_webtorch_family_t *f);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_WORKERS_H_INCLUDED_ */
