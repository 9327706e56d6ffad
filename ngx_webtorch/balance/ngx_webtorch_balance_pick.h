
#ifndef _NGX_WEBTORCH_BALANCE_PICK_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_PICK_H_INCLUDED_


#include "ngx_webtorch_balance.h"


/* a server that the request may be sent to */

typedef struct {
    uint32_t   server;                  /* its number */
    float      scale;                   /* factor of its cost: 1 / weight */
    uint32_t   max_fails;               /* 0: it is never ejected */
    float      fail_timeout;            /* between probes at most, seconds */
} ngx_webtorch_balance_candidate_t;


/* returns an index of the candidates; n is at least 1 */
uint32_t ngx_webtorch_balance_pick(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_candidate_t *candidates, uint32_t n,
    ngx_webtorch_balance_request_t *req, uint64_t now);

#endif /* _NGX_WEBTORCH_BALANCE_PICK_H_INCLUDED_ */
