
/* What finished requests tell of the servers. */

#include "ngx_webtorch_balance_parts.h"

#include <math.h>


#define BALANCE_FAST        0.08f       /* share of an outcome in the means */
#define BALANCE_SLOW        0.01f
#define BALANCE_OUTLIER     8.0f        /* times the mean, at most */
#define BALANCE_COUNT       200.0f
#define BALANCE_PEAK        2.0f        /* seconds, of the peak's decay */
#define BALANCE_ALIKE       1.25f       /* servers that are taken together */

#define BALANCE_FAILURE     3.0f        /* evidence, log of odds */
#define BALANCE_BACKOFF     0.5f        /* seconds, the first */
#define BALANCE_RETURN      2           /* requests at once after a probe */
#define BALANCE_RETURNED    12.0f        /* outcomes that count still then */

#define BALANCE_PATIENCE    1.0f        /* of a client that matters, seconds */
#define BALANCE_GONE        120000000   /* microseconds */
#define BALANCE_REFRESH     20000       /* microseconds */

/* the level of NGX_WEBTORCH_BALANCE_CONCURRENCY */
#define BALANCE_USUAL       3.0f

/* outcomes of a server, of all five times as many */
#define BALANCE_LEVELS      100.0f

/* to change what is taken for a server's concurrency, log of odds */
#define BALANCE_STEADY      12.0f


static void balance_health(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now);
static void balance_eject(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now);
static void balance_sample(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency);
static void balance_peak(ngx_webtorch_balance_record_t *r, float latency,
    float age);
static void balance_service(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency);
static void balance_levels(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency);
static void balance_refresh(ngx_webtorch_balance_t *b);
static float balance_noise(const ngx_webtorch_balance_t *b);
static float balance_mean(ngx_webtorch_balance_record_t *r, float noise);
static void balance_sort(uint16_t *order, uint32_t n, const float *value);
static void balance_alike(ngx_webtorch_balance_t *b, uint16_t *order,
    uint32_t n, float *mean);
static float balance_level(const ngx_webtorch_balance_t *b, uint32_t server);


const float  ngx_webtorch_balance_concurrency[NGX_WEBTORCH_BALANCE_LEVELS] = {
    1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128
};


void
ngx_webtorch_balance_end(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, uint64_t now)
{
    float                           latency, share;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;
    ngx_webtorch_balance_worker_t  *w;

    s = &b->servers[req->server];
    r = &b->records[req->server];
    w = &b->workers[worker];

    if (r->id != req->id) {
        /* its place was given to another server */
        return;
    }

    if (w->inflight[req->server]) {
        w->inflight[req->server]--;
        w->backlog[req->server] -= req->own;

        if (w->inflight[req->server] == 0) {
            w->backlog[req->server] = 0;
        }
    }

    if (s->inflight) {
        s->inflight--;
        s->backlog -= req->own;

        if (s->inflight == 0 || s->backlog < 0) {
            s->backlog = 0;
        }
    }

    latency = ngx_webtorch_balance_seconds(now, req->start);

    if (outcome == NGX_WEBTORCH_BALANCE_ABANDONED
        && latency > BALANCE_PATIENCE && latency > 8.0f * req->expected)
    {
        /* a client's timeout is as good as ours */
        outcome = NGX_WEBTORCH_BALANCE_TIMEOUT;
    }

    share = req->own / req->expected;

    ngx_webtorch_balance_key_end(b, req, outcome, latency * share,
                                 outcome == NGX_WEBTORCH_BALANCE_OK ? share
                                                                    : 1.0f,
                                 now);

    if (outcome >= NGX_WEBTORCH_BALANCE_ABANDONED) {

        if (req->reason == NGX_WEBTORCH_BALANCE_PROBE) {
            r->probing = 0;
        }

        return;
    }

    if (outcome == NGX_WEBTORCH_BALANCE_OK
        || outcome == NGX_WEBTORCH_BALANCE_ERROR)
    {
        s->progress = now;
    }

    if (outcome == NGX_WEBTORCH_BALANCE_OK) {
        balance_peak(r, latency,
                     ngx_webtorch_balance_seconds(now, s->finished));
        balance_service(b, req, latency);
    }

    balance_health(b, req, outcome, latency, now);
    balance_sample(b, req, outcome, latency);

    if (ngx_webtorch_elapsed_usec(now, b->refreshed) > BALANCE_REFRESH) {
        b->refreshed = now;
        balance_refresh(b);
    }
}


/*
 * A server is ejected when its failures are evidence that it is broken: more
 * of them than all servers have, and not made up for by what succeeded.
 */

static void
balance_health(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now)
{
    float                           usual, bad, broken;
    uint32_t                        probe;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    s = &b->servers[req->server];
    r = &b->records[req->server];

    bad = outcome == NGX_WEBTORCH_BALANCE_OK ? 0.0f : 1.0f;
    probe = req->reason == NGX_WEBTORCH_BALANCE_PROBE;
    usual = b->error < 0.9f ? b->error : 0.9f;

    s->error = ngx_webtorch_balance_error(s, now);
    s->error += 0.1f * (bad - s->error);
    s->finished = now;

    if (probe) {
        r->probing = 0;
    }

    if (bad > 0) {
        /* one failure may be the request's own */
        broken = BALANCE_FAILURE * (float) (req->max_fails > 2 ? req->max_fails
                                                               : 2);
        r->evidence += logf(0.95f / (usual + 0.02f));
        r->evidence = r->evidence < broken ? r->evidence : broken;

        if (req->max_fails
            && (probe
                || (s->probe == 0 && (s->limit || r->evidence >= broken))))
        {
            balance_eject(b, req, outcome, latency, now);
        }

        return;
    }

    r->evidence += logf(0.05f / (1.0f - usual));
    r->evidence = r->evidence > 0 ? r->evidence : 0;

    if (s->probe) {

        if (probe || req->reason == NGX_WEBTORCH_BALANCE_WORST
            || req->reason == NGX_WEBTORCH_BALANCE_ONLY)
        {
            /* it was sent in spite of the ejection, and served */
            s->probe = 0;
            s->limit = BALANCE_RETURN;

            /* it may not be what it was */
            r->count = r->count < BALANCE_RETURNED ? r->count
                                                   : BALANCE_RETURNED;
        }

        return;
    }

    /* more of it, if it is as it was */

    if (s->limit && latency < 3.0f * req->expected
        && ++s->limit > 4 * BALANCE_RETURN + s->concurrency)
    {
        s->limit = 0;
        r->backoff = 0;
    }
}


static void
balance_eject(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now)
{
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    s = &b->servers[req->server];
    r = &b->records[req->server];

    r->backoff = r->backoff > 0 ? 2.0f * r->backoff : BALANCE_BACKOFF;

    /* a probe that costs a client much is made seldom */

    r->backoff = r->backoff > 4.0f * latency ? r->backoff : 4.0f * latency;
    r->backoff = r->backoff < req->fail_timeout ? r->backoff
                                                : req->fail_timeout;

    s->probe = now + (uint64_t) (r->backoff * 1e6f);
    s->limit = 0;

    if (outcome == NGX_WEBTORCH_BALANCE_FAILED) {
        /* it has gone, and what it kept with it */
        r->cold = now;
    }
}


static void
balance_sample(ngx_webtorch_balance_t *b,
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


/* up at once, and down by what has passed since the last outcome */

static void
balance_peak(ngx_webtorch_balance_record_t *r, float latency, float age)
{
    if (latency > r->peak) {
        r->peak = latency;
        return;
    }

    r->peak = latency + (r->peak - latency) * expf(-age / BALANCE_PEAK);
}


/* what it took that was not the wait, for a request of the usual kind */

static void
balance_service(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency)
{
    float                           z, a, price;
    ngx_webtorch_balance_record_t  *r;

    r = &b->records[req->server];
    price = b->prices[req->gap];

    if (req->sure >= 0.6f && req->gap == 0) {
        balance_levels(b, req, latency);
    }

    if (price > NGX_WEBTORCH_BALANCE_DEAR) {
        return;
    }

    z = latency * req->own / req->expected / (req->ratio * price);

    if (r->count > 4.0f && z > r->fast * BALANCE_OUTLIER) {
        z = r->fast * BALANCE_OUTLIER;
    }

    a = 1.0f / (r->count + 1.0f);

    r->fast += req->sure * (a > BALANCE_FAST ? a : BALANCE_FAST)
               * (z - r->fast);
    r->slow += req->sure * (a > BALANCE_SLOW ? a : BALANCE_SLOW)
               * (z - r->slow);

    if (r->count < BALANCE_COUNT) {
        r->count += req->sure;
    }
}


/*
 * If a server serves c requests at once, one that finds n waits for n + 1 - c
 * of them to end.  The c that leaves the least of latencies unexplained is it.
 */

static void
balance_levels(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float latency)
{
    float                           a, c, d, rest, took, ahead;
    uint32_t                        i;
    ngx_webtorch_balance_level_t   *own, *all;
    ngx_webtorch_balance_record_t  *r;

    r = &b->records[req->server];

    took = latency / req->own;
    took = ngx_webtorch_balance_log2(took > 1e-4f ? took : 1e-4f);

    if (r->level_count < BALANCE_LEVELS) {
        r->level_count += 1.0f;
    }

    if (b->level_count < 5.0f * BALANCE_LEVELS) {
        b->level_count += 1.0f;
    }

    for (i = 0; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        c = ngx_webtorch_balance_concurrency[i];
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


/* what picks read, of what outcomes have changed */

static void
balance_refresh(ngx_webtorch_balance_t *b)
{
    float                           noise, error;
    float                           mean[NGX_WEBTORCH_BALANCE_SERVERS];
    uint16_t                        order[NGX_WEBTORCH_BALANCE_SERVERS];
    uint32_t                        i, n;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    noise = balance_noise(b);
    error = 0;
    n = 0;

    for (i = 0; i < b->nservers; i++) {
        s = &b->servers[i];
        r = &b->records[i];

        /* one that was heard of lately, and is not gone from the upstream */

        if (r->count >= 1.0f
            && ngx_webtorch_elapsed_usec(b->refreshed, s->finished)
               < BALANCE_GONE)
        {
            mean[i] = balance_mean(r, noise);
            error += s->error;
            order[n++] = (uint16_t) i;
        }
    }

    if (n) {
        balance_sort(order, n, mean);

        b->fleet = mean[order[n / 2]];
        b->best = mean[order[0]];
        b->error = error / (float) n;

        balance_alike(b, order, n, mean);
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
        s->concurrency = balance_level(b, i);
        s->share = 1.0f / s->concurrency;
    }

    ngx_webtorch_balance_key_refresh(b);
}


/* of the fast mean, relative: service times are taken to be lognormal */

static float
balance_noise(const ngx_webtorch_balance_t *b)
{
    float     v;
    uint32_t  i;

    v = b->levels[0].variance;

    for (i = 1; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        v = v < b->levels[i].variance ? v : b->levels[i].variance;
    }

    v *= 0.4805f;                       /* from log2 to the natural one */
    v = v < 2.0f ? v : 2.0f;
    v = v > 0.01f ? v : 0.01f;

    return sqrtf((expf(v) - 1.0f) * BALANCE_FAST / 2.0f);
}


/* the slow mean, unless the fast one has left it by more than noise */

static float
balance_mean(ngx_webtorch_balance_record_t *r, float noise)
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
        r->count = 1.0f / BALANCE_FAST;
    }

    return r->fast;
}


static void
balance_sort(uint16_t *order, uint32_t n, const float *value)
{
    uint16_t  k;
    uint32_t  i, j;

    for (i = 1; i < n; i++) {
        k = order[i];

        for (j = i; j > 0 && value[order[j - 1]] > value[k]; j--) {
            order[j] = order[j - 1];
        }

        order[j] = k;
    }
}


/*
 * What few outcomes tell is drawn to the median, and servers that look alike
 * share their estimate.
 */

static void
balance_alike(ngx_webtorch_balance_t *b, uint16_t *order, uint32_t n,
    float *mean)
{
    float                           w, sum, weight;
    uint32_t                        i, j, k, first;
    ngx_webtorch_balance_record_t  *r;

    for (i = 0; i < n; i++) {
        k = order[i];
        w = b->records[k].count / (b->records[k].count + 6.0f);
        mean[k] = mean[k] * w + b->fleet * (1.0f - w);
    }

    balance_sort(order, n, mean);

    for (i = 0, first = 0; i < n; i++) {
        k = order[i];
        sum = 0;
        weight = 0;

        while (mean[order[first]] * BALANCE_ALIKE < mean[k]) {
            first++;
        }

        for (j = first;
             j < n && mean[order[j]] <= mean[k] * BALANCE_ALIKE;
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


static float
balance_level(const ngx_webtorch_balance_t *b, uint32_t server)
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
               - fabsf((float) i - BALANCE_USUAL);

        if (ngx_webtorch_balance_concurrency[i]
            == b->servers[server].concurrency) {
            odds += BALANCE_STEADY;
        }

        if (i == 0 || odds > best) {
            best = odds;
            level = i;
        }
    }

    return ngx_webtorch_balance_concurrency[level];
}
