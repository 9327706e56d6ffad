
/*
 * The cost of a request on a server is the time that it is expected to take
 * there: its own service, and the wait behind the requests in flight.  It also
 * delays later requests, so that a share of the cost is the work that it adds
 * to the queue.  Failures cost time, too, and so does a server that has been
 * silent for longer than its requests take.
 *
 * Costs are computed inline: a pick needs those of all servers.
 */


#ifndef _NGX_WEBTORCH_BALANCE_COST_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_COST_H_INCLUDED_


#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_math.h"


/* share of the cost charged for delaying later requests */
#define NGX_WEBTORCH_BALANCE_QUEUE_SHARE   0.65f

/* share of a cold cost charged for delaying later requests */
#define NGX_WEBTORCH_BALANCE_HOLD          0.5f

/* share of a cold cost that depends on the hash of the key and the server */
#define NGX_WEBTORCH_BALANCE_SPREAD        0.05f

/* log2 of the odds below which a silent server is taken for a working one */
#define NGX_WEBTORCH_BALANCE_SILENT        3.5f

/* idle seconds after which the base of a server counts half, and nothing */
#define NGX_WEBTORCH_BALANCE_MEMORY        10.0f
#define NGX_WEBTORCH_BALANCE_FORGOTTEN     60.0f

/* base of a server to explore, times the best base */
#define NGX_WEBTORCH_BALANCE_EXPLORE       0.5f

/* seconds for which a report of requests that wait counts, ever less */
#define NGX_WEBTORCH_BALANCE_REPORTED      1.0f

/* limit of reported requests, as a multiple of the concurrency */
#define NGX_WEBTORCH_BALANCE_OTHERS        8.0f


/* input that is common to all costs of a request */

typedef struct {
    uint64_t                         now;
    uint32_t                         scaled;            /* scores are used */
    float                            failure;           /* cost, seconds */
    ngx_webtorch_balance_key_pick_t  key;
} ngx_webtorch_balance_costs_t;


/* expectations for a request on a server */

typedef struct {
    float                            warm;              /* service, seconds */
    float                            own;               /* with cold cost */
    float                            wait;              /* before, seconds */
    float                            silent;            /* 0 to 1 */
    ngx_webtorch_balance_key_cost_t  key;
} ngx_webtorch_balance_estimate_t;


/*
 * The share of failures and refusals that other servers do not have, and that
 * is recent.
 */
float ngx_webtorch_balance_failure(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_server_t *s, uint64_t now);

/* the features of a server, in the order of webtorch.balancer.FEATURES */
void ngx_webtorch_balance_set_features(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_costs_t *costs, uint32_t server,
    const ngx_webtorch_balance_estimate_t *e, float *features);

/* features of a request without a key */
void ngx_webtorch_balance_features(const ngx_webtorch_balance_t *b,
    uint32_t server, float *features, uint64_t now);


/* the chance that a server with requests in flight hangs, 0 to 1 */

static inline float
ngx_webtorch_balance_silence(const ngx_webtorch_balance_server_t *s,
    uint64_t now)
{
    float  n, silence;

    n = (float) s->inflight;
    silence = ngx_webtorch_balance_seconds(now, s->progress) * s->trust;

    if (silence * n <= 0.5f * s->backlog) {
        return 0;
    }

    /*
     * The chance that a service continues falls with the cube of its length,
     * the chance that none of several ends with the power of their number.
     */

    silence = (n < s->concurrency ? n : s->concurrency)
              * ngx_webtorch_balance_log2(1.0f + 0.5f * silence * n
                                                 / (s->backlog + 1e-6f));
    silence = silence / NGX_WEBTORCH_BALANCE_SILENT - 1.0f;
    silence = silence > 0 ? silence : 0;

    return silence < 1.0f ? silence : 1.0f;
}


/*
 * Requests of others that wait at a server.  Their number is forgotten within a
 * second, and is no more than a few times what the server does at once: the
 * times of requests have learned what is there all the time.
 */

static inline float
ngx_webtorch_balance_others(const ngx_webtorch_balance_t *b, uint32_t server,
    uint64_t now)
{
    float                                 keep, others, most;
    const ngx_webtorch_balance_record_t  *record;

    record = &b->records[server];

    keep = 1.0f - ngx_webtorch_balance_seconds(now, record->reported)
                  / NGX_WEBTORCH_BALANCE_REPORTED;
    most = NGX_WEBTORCH_BALANCE_OTHERS * b->servers[server].concurrency;
    others = record->others < most ? record->others : most;

    return keep > 0 ? others * keep : 0.0f;
}


static inline void
ngx_webtorch_balance_estimate(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_costs_t *costs, uint32_t server,
    ngx_webtorch_balance_estimate_t *e)
{
    float                                 n, c, base, age, keep;
    ngx_webtorch_balance_pair_t          *pair;
    const ngx_webtorch_balance_server_t  *s;

    s = &b->servers[server];
    n = (float) s->inflight;
    c = s->concurrency;
    base = s->base;

    e->wait = 0;
    e->silent = 0;

    if (s->inflight == 0) {
        age = ngx_webtorch_balance_seconds(costs->now, s->finished);

        if (b->fleet > 0
            && (s->trust == 0 || age > NGX_WEBTORCH_BALANCE_FORGOTTEN
                || age * b->best > NGX_WEBTORCH_BALANCE_MEMORY * base))
        {
            /*
             * The server has not been tried, or not for a time that is the
             * longer, the slower it is.
             */
            base = NGX_WEBTORCH_BALANCE_EXPLORE * b->best;

        } else if (age > 1.0f && b->fleet > 0) {
            /* old estimates approach the median of all servers */
            keep = 1.0f / (1.0f + (age - 1.0f) / NGX_WEBTORCH_BALANCE_MEMORY);
            base = base * keep + b->fleet * (1.0f - keep);
        }

    } else {

        if (n + 1.0f > c) {
            e->wait = (n + 1.0f - c) * s->share * s->backlog / n;
        }

        e->silent = ngx_webtorch_balance_silence(s, costs->now);
    }

    if (b->reports) {
        e->wait += ngx_webtorch_balance_others(b, server, costs->now) * s->share
                   * (s->inflight ? s->backlog / n : base);
    }

    e->warm = base;
    e->own = base;
    e->key.gap = 0;
    e->key.ratio = 1.0f;
    e->key.sure = 1.0f;
    e->key.cold_cost = 1.0f;

    pair = ngx_webtorch_balance_key_pair(b, costs->key.row, server);

    if (pair) {
        ngx_webtorch_balance_key_get_cost(b, &costs->key, server, pair,
                                          &e->key);

        e->warm *= e->key.ratio;
        e->own = e->warm * e->key.cold_cost;
    }
}


static inline float
ngx_webtorch_balance_cost(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_costs_t *costs, uint32_t server,
    const ngx_webtorch_balance_estimate_t *e)
{
    float                                 cost, cold, failure;
    uint64_t                              id;
    const ngx_webtorch_balance_server_t  *s;

    s = &b->servers[server];
    cold = 0;

    if (e->key.cold_cost > 1.0f) {
        /* other requests wait for it, and it displaces a key that returns */
        cold = (1.0f + NGX_WEBTORCH_BALANCE_HOLD
                + (float) s->inflight * s->share)
               * (e->own - e->warm) - costs->key.credit;

        id = b->records[server].id;
        cold = cold > 0 ? cold : 0;
        cold *= 1.0f + NGX_WEBTORCH_BALANCE_SPREAD / 65536.0f
                       * (float) (ngx_webtorch_balance_mix(costs->key.id ^ id)
                                  & 0xffff);
    }

    cost = (1.0f - NGX_WEBTORCH_BALANCE_QUEUE_SHARE) * (e->warm + e->wait)
           + NGX_WEBTORCH_BALANCE_QUEUE_SHARE * (e->warm + s->backlog)
             * s->share;

    failure = s->error + s->suspicion > 0
              ? ngx_webtorch_balance_failure(b, s, costs->now) : 0.0f;

    cost += cold + (failure + e->silent) * costs->failure;

    return costs->scaled ? cost * s->scale : cost;
}


#endif /* _NGX_WEBTORCH_BALANCE_COST_H_INCLUDED_ */
