
/*
 * Estimates of a server's service: how long a request takes that need not wait,
 * and how many requests are served at once.
 */

#include "ngx_webtorch_balance_service.h"
#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_math.h"
#include "ngx_webtorch_balance_refusal.h"

#include <math.h>


/* weights of an outcome in the means of service times */
#define NGX_WEBTORCH_BALANCE_FAST          0.08f
#define NGX_WEBTORCH_BALANCE_SLOW          0.01f

/* limit of an outcome, times the mean */
#define NGX_WEBTORCH_BALANCE_OUTLIER       8.0f

/* limits of the counts of outcomes: of the means, and of a server's levels */
#define NGX_WEBTORCH_BALANCE_MEANS_COUNT   200.0f
#define NGX_WEBTORCH_BALANCE_LEVELS_COUNT  100.0f

/* time constant of the decay of the peak, seconds */
#define NGX_WEBTORCH_BALANCE_PEAK_DECAY    2.0f

/* the most that means of similar servers differ, a factor */
#define NGX_WEBTORCH_BALANCE_SIMILAR       1.25f

/* microseconds without an outcome after which a server is not counted */
#define NGX_WEBTORCH_BALANCE_GONE          120000000

/* the level of NGX_WEBTORCH_BALANCE_CONCURRENCY */
#define NGX_WEBTORCH_BALANCE_USUAL_LEVEL   3.0f

/* log of odds in favour of the present concurrency of a server */
#define NGX_WEBTORCH_BALANCE_STEADY        12.0f


static void ngx_webtorch_balance_peak(ngx_webtorch_balance_record_t *r,
    float latency, float age);
static void ngx_webtorch_balance_means(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency);
static void ngx_webtorch_balance_levels(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency);
static float ngx_webtorch_balance_noise(const ngx_webtorch_balance_t *b);
static float ngx_webtorch_balance_mean(ngx_webtorch_balance_record_t *r,
    float noise);
static void ngx_webtorch_balance_share_means(ngx_webtorch_balance_t *b,
    uint16_t *order, uint32_t n, float *mean);
static float ngx_webtorch_balance_find_concurrency(
    const ngx_webtorch_balance_t *b, uint32_t server);


static const float
    ngx_webtorch_balance_concurrencies[NGX_WEBTORCH_BALANCE_LEVELS] =
{
    1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128
};


void
ngx_webtorch_balance_service_add(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency, uint64_t now)
{
    float                           age;
    ngx_webtorch_balance_record_t  *r;

    r = &b->records[req->server];
    age = ngx_webtorch_balance_seconds(now, b->servers[req->server].finished);

    ngx_webtorch_balance_peak(r, latency, age);

    if (req->sure >= 0.6f && req->gap == 0) {
        ngx_webtorch_balance_levels(b, req, latency);
    }

    ngx_webtorch_balance_means(b, req, latency);
}


/* rises at once, falls with the time since the last outcome */

static void
ngx_webtorch_balance_peak(ngx_webtorch_balance_record_t *r, float latency,
    float age)
{
    if (latency > r->peak) {
        r->peak = latency;
        return;
    }

    r->peak = latency + (r->peak - latency)
                        * expf(-age / NGX_WEBTORCH_BALANCE_PEAK_DECAY);
}


/* the latency without the wait, for a request with an average key */

static void
ngx_webtorch_balance_means(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency)
{
    float                           z, a, fast, slow, cold_cost;
    ngx_webtorch_balance_record_t  *r;

    r = &b->records[req->server];
    cold_cost = b->cold_costs[req->gap];

    if (cold_cost > NGX_WEBTORCH_BALANCE_COLD) {
        return;
    }

    z = latency * req->own / req->expected / (req->ratio * cold_cost);

    if (r->count > 4.0f && z > r->fast * NGX_WEBTORCH_BALANCE_OUTLIER) {
        z = r->fast * NGX_WEBTORCH_BALANCE_OUTLIER;
    }

    a = 1.0f / (r->count + 1.0f);

    fast = a > NGX_WEBTORCH_BALANCE_FAST ? a : NGX_WEBTORCH_BALANCE_FAST;
    slow = a > NGX_WEBTORCH_BALANCE_SLOW ? a : NGX_WEBTORCH_BALANCE_SLOW;

    r->fast += req->sure * fast * (z - r->fast);
    r->slow += req->sure * slow * (z - r->slow);

    if (r->count < NGX_WEBTORCH_BALANCE_MEANS_COUNT) {
        r->count += req->sure;
    }
}


/*
 * If a server serves c requests at once, a request that finds n of them waits
 * for n + 1 - c to end.  The c with the least errors of latencies is the
 * concurrency.
 */

static void
ngx_webtorch_balance_levels(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency)
{
    float                           a, c, d, rest, took, ahead;
    uint32_t                        i;
    ngx_webtorch_balance_level_t   *own, *all;
    ngx_webtorch_balance_record_t  *r;

    r = &b->records[req->server];

    took = latency / req->own;
    took = ngx_webtorch_balance_log2(took > 1e-4f ? took : 1e-4f);

    if (r->level_count < NGX_WEBTORCH_BALANCE_LEVELS_COUNT) {
        r->level_count += 1.0f;
    }

    if (b->level_count < 5.0f * NGX_WEBTORCH_BALANCE_LEVELS_COUNT) {
        b->level_count += 1.0f;
    }

    for (i = 0; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        c = ngx_webtorch_balance_concurrencies[i];
        ahead = (float) req->ahead + 1.0f - c;
        rest = took;

        if (ahead > 0) {
            rest -= ngx_webtorch_balance_log2(1.0f + ahead / c
                                                     * req->mean / req->own);
        }

        own = &r->levels[i];
        a = 1.0f / (r->level_count + 1.0f);
        d = rest - own->mean;
        own->mean += a * d;
        own->variance += a * (d * d - own->variance);

        all = &b->levels[i];
        a = 1.0f / (b->level_count + 1.0f);
        d = rest - all->mean;
        all->mean += a * d;
        all->variance += a * (d * d - all->variance);
    }
}


void
ngx_webtorch_balance_service_refresh(ngx_webtorch_balance_t *b)
{
    float                           noise, error;
    float                           mean[NGX_WEBTORCH_BALANCE_SERVERS];
    uint16_t                        order[NGX_WEBTORCH_BALANCE_SERVERS];
    uint32_t                        i, n;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    noise = ngx_webtorch_balance_noise(b);
    error = 0;
    n = 0;

    for (i = 0; i < b->nservers; i++) {
        s = &b->servers[i];
        r = &b->records[i];

        /* a server without recent outcomes may have been removed */

        if (r->count >= 1.0f
            && ngx_webtorch_elapsed_usec(b->refreshed, s->finished)
               < NGX_WEBTORCH_BALANCE_GONE)
        {
            mean[i] = ngx_webtorch_balance_mean(r, noise);
            error += s->error;
            order[n++] = (uint16_t) i;
        }
    }

    if (n) {
        ngx_webtorch_balance_sort(order, n, mean);

        b->fleet = mean[order[n / 2]];
        b->best = mean[order[0]];
        b->error = error / (float) n;

        ngx_webtorch_balance_share_means(b, order, n, mean);
        ngx_webtorch_balance_refusal_refresh(b, order, n);
    }

    for (i = 0; i < b->nservers; i++) {
        s = &b->servers[i];
        r = &b->records[i];

        if (r->count < 1.0f && b->fleet > 0) {
            s->base = b->fleet;
            r->fast = b->fleet;
            r->slow = b->fleet;
        }

        s->trust = r->count / (r->count + 10.0f);
        r->trend = ngx_webtorch_balance_log2((r->fast + 1e-6f)
                                             / (r->slow + 1e-6f));
        s->concurrency = ngx_webtorch_balance_find_concurrency(b, i);
        s->share = 1.0f / s->concurrency;
    }
}


/* relative noise of the fast mean: service times are taken for lognormal */

static float
ngx_webtorch_balance_noise(const ngx_webtorch_balance_t *b)
{
    float     v;
    uint32_t  i;

    v = b->levels[0].variance;

    for (i = 1; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        v = v < b->levels[i].variance ? v : b->levels[i].variance;
    }

    v *= 0.4805f;                       /* from log2 to ln, squared */
    v = v < 2.0f ? v : 2.0f;
    v = v > 0.01f ? v : 0.01f;

    return sqrtf((expf(v) - 1.0f) * NGX_WEBTORCH_BALANCE_FAST / 2.0f);
}


/* the slow mean, unless the fast one differs by more than noise */

static float
ngx_webtorch_balance_mean(ngx_webtorch_balance_record_t *r, float noise)
{
    float  t, w;

    t = fabsf(logf((r->fast + 1e-9f) / (r->slow + 1e-9f))) / noise;
    w = (t - 2.0f) / 2.0f;
    w = w > 0 ? w : 0;

    if (w < 1.0f) {
        return r->slow * (1.0f - w) + r->fast * w;
    }

    if (r->count > 20.0f) {
        r->slow = r->fast;
        r->count = 1.0f / NGX_WEBTORCH_BALANCE_FAST;
    }

    return r->fast;
}


/*
 * Means of few outcomes approach the median, and servers with similar means
 * share their estimate.
 */

static void
ngx_webtorch_balance_share_means(ngx_webtorch_balance_t *b, uint16_t *order,
    uint32_t n, float *mean)
{
    float                           w, sum, weight;
    uint32_t                        i, j, k, first;
    ngx_webtorch_balance_record_t  *r;

    for (i = 0; i < n; i++) {
        k = order[i];
        w = b->records[k].count / (b->records[k].count + 6.0f);
        mean[k] = mean[k] * w + b->fleet * (1.0f - w);
    }

    ngx_webtorch_balance_sort(order, n, mean);

    for (i = 0, first = 0; i < n; i++) {
        k = order[i];
        sum = 0;
        weight = 0;

        while (mean[order[first]] * NGX_WEBTORCH_BALANCE_SIMILAR < mean[k]) {
            first++;
        }

        for (j = first;
             j < n && mean[order[j]] <= mean[k] * NGX_WEBTORCH_BALANCE_SIMILAR;
             j++)
        {
            r = &b->records[order[j]];
            w = r->count < 100.0f ? r->count : 100.0f;
            sum += mean[order[j]] * w;
            weight += w;
        }

        b->servers[k].base = sum / weight;
    }
}


/* the most likely concurrency */

static float
ngx_webtorch_balance_find_concurrency(const ngx_webtorch_balance_t *b,
    uint32_t server)
{
    float                                 odds, best;
    uint32_t                              i, level;
    const ngx_webtorch_balance_record_t  *r;

    r = &b->records[server];
    best = 0;
    level = 0;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        odds = -r->level_count * logf(r->levels[i].variance + 1e-3f)
               - b->level_count * logf(b->levels[i].variance + 1e-3f)
               - fabsf((float) i - NGX_WEBTORCH_BALANCE_USUAL_LEVEL);

        if (ngx_webtorch_balance_concurrencies[i]
            == b->servers[server].concurrency)
        {
            odds += NGX_WEBTORCH_BALANCE_STEADY;
        }

        if (i == 0 || odds > best) {
            best = odds;
            level = i;
        }
    }

    return ngx_webtorch_balance_concurrencies[level];
}
