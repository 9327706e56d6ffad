
/*
 * module: nginx's modules.  They read the configuration and start and stop all
 * others in nginx's processes.  The folder includes headers of all others but
 * http/phases/, which is a module of its own; nothing includes its headers.
 */


#ifndef _NGX_WEBTORCH_CHECK_H_INCLUDED_
#define _NGX_WEBTORCH_CHECK_H_INCLUDED_


#include "ngx_webtorch.h"


/*
 * While the configuration is read: imports the handlers in a child process and
 * sets their schemas; an error is logged.
 */
ngx_int_t ngx_webtorch_check(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf);


#endif /* _NGX_WEBTORCH_CHECK_H_INCLUDED_ */
