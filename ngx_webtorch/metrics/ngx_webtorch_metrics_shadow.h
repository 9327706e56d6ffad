
/*
 * What is counted of a shadow: a function that computes copies of another
 * one's requests.  All functions are called in the event loop.
 */


#ifndef _NGX_WEBTORCH_METRICS_SHADOW_H_INCLUDED_
#define _NGX_WEBTORCH_METRICS_SHADOW_H_INCLUDED_


#include "ngx_webtorch_metrics.h"


/* how a copy ends; each one ends in one way */

typedef enum {
    NGX_WEBTORCH_SHADOW_AGREED = 0,
    NGX_WEBTORCH_SHADOW_DIFFERED,
    NGX_WEBTORCH_SHADOW_FAILED,           /* the shadow did, or took too long */
    NGX_WEBTORCH_SHADOW_DROPPED,          /* there is nothing to compare */
    NGX_WEBTORCH_SHADOW_OUTCOMES
} ngx_webtorch_shadow_outcome_e;


/* in the order of the cells */

struct ngx_webtorch_shadow_metrics_s {
    uint64_t                        outcomes[NGX_WEBTORCH_SHADOW_OUTCOMES];
    ngx_webtorch_metrics_seconds_t  seconds;     /* of calls, once for each
                                                    copy */
};


#define NGX_WEBTORCH_SHADOW_CELLS                                             \
    (sizeof(ngx_webtorch_shadow_metrics_t) / sizeof(uint64_t))


/* sets handler->series and handler->shadow_metrics of a shadow */
void ngx_webtorch_metrics_shadow_init(ngx_webtorch_handler_t *handler,
    ngx_log_t *log);

void ngx_webtorch_metrics_shadow_end(ngx_webtorch_handler_t *handler,
    ngx_webtorch_shadow_outcome_e outcome);


/* the names of outcomes */
extern const char  *ngx_webtorch_shadow_outcomes[];


#endif /* _NGX_WEBTORCH_METRICS_SHADOW_H_INCLUDED_ */
