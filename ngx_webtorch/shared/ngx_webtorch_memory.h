
/* webtorch_worker_memory */


#ifndef _NGX_WEBTORCH_MEMORY_H_INCLUDED_
#define _NGX_WEBTORCH_MEMORY_H_INCLUDED_


#include "ngx_webtorch.h"


/* called in a worker, before its event loop */
void ngx_webtorch_memory_init(ngx_webtorch_conf_t *conf, ngx_log_t *log);


#endif /* _NGX_WEBTORCH_MEMORY_H_INCLUDED_ */
