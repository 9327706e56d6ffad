
/*
 * What all workers have counted, as one answer says it.
 */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_SNAPSHOT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_SNAPSHOT_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_balancer.h"
#include "ngx_webtorch_metrics_custom.h"
#include "ngx_webtorch_metrics_handler.h"


/* a handler, a model or a stage */

typedef struct {
    ngx_webtorch_series_t           *series;
    ngx_webtorch_handler_t          *handler;    /* or NULL */
    ngx_str_t                        name;
    ngx_str_t                        labels;     /* others than its name, as
                                                    they are written */
    ngx_str_t                        label;      /* app:f, with escapes and
                                                    labels, without quotes */
    uint64_t                        *cells;      /* of all workers */
} ngx_http_webtorch_status_item_t;


typedef struct {
    ngx_uint_t                       slot;
    ngx_uint_t                       alive;
    ngx_webtorch_metrics_worker_t    worker;     /* a copy */
} ngx_http_webtorch_status_worker_t;


typedef struct {
    ngx_str_t                        name;
    webtorch_server_t                server;
    ngx_uint_t                       out;        /* ejected by an operator */
    uint64_t                         picks;
    uint64_t                         ejections;
} ngx_http_webtorch_status_server_t;


typedef struct {
    ngx_webtorch_balancer_t         *balancer;
    ngx_array_t                      servers;    /* of ..._status_server_t */
    float                            loss;       /* of the learner */
    float                            baseline;
    ngx_uint_t                       learned;    /* the two above are known */
} ngx_http_webtorch_status_balancer_t;


typedef struct {
    ngx_webtorch_conf_t             *conf;
    uint64_t                         now;        /* us of the clock */
    uint64_t                         time;       /* ms since 1970 */
    ngx_array_t                      handlers;   /* of ..._status_item_t */
    ngx_array_t                      shadows;
    ngx_array_t                      models;
    ngx_array_t                      stages;
    ngx_array_t                      custom;     /* by name */
    ngx_array_t                      workers;    /* of ..._status_worker_t */
    ngx_array_t                      balancers;  /* of ..._status_balancer_t */
    ngx_uint_t                       nalive;     /* workers */
    uint64_t                         crashes;
    uint64_t                         starts;
    ngx_webtorch_metrics_seconds_t   lag;
    uint64_t                         zone_size;  /* bytes; 0: no zone */
    uint64_t                         zone_used;
} ngx_http_webtorch_snapshot_t;


/* NGX_ERROR: no memory */
ngx_int_t ngx_http_webtorch_snapshot_take(ngx_http_request_t *r,
    ngx_http_webtorch_snapshot_t *snapshot);

/* workers and handlers alone; NGX_ERROR: no memory */
ngx_int_t ngx_http_webtorch_snapshot_take_handlers(ngx_http_request_t *r,
    ngx_http_webtorch_snapshot_t *snapshot);

/* a queue that is full, seconds since then; 0: it is not */
ngx_uint_t ngx_http_webtorch_snapshot_full(
    ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_status_item_t *item);

/* requests that wait, not those that run */
uint64_t ngx_http_webtorch_snapshot_waiting(
    ngx_http_webtorch_status_item_t *item);

/*
 * Answers of a handler with statuses from the first to the last one; with 0 as
 * the first also those of statuses that are not counted by themselves.
 */
uint64_t ngx_http_webtorch_snapshot_codes(
    ngx_http_webtorch_status_item_t *item, ngx_uint_t first, ngx_uint_t last);


/* ms since a time, which is in ms since 1970; 0: there is none */

static ngx_inline uint64_t
ngx_http_webtorch_snapshot_age(const ngx_http_webtorch_snapshot_t *snapshot,
    uint64_t since)
{
    return (since && snapshot->time > since) ? snapshot->time - since : 0;
}


#endif /* _NGX_HTTP_WEBTORCH_STATUS_SNAPSHOT_H_INCLUDED_ */
