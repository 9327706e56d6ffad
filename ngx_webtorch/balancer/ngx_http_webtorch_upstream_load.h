
/* The load that a server reports in an answer, as "webtorch_load_report" does. */


#ifndef _NGX_HTTP_WEBTORCH_UPSTREAM_LOAD_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_UPSTREAM_LOAD_H_INCLUDED_


#include <ngx_http.h>


/* how many requests wait there; NGX_DECLINED: the answer does not say */
ngx_int_t ngx_http_webtorch_upstream_waiting(ngx_http_upstream_t *u,
    float *waiting);


#endif /* _NGX_HTTP_WEBTORCH_UPSTREAM_LOAD_H_INCLUDED_ */
