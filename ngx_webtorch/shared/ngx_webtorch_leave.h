
/* A worker leaves, and the master starts another one in its place. */


#ifndef _NGX_WEBTORCH_LEAVE_H_INCLUDED_
#define _NGX_WEBTORCH_LEAVE_H_INCLUDED_


#include "ngx_webtorch_zone.h"


/*
 * Makes this worker exit gracefully: at once if others accept connections
 * meanwhile, otherwise at a moment when few clients have to wait for the next
 * worker.  Called once in a worker, in the event loop.
 */
void ngx_webtorch_leave(ngx_log_t *log);

/* makes this worker exit gracefully without waiting */
void ngx_webtorch_leave_now(void);

/*
 * ms after which it closes the connections of its clients when it leaves, as
 * others wait for the next worker; worker_shutdown_timeout may be shorter
 */
void ngx_webtorch_leave_limit(ngx_msec_t time);

/* whether it exits for one of the above, and not as the master has ordered */
ngx_uint_t ngx_webtorch_leave_begun(void);

/* whether clients are connected to it */
ngx_uint_t ngx_webtorch_leave_has_clients(void);


#endif /* _NGX_WEBTORCH_LEAVE_H_INCLUDED_ */
