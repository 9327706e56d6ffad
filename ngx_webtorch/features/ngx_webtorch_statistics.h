
#ifndef _NGX_WEBTORCH_STATISTICS_H_INCLUDED_
#define _NGX_WEBTORCH_STATISTICS_H_INCLUDED_


#include "ngx_webtorch_text.h"

#include <math.h>


#define NGX_WEBTORCH_KINDS          16    /* kinds of targets */

/* milliseconds in which a client is new, and after which it is not active */
#define NGX_WEBTORCH_CLIENT_ACTIVE  60000


/* an arriving request, for the statistics of its client and the site */

typedef struct {
    uint32_t             url;             /* hash */
    uint32_t             kind;
    unsigned             query:1;
    unsigned             asset:1;
    unsigned             body:1;
    unsigned             cookie:1;
} ngx_webtorch_arrival_t;


/* times are milliseconds of a clock that all processes share */

typedef struct {
    uint64_t             first;
    uint64_t             last;
    uint64_t             urls;            /* bits, in this window */
    uint64_t             old_urls;        /* in the window before */
    uint32_t             requests;
    uint16_t             window;          /* requests in this window */
    uint16_t             old_window;
    float                rate_fast;       /* requests per second */
    float                rate_slow;
    float                gap;             /* values of columns from here on */
    float                gap_mean;
    float                gap_deviation;
    float                queries;
    float                assets;
    float                errors;
    float                failures;
    float                bodies;
    float                cookies;
    uint32_t             answers;
    float                kinds[NGX_WEBTORCH_KINDS];
} ngx_webtorch_client_t;


typedef struct {
    uint64_t             last;
    uint64_t             requests;
    uint64_t             answers;
    uint32_t             clients;         /* active ones */
    float                rate_fast;
    float                rate_slow;
    float                news;
    float                errors;
    float                failures;
    uint64_t             served;          /* answers of the site itself */
    float                time;
    float                denied;
    unsigned             upstream:1;      /* answers come from upstreams */
} ngx_webtorch_site_t;


typedef struct {
    uint32_t             status;
    uint64_t             time;            /* milliseconds */
    uint64_t             sent;            /* bytes */
    uint64_t             upstream_time;   /* milliseconds */
    uint64_t             header_time;     /* the same, until their headers */
    float                score;
    unsigned             upstream:1;
    unsigned             denied:1;
    unsigned             scored:1;
    unsigned             dry_run:1;
} ngx_webtorch_outcome_t;


/* sets url, kind, query and asset by the target in the parts of the text */
void ngx_webtorch_arrival_target(ngx_webtorch_arrival_t *arrival,
    const ngx_webtorch_text_features_t *text);

/* a new client is all zeros */
void ngx_webtorch_client_arrive(ngx_webtorch_client_t *client, uint64_t now,
    const ngx_webtorch_arrival_t *arrival);
void ngx_webtorch_client_finish(ngx_webtorch_client_t *client,
    const ngx_webtorch_outcome_t *outcome);

/* client: after ngx_webtorch_client_arrive() */
void ngx_webtorch_site_arrive(ngx_webtorch_site_t *site, uint64_t now,
    const ngx_webtorch_client_t *client);
void ngx_webtorch_site_finish(ngx_webtorch_site_t *site,
    const ngx_webtorch_outcome_t *outcome);

/* an estimate of distinct targets, and the requests that they are from */
double ngx_webtorch_client_urls(const ngx_webtorch_client_t *client);
uint32_t ngx_webtorch_client_url_requests(const ngx_webtorch_client_t *client);


/* ln(1 + n), the scale of counts and times in columns */

static inline float
ngx_webtorch_ln(double n)
{
    return (n > 0) ? (float) log1p(n) : 0;
}


#endif /* _NGX_WEBTORCH_STATISTICS_H_INCLUDED_ */
