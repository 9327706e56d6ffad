
/*
 * A metric's head and its samples, in one of the two formats of text.
 */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_FAMILY_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_FAMILY_H_INCLUDED_


#include "ngx_http_webtorch_status_text.h"


/* bytes of a label's name, quotes and a value with escapes */
#define NGX_HTTP_WEBTORCH_LABELS  (2 * NGX_WEBTORCH_METRICS_KEY + 256)


typedef struct {
    ngx_http_webtorch_status_writer_t        *w;
    ngx_http_webtorch_snapshot_t             *snapshot;
    const ngx_http_webtorch_status_wanted_t  *wanted;
    ngx_str_t                                 name;     /* of the samples */
} ngx_http_webtorch_family_t;


/*
 * Begins a metric; type: "counter", "gauge" or "histogram", the name of a
 * counter ends with "_total"; unit: "seconds", "bytes" or NULL.  Returns 0 if
 * it is not wanted.
 */
ngx_uint_t ngx_http_webtorch_family(ngx_http_webtorch_family_t *f,
    const char *name, const char *type, const char *unit, const char *help);
ngx_uint_t ngx_http_webtorch_family_custom(ngx_http_webtorch_family_t *f,
    ngx_http_webtorch_status_item_t *item);

/* a sample; labels: as they are written, without braces, or empty */
void ngx_http_webtorch_sample(ngx_http_webtorch_family_t *f, ngx_str_t *labels,
    uint64_t n);
void ngx_http_webtorch_sample_seconds(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, uint64_t usec);
void ngx_http_webtorch_sample_number(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, double n);

/* all samples of a histogram */
void ngx_http_webtorch_sample_histogram(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, const ngx_webtorch_metrics_seconds_t *seconds);
void ngx_http_webtorch_sample_rows(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, const uint64_t *rows, uint64_t sum);
void ngx_http_webtorch_sample_bounds(ngx_http_webtorch_family_t *f,
    ngx_str_t *labels, ngx_http_webtorch_status_item_t *item);

/* writes a label into a buffer of NGX_HTTP_WEBTORCH_LABELS bytes */
ngx_str_t *ngx_http_webtorch_label(ngx_str_t *labels, u_char *buf,
    const char *name, ngx_str_t *value);


extern ngx_str_t  ngx_http_webtorch_status_no_labels;


#endif /* _NGX_HTTP_WEBTORCH_STATUS_FAMILY_H_INCLUDED_ */
