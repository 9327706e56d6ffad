
/*
 * Servers that operators eject and return.  An order is in the memory of the
 * balancer, so that all workers follow it at once, and those of the next
 * configuration, too.  Which of the servers in the memory the configuration
 * has is known to each worker by itself.
 */


#ifndef _NGX_WEBTORCH_BALANCER_ORDER_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCER_ORDER_H_INCLUDED_


#include "ngx_webtorch_balancer.h"


/*
 * Under the mutex of the memory: no server is in the group any more, one is.
 * backup: the group of backup servers; down: the configuration says so.
 */
void ngx_webtorch_balancer_order_clear(ngx_webtorch_balancer_t *balancer,
    ngx_uint_t backup);
void ngx_webtorch_balancer_order_add(ngx_webtorch_balancer_t *balancer,
    uint32_t server, ngx_uint_t backup, ngx_uint_t down);


#endif /* _NGX_WEBTORCH_BALANCER_ORDER_H_INCLUDED_ */
