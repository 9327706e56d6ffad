
/*
 * A snapshot in Prometheus' format of text, or in that of OpenMetrics.
 */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_TEXT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_TEXT_H_INCLUDED_


#include "ngx_http_webtorch_status_snapshot.h"
#include "ngx_http_webtorch_status_writer.h"


/* bits of ?scope= */
#define NGX_HTTP_WEBTORCH_STATUS_SERVER     0x01
#define NGX_HTTP_WEBTORCH_STATUS_WORKERS    0x02
#define NGX_HTTP_WEBTORCH_STATUS_HANDLERS   0x04
#define NGX_HTTP_WEBTORCH_STATUS_MODELS     0x08
#define NGX_HTTP_WEBTORCH_STATUS_BALANCERS  0x10
#define NGX_HTTP_WEBTORCH_STATUS_STAGES     0x20
#define NGX_HTTP_WEBTORCH_STATUS_CUSTOM     0x40
#define NGX_HTTP_WEBTORCH_STATUS_ALL        0x7f


/* values of ?names= */
#define NGX_HTTP_WEBTORCH_STATUS_TRITON     1
#define NGX_HTTP_WEBTORCH_STATUS_VLLM       2


typedef struct {
    ngx_uint_t                          scopes;
    ngx_str_t                           metrics;    /* ?metrics=; empty: all */
    ngx_uint_t                          openmetrics;
    ngx_uint_t                          names;      /* of another server */
} ngx_http_webtorch_status_wanted_t;


void ngx_http_webtorch_status_text(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *snapshot,
    const ngx_http_webtorch_status_wanted_t *wanted);


/* reasons in the order of ngx_webtorch_refused_e */
extern const char  *ngx_http_webtorch_status_refused[];

/* bounds of the histograms of seconds and of rows; the last is +Inf */
extern const char  *ngx_http_webtorch_status_seconds_le[];
extern const char  *ngx_http_webtorch_status_rows_le[];


#endif /* _NGX_HTTP_WEBTORCH_STATUS_TEXT_H_INCLUDED_ */
