
#ifndef _NGX_WEBTORCH_BALANCE_SERVICE_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_SERVICE_H_INCLUDED_


#include "ngx_webtorch_balance.h"


/* the concurrency of a new server, until it is learned */
#define NGX_WEBTORCH_BALANCE_CONCURRENCY  4.0f


/* adds the latency of a request that succeeded, in seconds */
void ngx_webtorch_balance_service_add(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency, uint64_t now);

/* updates the estimates that picks read */
void ngx_webtorch_balance_service_refresh(ngx_webtorch_balance_t *b);


#endif /* _NGX_WEBTORCH_BALANCE_SERVICE_H_INCLUDED_ */
