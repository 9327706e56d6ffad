
/* What the end of a request says about its server. */


#ifndef _NGX_HTTP_WEBTORCH_UPSTREAM_OUTCOME_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_UPSTREAM_OUTCOME_H_INCLUDED_


#include "ngx_http_webtorch_upstream_peer.h"


/*
 * Sets the end of the server's part, if that is before the end of the request:
 * the time that a client or a tunnel takes is not the server's.
 */
void ngx_http_webtorch_upstream_set_answered(
    ngx_http_webtorch_upstream_peer_t *wp, uint64_t now);

/*
 * Whether the answer is no success: its status is other than 2xx, 101 and 304,
 * or its grpc-status is not 0.
 */
ngx_uint_t ngx_http_webtorch_upstream_is_refused(ngx_http_upstream_t *u);

/* the value of a header, in any case, the first of several; NULL: none */
ngx_str_t *ngx_http_webtorch_upstream_find_header(ngx_list_t *headers,
    const char *name);

/* outcome of a request whose response header has been received */
ngx_webtorch_balance_outcome_e ngx_http_webtorch_upstream_header_outcome(
    ngx_http_webtorch_upstream_peer_t *wp);

/* state: that of the free handler of peers */
ngx_webtorch_balance_outcome_e ngx_http_webtorch_upstream_outcome(
    ngx_http_webtorch_upstream_peer_t *wp, ngx_peer_connection_t *pc,
    ngx_uint_t state);


/* whether the header of the server's answer has come */

static inline ngx_uint_t
ngx_http_webtorch_upstream_has_header(ngx_http_upstream_t *u)
{
    return u->state && u->state->header_time != (ngx_msec_t) -1;
}


/* whether data is passed to the client as it comes, until an end of any kind */

static inline ngx_uint_t
ngx_http_webtorch_upstream_is_stream(ngx_http_upstream_t *u)
{
    return u->upgrade || !u->buffering;
}


#endif /* _NGX_HTTP_WEBTORCH_UPSTREAM_OUTCOME_H_INCLUDED_ */
