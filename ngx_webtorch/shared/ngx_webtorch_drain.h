
/*
 * A drain: readiness fails in all workers while requests are served.  It holds
 * for reloads, and ends with the master.  The functions that begin and end it
 * are in ngx_webtorch_api.h.
 */


#ifndef _NGX_WEBTORCH_DRAIN_H_INCLUDED_
#define _NGX_WEBTORCH_DRAIN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"


/* once in the master, which shares the memory with all workers */
void ngx_webtorch_drain_init(ngx_log_t *log);


#endif /* _NGX_WEBTORCH_DRAIN_H_INCLUDED_ */
