
/*
 * The servers of an upstream with "webtorch_balancer": the number that each
 * peer has in the balancer's memory.
 */


#ifndef _NGX_HTTP_WEBTORCH_UPSTREAM_MAP_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_UPSTREAM_MAP_H_INCLUDED_


#include "ngx_http_webtorch_upstream.h"


/* a peer that may be picked */

typedef struct {
    ngx_http_upstream_rr_peer_t           *peer;
    ngx_uint_t                             index;     /* in all peers */
} ngx_http_webtorch_upstream_choice_t;


/* the servers, or the backup servers, as this process has seen them last */

struct ngx_http_webtorch_upstream_group_s {
    ngx_http_upstream_rr_peers_t          *peers;
    ngx_uint_t                             config;
    ngx_uint_t                             n;
    uint32_t                               generation;  /* of numbers */

    ngx_uint_t                             allocated;
    ngx_webtorch_balance_candidate_t      *servers;   /* of all peers */

    /* scratch space of one pick */
    ngx_webtorch_balance_candidate_t      *candidates;
    ngx_http_webtorch_upstream_choice_t   *choices;
};


/*
 * Finds the numbers of the peers' servers, if peers or numbers have changed
 * since the last call.  The peers are locked.
 */
ngx_int_t ngx_http_webtorch_upstream_map(
    ngx_http_webtorch_upstream_conf_t *conf,
    ngx_http_webtorch_upstream_group_t *group,
    ngx_http_upstream_rr_peers_t *peers);

/* both groups; in the timer of a worker, so that servers without requests are
   known, too */
void ngx_http_webtorch_upstream_map_all(
    ngx_http_webtorch_upstream_conf_t *conf);


#endif /* _NGX_HTTP_WEBTORCH_UPSTREAM_MAP_H_INCLUDED_ */
