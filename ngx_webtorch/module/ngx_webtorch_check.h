
#ifndef _NGX_WEBTORCH_CHECK_H_INCLUDED_
#define _NGX_WEBTORCH_CHECK_H_INCLUDED_


#include "ngx_webtorch.h"


/* imports the handlers in a child process, which reports their schemas */
ngx_int_t ngx_webtorch_check(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf);


#endif /* _NGX_WEBTORCH_CHECK_H_INCLUDED_ */
