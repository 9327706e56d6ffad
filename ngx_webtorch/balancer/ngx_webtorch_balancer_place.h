
/*
 * Places of processes in a balancer's memory.  A place counts what its process
 * has in flight, so that it can be taken back when the process exits, in
 * whatever way.  It has a robust mutex that the main thread of the process
 * holds: whether it is held does not depend on pids, which are used again.
 */


#ifndef _NGX_WEBTORCH_BALANCER_PLACE_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCER_PLACE_H_INCLUDED_


#include "ngx_webtorch_balancer.h"


/* once, in new memory */
void ngx_webtorch_balancer_place_init(ngx_webtorch_balancer_memory_t *memory);

/*
 * Gets a place for this process.  When there is none it uses the last one,
 * which is shared, and a warning is logged.
 */
void ngx_webtorch_balancer_place_get(ngx_webtorch_balancer_t *balancer,
    ngx_log_t *log);

/* releases the place of this process; it does not learn any more */
void ngx_webtorch_balancer_place_release(ngx_webtorch_balancer_t *balancer);

/* releases the places of processes that have exited without doing so */
void ngx_webtorch_balancer_place_reap(ngx_webtorch_balancer_t *balancer);

/* whether this process is the one that learns; under the memory's mutex */
ngx_uint_t ngx_webtorch_balancer_place_learns(
    ngx_webtorch_balancer_t *balancer);


#endif /* _NGX_WEBTORCH_BALANCER_PLACE_H_INCLUDED_ */
