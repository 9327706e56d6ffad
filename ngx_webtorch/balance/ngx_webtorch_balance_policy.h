
#ifndef _NGX_WEBTORCH_BALANCE_POLICY_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_POLICY_H_INCLUDED_


#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_balance_outcome.h"


/* replaces the parameters; -1: they are not finite, and are refused */
int ngx_webtorch_balance_publish(ngx_webtorch_balance_t *b,
    const webtorch_params_t *params, uint64_t now);

/* returns 1 if the parameters are recent enough to be used */
int ngx_webtorch_balance_learned(const ngx_webtorch_balance_t *b,
    uint64_t now);

/* the correction of a cost, log2 */
float ngx_webtorch_balance_correction(const webtorch_params_t *params,
    const float *features);

/* adds a finished request */
void ngx_webtorch_balance_sample_add(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency);

/*
 * Copies up to n samples from number *next on, and advances that; returns
 * their number.  Samples that were overwritten are skipped.
 */
uint32_t ngx_webtorch_balance_samples(const ngx_webtorch_balance_t *b,
    uint64_t *next, webtorch_sample_t *samples, uint32_t n);


#endif /* _NGX_WEBTORCH_BALANCE_POLICY_H_INCLUDED_ */
