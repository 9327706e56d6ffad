
/*
 * Exchange with the policy in Python: it reads samples of finished requests,
 * and publishes parameters that correct costs.
 */

#include "ngx_webtorch_balance_policy.h"
#include "ngx_webtorch_clock.h"

#include <math.h>
#include <string.h>


/* microseconds after which parameters are not used any more */
#define NGX_WEBTORCH_BALANCE_STALE           5000000

/* log2, in both directions */
#define NGX_WEBTORCH_BALANCE_MAX_CORRECTION  2.0f


int
ngx_webtorch_balance_publish(ngx_webtorch_balance_t *b,
    const webtorch_params_t *params, uint64_t now)
{
    float     sum;
    uint32_t  i, j;

    if (params->hidden > WEBTORCH_HIDDEN) {
        return -1;
    }

    sum = params->bias;

    for (i = 0; i < WEBTORCH_FEATURES; i++) {
        sum += params->linear[i];
    }

    for (j = 0; j < params->hidden; j++) {
        sum += params->biases[j] + params->output[j];

        for (i = 0; i < WEBTORCH_FEATURES; i++) {
            sum += params->weights[j][i];
        }
    }

    if (!isfinite(sum)) {
        return -1;
    }

    /* the old ones are still in use if this process exits meanwhile */

    b->params[(b->version + 1) & 1] = *params;
    b->version++;
    b->published = now;

    return 0;
}


int
ngx_webtorch_balance_learned(const ngx_webtorch_balance_t *b, uint64_t now)
{
    return b->version
           && ngx_webtorch_elapsed_usec(now, b->published)
              < NGX_WEBTORCH_BALANCE_STALE;
}


float
ngx_webtorch_balance_correction(const webtorch_params_t *params,
    const float *features)
{
    float     x, h;
    uint32_t  i, j;

    x = params->bias;

    for (i = 0; i < WEBTORCH_FEATURES; i++) {
        x += params->linear[i] * features[i];
    }

    for (j = 0; j < params->hidden; j++) {
        h = params->biases[j];

        for (i = 0; i < WEBTORCH_FEATURES; i++) {
            h += params->weights[j][i] * features[i];
        }

        x += h > 0 ? params->output[j] * h : 0.0f;
    }

    x = x < NGX_WEBTORCH_BALANCE_MAX_CORRECTION
        ? x : NGX_WEBTORCH_BALANCE_MAX_CORRECTION;

    return x > -NGX_WEBTORCH_BALANCE_MAX_CORRECTION
           ? x : -NGX_WEBTORCH_BALANCE_MAX_CORRECTION;
}


void
ngx_webtorch_balance_sample_add(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency)
{
    webtorch_sample_t  *sample;

    sample = &b->samples[b->nsamples++ % NGX_WEBTORCH_BALANCE_SAMPLES];

    sample->server = req->server;
    sample->outcome = (int32_t) outcome;
    sample->latency = latency;
    sample->expected = req->expected;

    memcpy(sample->features, req->features, sizeof(sample->features));
}


uint32_t
ngx_webtorch_balance_samples(const ngx_webtorch_balance_t *b, uint64_t *next,
    webtorch_sample_t *samples, uint32_t n)
{
    uint32_t  i;

    if (*next > b->nsamples) {
        *next = b->nsamples;
    }

    if (b->nsamples - *next > NGX_WEBTORCH_BALANCE_SAMPLES) {
        *next = b->nsamples - NGX_WEBTORCH_BALANCE_SAMPLES;
    }

    for (i = 0; i < n && *next < b->nsamples; i++) {
        samples[i] = b->samples[(*next)++ % NGX_WEBTORCH_BALANCE_SAMPLES];
    }

    return i;
}
