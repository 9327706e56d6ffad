
/*
 * A handler of the worker's timer: updates requests that last for long.  nginx
 * has no hook of the load balancing method between the pick and the end.
 */


#ifndef _NGX_HTTP_WEBTORCH_UPSTREAM_WATCH_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_UPSTREAM_WATCH_H_INCLUDED_


#include "ngx_webtorch_balancer.h"


void ngx_http_webtorch_upstream_watch(ngx_webtorch_balancer_t *balancer);


#endif /* _NGX_HTTP_WEBTORCH_UPSTREAM_WATCH_H_INCLUDED_ */
