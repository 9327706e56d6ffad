
/*
 * The cost of a request on a server is the time that it is expected to take
 * there: its own service, and the wait behind what is in flight.  The longer
 * a request keeps a server, the longer others wait, so that a part of the cost
 * is the work that it adds to the queue.  Failures cost time, too, and so does
 * a server that is silent for longer than its requests take.
 *
 * What is learned elsewhere corrects these costs.  While nothing is, of two
 * servers the one with the lesser peak EWMA of latency is e.
 */

#include "ngx_webtorch_balance_parts.h"

#include <math.h>


#define BALANCE_BASE        0.02f       /* seconds, until there is an outcome */
#define BALANCE_JOIN        4           /* requests at once to a new server */

#define BALANCE_SOCIAL      0.65f       /* of the cost that is the queue's */
#define BALANCE_HOLD        0.5f        /* of a price, for those who follow */
#define BALANCE_SPREAD      0.05f       /* of a price, by the key's hash */
#define BALANCE_SILENT      3.5f        /* log2 of odds that servers are well */
#define BALANCE_MEMORY      10.0f       /* seconds: half of a base's weight */

#define BALANCE_FORGOTTEN   60.0f       /* seconds: none of it */
#define BALANCE_CURIOUS     0.5f        /* of the best base, to be tried */
#define BALANCE_EQUAL       0.98f       /* costs that are no worse than others */

#define BALANCE_FAILURE     20.0f       /* cost, in services, and at least: */
#define BALANCE_MIN_FAILURE 1.0f        /* seconds */

#define BALANCE_EJECTED     0.5f        /* of that, at least */

#define BALANCE_STALE       5000000     /* parameters, microseconds */
#define BALANCE_LOST        60000000    /* a probe, microseconds */
#define BALANCE_CORRECTION  2.0f        /* at most, log2 */
#define BALANCE_BEST        8           /* servers whose cost is corrected */


/* what a request is expected to take on a server */

typedef struct {
    float                           warm;     /* seconds of service */
    float                           own;      /* likewise, with the price */
    float                           wait;     /* seconds before it */
    float                           silent;   /* 0 to 1 */
    ngx_webtorch_balance_contact_t  contact;
} balance_estimate_t;


typedef struct {
    uint64_t                          now;
    uint64_t                          key;
    uint32_t                          row;
    float                             credit;     /* of the key, seconds */
    float                             ratio;      /* of the key, everywhere */
    float                             failure;    /* its cost, seconds */
    uint32_t                          learned;    /* scales are of use */
} balance_pick_t;


/* the cheapest candidates, the first one first */

typedef struct {
    uint32_t                          n;
    uint32_t                          index[BALANCE_BEST];
    float                             cost[BALANCE_BEST];
} balance_best_t;


static uint32_t balance_correct(ngx_webtorch_balance_t *b,
    const balance_pick_t *p, const webtorch_params_t *params,
    const ngx_webtorch_balance_candidate_t *candidates,
    const balance_best_t *best, float *cost);
static uint32_t balance_two(ngx_webtorch_balance_t *b, const balance_pick_t *p,
    const ngx_webtorch_balance_candidate_t *candidates,
    const uint32_t *two, uint32_t n, float *cost);
static uint32_t balance_probes(const ngx_webtorch_balance_t *b,
    uint32_t server, uint64_t now);
static void balance_keep(balance_best_t *best, uint32_t kept, uint32_t index,
    float cost);
static void balance_take(ngx_webtorch_balance_t *b, const balance_pick_t *p,
    const ngx_webtorch_balance_candidate_t *candidate,
    ngx_webtorch_balance_request_t *req, float least);
static void balance_features(const ngx_webtorch_balance_t *b,
    const balance_pick_t *p, uint32_t server, const balance_estimate_t *e,
    float *features);
static float balance_correction(const webtorch_params_t *params,
    const float *features);
static inline void balance_estimate(ngx_webtorch_balance_t *b,
    const balance_pick_t *p, uint32_t server, balance_estimate_t *e);
static inline float balance_cost(const ngx_webtorch_balance_t *b,
    const balance_pick_t *p, uint32_t server, const balance_estimate_t *e);
static float balance_failure(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_server_t *s, uint64_t now);
static uint32_t balance_random(ngx_webtorch_balance_t *b);


void
ngx_webtorch_balance_init(ngx_webtorch_balance_t *b, uint32_t columns)
{
    uint32_t  i;

    b->columns = NGX_WEBTORCH_BALANCE_PAIRS / NGX_WEBTORCH_BALANCE_KEYS;
    b->random = 0x9e3779b9;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        b->levels[i].variance = 1.0f;
    }

    ngx_webtorch_balance_key_init(b);
    ngx_webtorch_balance_reserve(b, columns);
}


void
ngx_webtorch_balance_reserve(ngx_webtorch_balance_t *b, uint32_t columns)
{
    if (columns > NGX_WEBTORCH_BALANCE_SERVERS) {
        columns = NGX_WEBTORCH_BALANCE_SERVERS;
    }

    if (columns <= b->columns) {
        return;
    }

    while (b->columns < columns) {
        b->columns *= 2;
    }

    memset(b->keys, 0, sizeof(b->keys));
}


/* FNV-1a */

uint64_t
ngx_webtorch_balance_hash(const void *data, size_t len)
{
    size_t          i;
    uint64_t        hash;
    const uint8_t  *p;

    p = data;
    hash = 0xcbf29ce484222325ULL;

    for (i = 0; i < len; i++) {
        hash = (hash ^ p[i]) * 0x100000001b3ULL;
    }

    return hash ? hash : 1;
}


uint32_t
ngx_webtorch_balance_find(ngx_webtorch_balance_t *b, uint64_t id, uint64_t now)
{
    uint32_t                        i, old;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    old = NGX_WEBTORCH_BALANCE_NONE;

    for (i = 0; i < b->nservers; i++) {
        r = &b->records[i];

        if (r->id == id) {
            r->used = now;
            return i;
        }

        if (b->servers[i].inflight == 0
            && (old == NGX_WEBTORCH_BALANCE_NONE
                || r->used < b->records[old].used))
        {
            old = i;
        }
    }

    if (b->nservers < NGX_WEBTORCH_BALANCE_SERVERS) {
        old = b->nservers++;
    }

    if (old == NGX_WEBTORCH_BALANCE_NONE) {
        return old;
    }

    b->generation++;
    ngx_webtorch_balance_key_leave(b, old);

    s = &b->servers[old];
    r = &b->records[old];

    memset(s, 0, sizeof(ngx_webtorch_balance_server_t));
    memset(r, 0, sizeof(ngx_webtorch_balance_record_t));

    r->id = id;
    r->used = now;
    r->cold = now;

    s->finished = now;
    s->scale = 1.0f;
    s->concurrency = NGX_WEBTORCH_BALANCE_CONCURRENCY;
    s->share = 1.0f / NGX_WEBTORCH_BALANCE_CONCURRENCY;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_LEVELS; i++) {
        r->levels[i].variance = b->levels[i].variance;
    }

    /* as its peers, but not with all of its share at once */

    s->base = BALANCE_BASE;

    if (b->fleet > 0) {
        s->base = b->fleet;
        s->limit = BALANCE_JOIN;
    }

    r->fast = s->base;
    r->slow = s->base;

    return old;
}


uint32_t
ngx_webtorch_balance_pick(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_candidate_t *candidates, uint32_t n,
    ngx_webtorch_balance_request_t *req, uint64_t now)
{
    float                           cost, worst, clear, least;
    uint32_t                        i, j, k, first, kept, learned, chosen;
    uint32_t                        spare, skipped, two[2];
    const webtorch_params_t        *params;
    balance_best_t                  best;
    balance_pick_t                  p;
    balance_estimate_t              e;
    ngx_webtorch_balance_server_t  *s;

    req->ejected = 0;

    p.now = now;
    p.key = req->key;
    p.row = ngx_webtorch_balance_key_row(b, req->key, now);
    p.credit = 0;
    p.ratio = 1.0f;

    if (p.row != NGX_WEBTORCH_BALANCE_NONE) {
        p.credit = ngx_webtorch_balance_key_credit(b, p.row);
        p.ratio = ngx_webtorch_balance_key_ratio(b, p.row);
    }

    p.learned = ngx_webtorch_balance_learned(b, now);
    p.failure = BALANCE_FAILURE * b->fleet;

    if (p.failure < BALANCE_MIN_FAILURE) {
        p.failure = BALANCE_MIN_FAILURE;
    }

    /* a peak tells nothing of keys, what is known of them is known here */

    learned = p.row != NGX_WEBTORCH_BALANCE_NONE || p.learned;

    params = NULL;
    kept = 1;

    if (p.learned && b->params[b->version & 1].used) {
        params = &b->params[b->version & 1];
        kept = BALANCE_BEST;
    }

    best.n = 0;
    best.cost[0] = 0;
    spare = skipped = 0;
    worst = least = 0;

    /* of equal ones, any may be the first */

    first = balance_random(b) % n;

    for (j = 0; j < n; j++) {
        i = first + j < n ? first + j : first + j - n;
        s = &b->servers[candidates[i].server];

        balance_estimate(b, &p, candidates[i].server, &e);

        cost = balance_cost(b, &p, candidates[i].server, &e)
               * candidates[i].scale;

        if (s->probe && candidates[i].max_fails) {

            if (now >= s->probe && !req->retry
                && balance_probes(b, candidates[i].server, now))
            {
                req->reason = NGX_WEBTORCH_BALANCE_PROBE;
                chosen = i;
                goto found;
            }

            cost += BALANCE_EJECTED * p.failure;
            goto skip;
        }

        if (s->limit && s->inflight >= s->limit) {
            goto skip;
        }

        if (!learned) {
            /* two of them, each pair as likely */
            k = j - skipped;
            k = k < 2 ? k : balance_random(b) % (k + 1);

            if (k < 2) {
                two[k] = i;
            }

            continue;
        }

        clear = e.warm + e.wait;

        if (best.n == 0 || clear < least) {
            least = clear;
        }

        if (best.n < kept || cost < best.cost[kept - 1] * BALANCE_EQUAL) {
            balance_keep(&best, kept, i, cost);
        }

        continue;

    skip:

        if (skipped++ == 0 || cost < worst) {
            worst = cost;
            spare = i;
        }
    }

    req->ejected = (skipped == n);

    if (skipped == n) {
        req->reason = NGX_WEBTORCH_BALANCE_WORST;
        chosen = spare;
        cost = worst;

    } else if (!learned) {
        req->reason = NGX_WEBTORCH_BALANCE_PEAK;
        chosen = balance_two(b, &p, candidates, two, n - skipped, &cost);

    } else {
        req->reason = NGX_WEBTORCH_BALANCE_COST;
        chosen = best.index[0];
        cost = best.cost[0];

        if (2 * skipped > n && worst < cost) {
            /* what is left could not serve it all */
            req->reason = NGX_WEBTORCH_BALANCE_WORST;
            chosen = spare;
            cost = worst;

        } else if (params) {
            chosen = balance_correct(b, &p, params, candidates, &best, &cost);
        }
    }

    if (n == 1) {
        req->reason = NGX_WEBTORCH_BALANCE_ONLY;
    }

found:

    req->cost = cost;

    balance_take(b, &p, &candidates[chosen], req, least);

    return chosen;
}


/* one probe at a time, unless it was lost with its worker */

static uint32_t
balance_probes(const ngx_webtorch_balance_t *b, uint32_t server, uint64_t now)
{
    uint64_t  since;

    since = b->records[server].probing;

    return since == 0
           || ngx_webtorch_elapsed_usec(now, since) > BALANCE_LOST;
}


/* in order, the most expensive one is dropped */

static void
balance_keep(balance_best_t *best, uint32_t kept, uint32_t index, float cost)
{
    uint32_t  i;

    i = best->n < kept ? best->n++ : kept - 1;

    for ( /* void */ ; i > 0 && best->cost[i - 1] * BALANCE_EQUAL > cost; i--) {
        best->cost[i] = best->cost[i - 1];
        best->index[i] = best->index[i - 1];
    }

    best->cost[i] = cost;
    best->index[i] = index;
}


static uint32_t
balance_correct(ngx_webtorch_balance_t *b, const balance_pick_t *p,
    const webtorch_params_t *params,
    const ngx_webtorch_balance_candidate_t *candidates,
    const balance_best_t *best, float *cost)
{
    float               corrected;
    float               features[WEBTORCH_FEATURES];
    uint32_t            i, chosen, server;
    balance_estimate_t  e;

    chosen = best->index[0];

    for (i = 0; i < best->n; i++) {
        server = candidates[best->index[i]].server;

        balance_estimate(b, p, server, &e);
        balance_features(b, p, server, &e, features);

        corrected = best->cost[i]
                    * ngx_webtorch_balance_exp2(
                          balance_correction(params, features));

        if (i == 0 || corrected < *cost) {
            *cost = corrected;
            chosen = best->index[i];
        }
    }

    return chosen;
}


/* power of two choices, by the peak EWMA of latency and what is in flight */

static uint32_t
balance_two(ngx_webtorch_balance_t *b, const balance_pick_t *p,
    const ngx_webtorch_balance_candidate_t *candidates, const uint32_t *two,
    uint32_t n, float *cost)
{
    float                           c, peak, failure;
    uint32_t                        i, chosen;
    balance_estimate_t              e;
    ngx_webtorch_balance_server_t  *s;

    chosen = two[0];

    for (i = 0; i < 2 && i < n; i++) {
        s = &b->servers[candidates[two[i]].server];

        balance_estimate(b, p, candidates[two[i]].server, &e);

        peak = b->records[candidates[two[i]].server].peak;
        peak = peak > 0 ? peak : s->base;
        failure = balance_failure(b, s, p->now);

        c = peak * ((float) s->inflight + 1.0f)
            + (failure + e.silent) * p->failure;
        c *= candidates[two[i]].scale;

        if (i == 0 || c < *cost) {
            *cost = c;
            chosen = two[i];
        }
    }

    return chosen;
}


/* what will be told apart when the request is over */

static void
balance_take(ngx_webtorch_balance_t *b, const balance_pick_t *p,
    const ngx_webtorch_balance_candidate_t *candidate,
    ngx_webtorch_balance_request_t *req, float least)
{
    balance_estimate_t              e;
    ngx_webtorch_balance_server_t  *s;

    s = &b->servers[candidate->server];

    balance_estimate(b, p, candidate->server, &e);
    balance_features(b, p, candidate->server, &e, req->features);

    req->server = candidate->server;
    req->id = b->records[candidate->server].id;
    req->max_fails = candidate->max_fails;
    req->fail_timeout = candidate->fail_timeout;
    req->row = p->row;
    req->gap = e.contact.gap;
    req->ahead = s->inflight;
    req->mean = s->inflight ? s->backlog / (float) s->inflight : s->base;
    req->own = e.own;
    req->expected = e.own + e.wait;
    req->ratio = e.contact.ratio;
    req->sure = e.contact.sure;

    if (p->row == NGX_WEBTORCH_BALANCE_NONE
        || req->reason != NGX_WEBTORCH_BALANCE_COST)
    {
        return;
    }

    req->reason = e.contact.price > NGX_WEBTORCH_BALANCE_DEAR
                  ? NGX_WEBTORCH_BALANCE_COPY : NGX_WEBTORCH_BALANCE_WARM;

    ngx_webtorch_balance_key_charge(b, p->row, p->credit, e.contact.price,
                                    e.own, e.warm + e.wait - least, p->now);
}


static inline void
balance_estimate(ngx_webtorch_balance_t *b, const balance_pick_t *p,
    uint32_t server, balance_estimate_t *e)
{
    float                                 n, c, base, age, keep, silence;
    ngx_webtorch_balance_pair_t          *pair;
    const ngx_webtorch_balance_server_t  *s;

    s = &b->servers[server];
    n = (float) s->inflight;
    c = s->concurrency;
    base = s->base;

    e->wait = 0;
    e->silent = 0;

    if (s->inflight == 0) {
        age = ngx_webtorch_balance_seconds(p->now, s->finished);

        if (b->fleet > 0
            && (s->trust == 0 || age > BALANCE_FORGOTTEN
                || age * b->best > BALANCE_MEMORY * base))
        {
            /* it was never tried, or not for long: the longer, the slower */
            base = BALANCE_CURIOUS * b->best;

        } else if (age > 1.0f && b->fleet > 0) {
            /* what was learned a while ago is drawn to what others do */
            keep = 1.0f / (1.0f + (age - 1.0f) / BALANCE_MEMORY);
            base = base * keep + b->fleet * (1.0f - keep);
        }

    } else {

        if (n + 1.0f > c) {
            e->wait = (n + 1.0f - c) * s->share * s->backlog / n;
        }

        /* in services */
        silence = ngx_webtorch_balance_seconds(p->now, s->progress) * s->trust;

        if (silence * n > 0.5f * s->backlog) {
            /*
             * The chance that a service goes on falls with the cube of its
             * length, that none of several ends with the power of their number.
             */
            silence = (n < c ? n : c)
                      * ngx_webtorch_balance_log2(1.0f + 0.5f * silence * n
                                                  / (s->backlog + 1e-6f));
            silence = silence / BALANCE_SILENT - 1.0f;
            silence = silence > 0 ? silence : 0;
            e->silent = silence < 1.0f ? silence : 1.0f;
        }
    }

    e->warm = base;
    e->own = base;
    e->contact.gap = 0;
    e->contact.ratio = 1.0f;
    e->contact.sure = 1.0f;
    e->contact.price = 1.0f;

    pair = ngx_webtorch_balance_key_pair(b, p->row, server);

    if (pair) {
        ngx_webtorch_balance_key_contact(b, p->row, server, pair, p->ratio,
                                         p->now, &e->contact);

        e->warm *= e->contact.ratio;
        e->own = e->warm * e->contact.price;
    }
}


static inline float
balance_cost(const ngx_webtorch_balance_t *b, const balance_pick_t *p,
    uint32_t server, const balance_estimate_t *e)
{
    float                                 cost, price, failure;
    uint64_t                              id;
    const ngx_webtorch_balance_server_t  *s;

    s = &b->servers[server];
    price = 0;

    if (e->contact.price > 1.0f) {
        /* others will wait for it, and the key that it displaces comes back */
        price = (1.0f + BALANCE_HOLD + (float) s->inflight * s->share)
                * (e->own - e->warm) - p->credit;

        id = b->records[server].id;
        price = price > 0 ? price : 0;
        price *= 1.0f + BALANCE_SPREAD / 65536.0f
                        * (float) (ngx_webtorch_balance_mix(p->key ^ id)
                                   & 0xffff);
    }

    cost = (1.0f - BALANCE_SOCIAL) * (e->warm + e->wait)
           + BALANCE_SOCIAL * (e->warm + s->backlog) * s->share;

    failure = s->error > 0 ? balance_failure(b, s, p->now) : 0.0f;

    cost += price + (failure + e->silent) * p->failure;

    return p->learned ? cost * s->scale : cost;
}


/* what fails everywhere is not the server's fault, and is forgiven in time */

static float
balance_failure(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_server_t *s, uint64_t now)
{
    float  error;

    error = ngx_webtorch_balance_error(s, now);

    return error > b->error ? error - b->error : 0.0f;
}


static void
balance_features(const ngx_webtorch_balance_t *b, const balance_pick_t *p,
    uint32_t server, const balance_estimate_t *e, float *features)
{
    float                                 load, idle;
    const ngx_webtorch_balance_server_t  *s;

    s = &b->servers[server];

    load = (float) s->inflight * s->share;
    idle = s->inflight ? 0.0f
                       : ngx_webtorch_balance_seconds(p->now, s->finished);

    /* as WEBTORCH_FEATURE_* */

    features[0] = ngx_webtorch_balance_log2((e->own + 1e-6f)
                                            / (b->fleet + 1e-6f));
    features[1] = ngx_webtorch_balance_log2(1.0f + e->wait
                                                   / (e->own + 1e-6f));
    features[2] = load < 8.0f ? load : 8.0f;
    features[3] = b->records[server].trend;
    features[4] = s->error;
    features[5] = e->silent;
    features[6] = ngx_webtorch_balance_log2(e->contact.price);
    features[7] = ngx_webtorch_balance_log2(1.0f + (idle < 100.0f ? idle
                                                                  : 100.0f));
}


static float
balance_correction(const webtorch_params_t *params, const float *features)
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

    x = x < BALANCE_CORRECTION ? x : BALANCE_CORRECTION;

    return x > -BALANCE_CORRECTION ? x : -BALANCE_CORRECTION;
}


void
ngx_webtorch_balance_begin(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req, uint64_t now)
{
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_worker_t  *w;

    s = &b->servers[req->server];
    w = &b->workers[worker];

    req->start = now;

    if (s->inflight++ == 0) {
        s->progress = now;
        s->backlog = 0;
    }

    s->backlog += req->own;

    w->inflight[req->server]++;
    w->backlog[req->server] += req->own;

    if (req->reason == NGX_WEBTORCH_BALANCE_PROBE) {
        b->records[req->server].probing = now;
    }

    ngx_webtorch_balance_key_begin(b, req, now);
}


/*
 * What the others have in flight is summed up anew, as the worker may have died
 * between two of the numbers that go together.
 */

void
ngx_webtorch_balance_reap(ngx_webtorch_balance_t *b, uint32_t worker)
{
    uint32_t                        i, k;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_worker_t  *w;

    w = &b->workers[worker];

    for (i = 0; i < b->nservers; i++) {
        b->servers[i].inflight = 0;
        b->servers[i].backlog = 0;

        if (w->inflight[i]) {
            /* a probe may have been among it */
            b->records[i].probing = 0;
        }
    }

    memset(w, 0, sizeof(ngx_webtorch_balance_worker_t));

    for (k = 0; k < NGX_WEBTORCH_BALANCE_WORKERS; k++) {
        w = &b->workers[k];

        if (w->process == 0 && k != NGX_WEBTORCH_BALANCE_ALL_OTHERS) {
            continue;
        }

        for (i = 0; i < b->nservers; i++) {
            s = &b->servers[i];
            s->inflight += w->inflight[i];
            s->backlog += w->backlog[i];
        }
    }
}


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

    /* if this process dies meanwhile, the old ones are in place still */

    b->params[(b->version + 1) & 1] = *params;
    b->version++;
    b->published = now;

    return 0;
}


int
ngx_webtorch_balance_learned(const ngx_webtorch_balance_t *b, uint64_t now)
{
    return b->version
           && ngx_webtorch_elapsed_usec(now, b->published) < BALANCE_STALE;
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


void
ngx_webtorch_balance_features(const ngx_webtorch_balance_t *b,
    uint32_t server, float *features, uint64_t now)
{
    balance_pick_t      p;
    balance_estimate_t  e;

    memset(&p, 0, sizeof(balance_pick_t));

    p.now = now;
    p.row = NGX_WEBTORCH_BALANCE_NONE;

    balance_estimate((ngx_webtorch_balance_t *) b, &p, server, &e);
    balance_features(b, &p, server, &e, features);
}


/* xorshift */

static uint32_t
balance_random(ngx_webtorch_balance_t *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 17;
    b->random ^= b->random << 5;

    return b->random;
}
