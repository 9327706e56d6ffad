
/*
 * Picks a server: the cheapest one that is available, by costs that the
 * parameters of a policy correct.  Until costs are learned: the server with the
 * lower peak EWMA of two random ones.
 */

#include "ngx_webtorch_balance_pick.h"
#include "ngx_webtorch_balance_cost.h"
#include "ngx_webtorch_balance_flight.h"
#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_math.h"
#include "ngx_webtorch_balance_policy.h"


/* costs are equal if their ratio is closer to 1 */
#define NGX_WEBTORCH_BALANCE_EQUAL         0.98f

/* cost of a failure, in services, and at least in seconds */
#define NGX_WEBTORCH_BALANCE_FAIL_COST     20.0f
#define NGX_WEBTORCH_BALANCE_MIN_FAIL_COST 1.0f

/* additional cost of an ejected server, in failures */
#define NGX_WEBTORCH_BALANCE_EJECTED       0.5f

/* microseconds after which a probe was lost with its worker */
#define NGX_WEBTORCH_BALANCE_PROBE_LOST    60000000

/* silence at a probe because of it, times that at the one before */
#define NGX_WEBTORCH_BALANCE_TRIALS        4.0f

/* servers whose cost is corrected */
#define NGX_WEBTORCH_BALANCE_BEST          8


typedef struct {
    ngx_webtorch_balance_costs_t             costs;
    const ngx_webtorch_balance_candidate_t  *candidates;
    uint32_t                                 n;
    uint32_t                                 retry;
    uint32_t                                 learned;   /* costs are known */
    const webtorch_params_t                 *params;    /* NULL: not used */
    uint32_t                                 kept;      /* best ones */
} ngx_webtorch_balance_pick_t;


/* results for the candidates so far, by their indices */

typedef struct {
    uint32_t                                 nbest;     /* cheapest first */
    uint32_t                                 best[NGX_WEBTORCH_BALANCE_BEST];
    float                                    costs[NGX_WEBTORCH_BALANCE_BEST];
    float                                    least;     /* latency, warm */

    uint32_t                                 two[2];    /* random ones */

    uint32_t                                 nskipped;  /* unavailable */
    uint32_t                                 spare;     /* their cheapest */
    float                                    spare_cost;
} ngx_webtorch_balance_found_t;


static void ngx_webtorch_balance_pick_init(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_pick_t *p, const ngx_webtorch_balance_request_t *req);
static inline void ngx_webtorch_balance_add_best(
    ngx_webtorch_balance_found_t *found, uint32_t kept, uint32_t index,
    float cost);
static void ngx_webtorch_balance_add_random(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_found_t *found, uint32_t index, uint32_t before);
static inline void ngx_webtorch_balance_add_spare(
    ngx_webtorch_balance_found_t *found, uint32_t index, float cost);
static uint32_t ngx_webtorch_balance_probe_is_due(
    const ngx_webtorch_balance_t *b, const ngx_webtorch_balance_pick_t *p,
    uint32_t server);
static uint32_t ngx_webtorch_balance_trial_is_due(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p, uint32_t server);
static uint32_t ngx_webtorch_balance_choose(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p,
    const ngx_webtorch_balance_found_t *found,
    ngx_webtorch_balance_request_t *req);
static uint32_t ngx_webtorch_balance_choose_corrected(
    ngx_webtorch_balance_t *b, const ngx_webtorch_balance_pick_t *p,
    const ngx_webtorch_balance_found_t *found, float *cost);
static uint32_t ngx_webtorch_balance_choose_of_two(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p,
    const ngx_webtorch_balance_found_t *found, float *cost);
static void ngx_webtorch_balance_set_request(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p, uint32_t index,
    ngx_webtorch_balance_request_t *req, float least);
static uint32_t ngx_webtorch_balance_random(ngx_webtorch_balance_t *b);


uint32_t
ngx_webtorch_balance_pick(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_candidate_t *candidates, uint32_t n,
    ngx_webtorch_balance_request_t *req, uint64_t now)
{
    float                                    cost;
    uint32_t                                 i, j, first;
    ngx_webtorch_balance_pick_t              p;
    ngx_webtorch_balance_found_t             found;
    ngx_webtorch_balance_server_t           *s;
    ngx_webtorch_balance_estimate_t          e;
    const ngx_webtorch_balance_candidate_t  *candidate;

    p.costs.now = now;
    p.candidates = candidates;
    p.n = n;

    ngx_webtorch_balance_pick_init(b, &p, req);

    found.nbest = 0;
    found.costs[0] = 0;
    found.least = 0;
    found.nskipped = 0;
    found.spare = 0;
    found.spare_cost = 0;

    /* any of equal ones may be the first */

    first = ngx_webtorch_balance_random(b) % n;

    for (j = 0; j < n; j++) {
        i = first + j < n ? first + j : first + j - n;
        candidate = &candidates[i];
        s = &b->servers[candidate->server];

        ngx_webtorch_balance_estimate(b, &p.costs, candidate->server, &e);

        cost = ngx_webtorch_balance_cost(b, &p.costs, candidate->server, &e)
               * candidate->scale;

        if (s->probe && candidate->max_fails) {

            if (ngx_webtorch_balance_probe_is_due(b, &p, candidate->server)) {
                goto probe;
            }

            cost += NGX_WEBTORCH_BALANCE_EJECTED * p.costs.failure;
            ngx_webtorch_balance_add_spare(&found, i, cost);

        } else if (s->limit && s->inflight >= s->limit) {
            ngx_webtorch_balance_add_spare(&found, i, cost);

        } else if (e.silent > 0
                   && ngx_webtorch_balance_trial_is_due(b, &p,
                                                        candidate->server))
        {
            goto probe;

        } else if (!p.learned) {
            ngx_webtorch_balance_add_random(b, &found, i, j - found.nskipped);

        } else {
            if (found.nbest == 0 || e.warm + e.wait < found.least) {
                found.least = e.warm + e.wait;
            }

            ngx_webtorch_balance_add_best(&found, p.kept, i, cost);
        }
    }

    i = ngx_webtorch_balance_choose(b, &p, &found, req);

    ngx_webtorch_balance_set_request(b, &p, i, req, found.least);

    return i;

probe:

    req->reason = NGX_WEBTORCH_BALANCE_PROBE;
    req->ejected = 0;
    req->cost = cost;

    ngx_webtorch_balance_set_request(b, &p, i, req, found.least);

    return i;
}


static void
ngx_webtorch_balance_pick_init(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_pick_t *p, const ngx_webtorch_balance_request_t *req)
{
    const webtorch_params_t  *params;

    p->retry = req->retry;

    ngx_webtorch_balance_key_find(b, &p->costs.key, req->key, p->costs.now);

    p->costs.scaled = ngx_webtorch_balance_learned(b, p->costs.now);

    /* peaks ignore keys, so that costs are used without a policy, too */

    p->learned = p->costs.scaled
                 || p->costs.key.row != NGX_WEBTORCH_BALANCE_NONE;

    p->costs.failure = NGX_WEBTORCH_BALANCE_FAIL_COST * b->fleet;

    if (p->costs.failure < NGX_WEBTORCH_BALANCE_MIN_FAIL_COST) {
        p->costs.failure = NGX_WEBTORCH_BALANCE_MIN_FAIL_COST;
    }

    p->params = NULL;
    p->kept = 1;

    params = &b->params[b->version & 1];

    if (p->costs.scaled && params->used) {
        p->params = params;
        p->kept = NGX_WEBTORCH_BALANCE_BEST;
    }
}


/* the most expensive one is dropped if there is no room */

static inline void
ngx_webtorch_balance_add_best(ngx_webtorch_balance_found_t *found,
    uint32_t kept, uint32_t index, float cost)
{
    uint32_t  i;

    if (found->nbest < kept) {
        i = found->nbest++;

    } else if (cost < found->costs[kept - 1] * NGX_WEBTORCH_BALANCE_EQUAL) {
        i = kept - 1;

    } else {
        return;
    }

    for ( /* void */ ;
         i > 0 && found->costs[i - 1] * NGX_WEBTORCH_BALANCE_EQUAL > cost;
         i--)
    {
        found->costs[i] = found->costs[i - 1];
        found->best[i] = found->best[i - 1];
    }

    found->costs[i] = cost;
    found->best[i] = index;
}


/* each pair of candidates is equally likely; before: candidates so far */

static void
ngx_webtorch_balance_add_random(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_found_t *found, uint32_t index, uint32_t before)
{
    if (before >= 2) {
        before = ngx_webtorch_balance_random(b) % (before + 1);
    }

    if (before < 2) {
        found->two[before] = index;
    }
}


static inline void
ngx_webtorch_balance_add_spare(ngx_webtorch_balance_found_t *found,
    uint32_t index, float cost)
{
    if (found->nskipped == 0 || cost < found->spare_cost) {
        found->spare = index;
        found->spare_cost = cost;
    }

    found->nskipped++;
}


/* one probe at a time, unless it was lost with its worker */

static uint32_t
ngx_webtorch_balance_probe_is_due(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p, uint32_t server)
{
    uint64_t  since;

    if (p->retry || p->costs.now < b->servers[server].probe) {
        return 0;
    }

    since = b->records[server].probing;

    return since == 0
           || ngx_webtorch_elapsed_usec(p->costs.now, since)
              > NGX_WEBTORCH_BALANCE_PROBE_LOST;
}


/*
 * A silent server may hang, or have requests that wait for an event: one more
 * request shows which.  The intervals grow, as it is lost if the server hangs.
 */

static uint32_t
ngx_webtorch_balance_trial_is_due(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p, uint32_t server)
{
    float                           due;
    uint64_t                        progress;
    ngx_webtorch_balance_record_t  *r;

    r = &b->records[server];
    progress = b->servers[server].progress;

    due = NGX_WEBTORCH_BALANCE_TRIALS
          * ngx_webtorch_balance_seconds(r->tried, progress);

    if (due < NGX_WEBTORCH_BALANCE_PATIENCE) {
        due = NGX_WEBTORCH_BALANCE_PATIENCE;
    }

    if (p->retry
        || ngx_webtorch_balance_seconds(p->costs.now, progress) < due)
    {
        return 0;
    }

    r->tried = p->costs.now;

    return 1;
}


static uint32_t
ngx_webtorch_balance_choose(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p,
    const ngx_webtorch_balance_found_t *found,
    ngx_webtorch_balance_request_t *req)
{
    uint32_t  chosen;

    req->ejected = (found->nskipped == p->n);

    if (req->ejected) {
        req->reason = NGX_WEBTORCH_BALANCE_WORST;
        req->cost = found->spare_cost;
        chosen = found->spare;

    } else if (!p->learned) {
        req->reason = NGX_WEBTORCH_BALANCE_PEAK;
        chosen = ngx_webtorch_balance_choose_of_two(b, p, found, &req->cost);

    } else if (2 * found->nskipped > p->n
               && found->spare_cost < found->costs[0])
    {
        /* the available ones could not serve all requests */
        req->reason = NGX_WEBTORCH_BALANCE_WORST;
        req->cost = found->spare_cost;
        chosen = found->spare;

    } else if (p->params) {
        req->reason = NGX_WEBTORCH_BALANCE_COST;
        chosen = ngx_webtorch_balance_choose_corrected(b, p, found, &req->cost);

    } else {
        req->reason = NGX_WEBTORCH_BALANCE_COST;
        req->cost = found->costs[0];
        chosen = found->best[0];
    }

    if (p->n == 1) {
        req->reason = NGX_WEBTORCH_BALANCE_ONLY;
    }

    return chosen;
}


static uint32_t
ngx_webtorch_balance_choose_corrected(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p,
    const ngx_webtorch_balance_found_t *found, float *cost)
{
    float                            corrected;
    float                            features[WEBTORCH_FEATURES];
    uint32_t                         i, chosen, server;
    ngx_webtorch_balance_estimate_t  e;

    chosen = found->best[0];
    *cost = found->costs[0];

    for (i = 0; i < found->nbest; i++) {
        server = p->candidates[found->best[i]].server;

        ngx_webtorch_balance_estimate(b, &p->costs, server, &e);
        ngx_webtorch_balance_set_features(b, &p->costs, server, &e, features);

        corrected = found->costs[i]
                    * ngx_webtorch_balance_exp2(
                          ngx_webtorch_balance_correction(p->params, features));

        if (i == 0 || corrected < *cost) {
            *cost = corrected;
            chosen = found->best[i];
        }
    }

    return chosen;
}


/* power of two choices, by the peak EWMA of latency and requests in flight */

static uint32_t
ngx_webtorch_balance_choose_of_two(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p,
    const ngx_webtorch_balance_found_t *found, float *cost)
{
    float                                    c, peak, failure;
    uint32_t                                 i, n, chosen;
    ngx_webtorch_balance_server_t           *s;
    ngx_webtorch_balance_estimate_t          e;
    const ngx_webtorch_balance_candidate_t  *candidate;

    n = p->n - found->nskipped;
    chosen = found->two[0];
    *cost = 0;

    for (i = 0; i < 2 && i < n; i++) {
        candidate = &p->candidates[found->two[i]];
        s = &b->servers[candidate->server];

        ngx_webtorch_balance_estimate(b, &p->costs, candidate->server, &e);

        peak = b->records[candidate->server].peak;
        peak = peak > 0 ? peak : s->base;
        failure = ngx_webtorch_balance_failure(b, s, p->costs.now);

        c = peak * ((float) s->inflight + 1.0f)
            + (failure + e.silent) * p->costs.failure;
        c *= candidate->scale;

        if (i == 0 || c < *cost) {
            *cost = c;
            chosen = found->two[i];
        }
    }

    return chosen;
}


/* fills in what is needed when the request ends */

static void
ngx_webtorch_balance_set_request(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_pick_t *p, uint32_t index,
    ngx_webtorch_balance_request_t *req, float least)
{
    ngx_webtorch_balance_server_t           *s;
    ngx_webtorch_balance_estimate_t          e;
    const ngx_webtorch_balance_candidate_t  *candidate;

    candidate = &p->candidates[index];
    s = &b->servers[candidate->server];

    ngx_webtorch_balance_estimate(b, &p->costs, candidate->server, &e);
    ngx_webtorch_balance_set_features(b, &p->costs, candidate->server, &e,
                                      req->features);

    req->server = candidate->server;
    req->id = b->records[candidate->server].id;
    req->max_fails = candidate->max_fails;
    req->fail_timeout = candidate->fail_timeout;
    req->row = p->costs.key.row;
    req->gap = e.key.gap;
    req->ahead = s->inflight;
    req->mean = s->inflight ? s->backlog / (float) s->inflight : s->base;
    req->own = e.own;
    req->expected = e.own + e.wait;
    req->ratio = e.key.ratio;
    req->sure = e.key.sure;

    if (p->costs.key.row == NGX_WEBTORCH_BALANCE_NONE
        || req->reason != NGX_WEBTORCH_BALANCE_COST)
    {
        return;
    }

    req->reason = e.key.cold_cost > NGX_WEBTORCH_BALANCE_COLD
                  ? NGX_WEBTORCH_BALANCE_COPY : NGX_WEBTORCH_BALANCE_WARM;

    ngx_webtorch_balance_key_charge(b, &p->costs.key, &e.key, e.own,
                                    e.warm + e.wait - least);
}


/* xorshift */

static uint32_t
ngx_webtorch_balance_random(ngx_webtorch_balance_t *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 17;
    b->random ^= b->random << 5;

    return b->random;
}
