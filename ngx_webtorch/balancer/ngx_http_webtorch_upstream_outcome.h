
/* What the end of a request says about its server. */


#ifndef _NGX_HTTP_WEBTORCH_UPSTREAM_OUTCOME_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_UPSTREAM_OUTCOME_H_INCLUDED_


#include "ngx_http_webtorch_upstream_peer.h"


/* state: that of the free handler of peers */
ngx_webtorch_balance_outcome_e ngx_http_webtorch_upstream_outcome(
    ngx_http_webtorch_upstream_peer_t *wp, ngx_peer_connection_t *pc,
    ngx_uint_t state);


#endif /* _NGX_HTTP_WEBTORCH_UPSTREAM_OUTCOME_H_INCLUDED_ */
