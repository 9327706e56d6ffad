
/* Functions of costs that are not inline; features for the policy in Python. */

#include "ngx_webtorch_balance_cost.h"

#include <string.h>


float
ngx_webtorch_balance_failure(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_server_t *s, uint64_t now)
{
    float  error, failure;

    error = ngx_webtorch_balance_forgive(s->error, now, s->finished);
    failure = error > b->error ? error - b->error : 0.0f;
    failure += ngx_webtorch_balance_forgive(s->suspicion, now, s->finished);

    return failure < 1.0f ? failure : 1.0f;
}


void
ngx_webtorch_balance_features(const ngx_webtorch_balance_t *b,
    uint32_t server, float *features, uint64_t now)
{
    ngx_webtorch_balance_costs_t     costs;
    ngx_webtorch_balance_estimate_t  e;

    memset(&costs, 0, sizeof(ngx_webtorch_balance_costs_t));

    costs.now = now;
    costs.key.row = NGX_WEBTORCH_BALANCE_NONE;

    ngx_webtorch_balance_estimate((ngx_webtorch_balance_t *) b, &costs, server,
                                  &e);
    ngx_webtorch_balance_set_features(b, &costs, server, &e, features);
}


void
ngx_webtorch_balance_set_features(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_costs_t *costs, uint32_t server,
    const ngx_webtorch_balance_estimate_t *e, float *features)
{
    float                                 load, idle;
    const ngx_webtorch_balance_server_t  *s;

    s = &b->servers[server];

    load = (float) s->inflight * s->share;
    idle = s->inflight ? 0.0f
                       : ngx_webtorch_balance_seconds(costs->now, s->finished);

    features[0] = ngx_webtorch_balance_log2((e->own + 1e-6f)
                                            / (b->fleet + 1e-6f));
    features[1] = ngx_webtorch_balance_log2(1.0f + e->wait
                                                   / (e->own + 1e-6f));
    features[2] = load < 8.0f ? load : 8.0f;
    features[3] = b->records[server].trend;
    features[4] = s->error;
    features[5] = e->silent;
    features[6] = ngx_webtorch_balance_log2(e->key.cold_cost);
    features[7] = ngx_webtorch_balance_log2(1.0f + (idle < 100.0f ? idle
                                                                  : 100.0f));
}
