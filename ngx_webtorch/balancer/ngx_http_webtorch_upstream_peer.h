
/* Peers of an upstream with "webtorch_balancer": init, get, free. */


#ifndef _NGX_HTTP_WEBTORCH_UPSTREAM_PEER_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_UPSTREAM_PEER_H_INCLUDED_


#include "ngx_http_webtorch_upstream.h"


/* a request's tries */

typedef struct {
    /* the round robin data must be first */
    ngx_http_upstream_rr_peer_data_t    rrp;

    ngx_http_webtorch_upstream_conf_t  *conf;
    ngx_http_request_t                 *request;
    ngx_webtorch_balance_request_t      balance;

    /* while it is in flight */
    ngx_queue_t                         queue;     /* balancer->requests */
    ngx_uint_t                          watches;   /* the last one */
    off_t                               bytes;     /* both ways, until then */

    ngx_uint_t                          servers;   /* that may be tried */

    unsigned                            backup:1;    /* group */
    unsigned                            known:1;     /* cost and reason */
    unsigned                            inflight:1;
} ngx_http_webtorch_upstream_peer_t;


/* that of the request's last upstream; NULL: it had none with the balancer */
ngx_http_webtorch_upstream_peer_t *ngx_http_webtorch_upstream_get_ctx(
    ngx_http_request_t *r);

/* the names of ngx_webtorch_balance_reason_e */
extern ngx_str_t  ngx_http_webtorch_upstream_reasons[];


/* init_upstream of the load balancing method */
ngx_int_t ngx_http_webtorch_upstream_init(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);


#endif /* _NGX_HTTP_WEBTORCH_UPSTREAM_PEER_H_INCLUDED_ */
