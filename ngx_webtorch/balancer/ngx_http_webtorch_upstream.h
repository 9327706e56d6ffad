
/* The settings of an upstream with "webtorch_balancer". */


#ifndef _NGX_HTTP_WEBTORCH_UPSTREAM_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_UPSTREAM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_webtorch_balancer.h"


typedef struct ngx_http_webtorch_upstream_group_s
    ngx_http_webtorch_upstream_group_t;


/* the statuses that "fail_status" can name, as those of "error_page" */
#define NGX_HTTP_WEBTORCH_UPSTREAM_MIN_STATUS  300
#define NGX_HTTP_WEBTORCH_UPSTREAM_MAX_STATUS  599
#define NGX_HTTP_WEBTORCH_UPSTREAM_STATUSES                                   \
    (NGX_HTTP_WEBTORCH_UPSTREAM_MAX_STATUS                                    \
     - NGX_HTTP_WEBTORCH_UPSTREAM_MIN_STATUS + 1)


typedef struct {
    ngx_webtorch_balancer_t             *balancer;
    ngx_http_upstream_srv_conf_t        *upstream;
    ngx_int_t                            key;     /* index of a variable */
    ngx_http_webtorch_upstream_group_t  *groups;  /* servers, backup ones */

    /* whether an answer of this status is a failure; from MIN_STATUS on */
    u_char                               failures
                                        [NGX_HTTP_WEBTORCH_UPSTREAM_STATUSES];
    unsigned                             fail_status:1;  /* it was given */
} ngx_http_webtorch_upstream_conf_t;


extern ngx_module_t  ngx_http_webtorch_upstream_module;


#endif /* _NGX_HTTP_WEBTORCH_UPSTREAM_H_INCLUDED_ */
