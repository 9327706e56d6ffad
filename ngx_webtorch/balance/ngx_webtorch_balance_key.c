
/*
 * Keys: kinds of requests, models, users.  A key has a row of pairs, one for
 * each server.  Two things are learned:
 *
 * The ratio of a key's service times on a server to those of other keys.  It is
 * used as far as ratios have predicted outcomes, for all keys.
 *
 * The cold cost: how many times longer a request takes where its key is not
 * warm, by the gap in the key's use on the server.  Servers keep a number of
 * keys, or each for a time, or none.  A cold request is made when the time lost
 * by waiting where the key is warm would have paid for it.  Only a share of the
 * work is spent on cold requests: they displace other keys, and most of them
 * would be made when all servers are already slow.
 */

#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_math.h"


/* keys that compete for a row */
#define NGX_WEBTORCH_BALANCE_WAYS             8

/* seconds after which a ratio counts half */
#define NGX_WEBTORCH_BALANCE_RATIO_DECAY      30.0f

/* milliseconds after which a key is taken for displaced */
#define NGX_WEBTORCH_BALANCE_KEY_TTL          60000

/* seconds after which a cold request was lost with its worker */
#define NGX_WEBTORCH_BALANCE_COLD_LOST        60

/* outcomes that the initial cold costs count for */
#define NGX_WEBTORCH_BALANCE_PRIOR            4.0f

/* share of the work that may be spent on copies */
#define NGX_WEBTORCH_BALANCE_COPY_SHARE       0.005f

/* the most that is saved for copies, in services */
#define NGX_WEBTORCH_BALANCE_MAX_BUDGET       10.0f

/* a request with a higher cold cost resets the lost time */
#define NGX_WEBTORCH_BALANCE_COLD_FACTOR      1.2f

/* seconds after which lost time counts half */
#define NGX_WEBTORCH_BALANCE_LOST_TIME_DECAY  10.0f

/* limit of the counts of outcomes, so that estimates follow changes */
#define NGX_WEBTORCH_BALANCE_MAX_COUNT        500

/* limit of an outcome, times the known ratio */
#define NGX_WEBTORCH_BALANCE_MAX_RATIO        8.0f


static uint32_t ngx_webtorch_balance_key_gap(const ngx_webtorch_balance_t *b,
    uint32_t row, uint32_t server, const ngx_webtorch_balance_pair_t *pair,
    uint64_t now);
static uint16_t ngx_webtorch_balance_sec16(uint64_t now);
static uint32_t ngx_webtorch_balance_is_pending(uint16_t since, uint64_t now);
static void ngx_webtorch_balance_learn_ratio(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_pair_t *pair, float z, float share);
static void ngx_webtorch_balance_learn_cold_cost(ngx_webtorch_balance_t *b,
    uint32_t gap, float cost, float share);
static void ngx_webtorch_balance_learn_scatter(ngx_webtorch_balance_t *b,
    float seen, float known);


/* initial cold costs, log2 */

static const float
    ngx_webtorch_balance_initial_gaps[NGX_WEBTORCH_BALANCE_GAPS] =
{
    0.0f, 0.0f, 0.0f, 0.1f, 0.2f, 0.3f, 0.5f, 0.7f, 0.9f, 2.0f
};


void
ngx_webtorch_balance_key_init(ngx_webtorch_balance_t *b)
{
    float     gap;
    uint32_t  i;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_GAPS; i++) {
        gap = ngx_webtorch_balance_initial_gaps[i];

        b->gaps[i] = gap;
        b->gap_counts[i] = NGX_WEBTORCH_BALANCE_PRIOR;
        b->cold_costs[i] = ngx_webtorch_balance_exp2(gap);
    }

    b->cold_costs[0] = 1.0f;

    b->variance = 1.0f;
    b->covariance = 0.33f;
    b->key_count = 30.0f;
    b->scatter = 2.0f;
}


uint32_t
ngx_webtorch_balance_key_row(ngx_webtorch_balance_t *b, uint64_t id,
    uint64_t now)
{
    uint32_t                     i, sets, first, old, ms;
    ngx_webtorch_balance_key_t  *key;

    if (id == 0) {
        return NGX_WEBTORCH_BALANCE_NONE;
    }

    sets = NGX_WEBTORCH_BALANCE_PAIRS / b->columns / NGX_WEBTORCH_BALANCE_WAYS;
    ms = ngx_webtorch_balance_ms(now);

    first = (uint32_t) (ngx_webtorch_balance_mix(id) % sets)
            * NGX_WEBTORCH_BALANCE_WAYS;
    old = first;

    for (i = first; i < first + NGX_WEBTORCH_BALANCE_WAYS; i++) {
        key = &b->keys[i];

        if (key->id == id) {
            key->used = ms;
            return i;
        }

        if (b->keys[old].id
            && (key->id == 0
                || ngx_webtorch_elapsed_msec32(ms, key->used)
                   > ngx_webtorch_elapsed_msec32(ms, b->keys[old].used)))
        {
            old = i;
        }
    }

    key = &b->keys[old];
    memset(key, 0, sizeof(ngx_webtorch_balance_key_t));

    key->id = id;
    key->used = ms;
    key->charged = ms;
    key->ratio = 1.0f;

    memset(&b->pairs[(size_t) old * b->columns], 0,
           b->columns * sizeof(ngx_webtorch_balance_pair_t));

    return old;
}


void
ngx_webtorch_balance_key_remove_server(ngx_webtorch_balance_t *b,
    uint32_t server)
{
    uint32_t                      i;
    ngx_webtorch_balance_pair_t  *pair;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_PAIRS / b->columns; i++) {

        if (b->keys[i].id == 0) {
            continue;
        }

        pair = ngx_webtorch_balance_key_pair(b, i, server);

        if (pair) {
            memset(pair, 0, sizeof(ngx_webtorch_balance_pair_t));
        }
    }
}


void
ngx_webtorch_balance_key_find(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_key_pick_t *key, uint64_t id, uint64_t now)
{
    float                              w;
    const ngx_webtorch_balance_key_t  *k;

    key->id = id;
    key->now = now;
    key->row = ngx_webtorch_balance_key_row(b, id, now);
    key->credit = 0;
    key->ratio = 1.0f;

    if (key->row == NGX_WEBTORCH_BALANCE_NONE) {
        return;
    }

    k = &b->keys[key->row];
    w = k->count / (k->count + b->scatter);

    key->ratio = k->ratio * w + 1.0f - w;

    if (b->budget > 0) {
        key->credit = k->lost_time;
    }
}


ngx_webtorch_balance_pair_t *
ngx_webtorch_balance_key_pair(ngx_webtorch_balance_t *b, uint32_t row,
    uint32_t server)
{
    /* the row may be from before a change of columns */

    if (server >= b->columns
        || row >= NGX_WEBTORCH_BALANCE_PAIRS / b->columns)
    {
        return NULL;
    }

    return &b->pairs[(size_t) row * b->columns + server];
}


/*
 * The class of the gap in a key's use on a server: 0 to 7 by the number of
 * other keys used since, 8: more of them, or a long time, 9: never used.
 */

static uint32_t
ngx_webtorch_balance_key_gap(const ngx_webtorch_balance_t *b, uint32_t row,
    uint32_t server, const ngx_webtorch_balance_pair_t *pair, uint64_t now)
{
    uint32_t         i;
    uint64_t         age, cold;
    const uint16_t  *recent;

    static const uint8_t  gaps[NGX_WEBTORCH_BALANCE_RECENT] = {
        0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
        4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5,
        6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7
    };

    if (pair->touched == 0) {
        return NGX_WEBTORCH_BALANCE_NEVER;
    }

    age = ngx_webtorch_elapsed_msec32(ngx_webtorch_balance_ms(now),
                                      pair->touched);

    /* in the same steps, but of 64 bits: it may be longer ago than 49 days */

    cold = ngx_webtorch_elapsed_usec(now / 1000 | 1,
                                     b->records[server].cold / 1000 | 1);

    if (age > cold) {
        return NGX_WEBTORCH_BALANCE_NEVER;
    }

    if (age > NGX_WEBTORCH_BALANCE_KEY_TTL) {
        return NGX_WEBTORCH_BALANCE_NEVER - 1;
    }

    recent = b->recent[server];

    for (i = 0; i < NGX_WEBTORCH_BALANCE_RECENT; i++) {
        if (recent[i] == row) {
            return gaps[i];
        }
    }

    return NGX_WEBTORCH_BALANCE_NEVER - 1;
}


void
ngx_webtorch_balance_key_get_cost(const ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_key_pick_t *key, uint32_t server,
    const ngx_webtorch_balance_pair_t *pair,
    ngx_webtorch_balance_key_cost_t *cost)
{
    float     w, ratio;
    uint32_t  age;

    w = 0;
    ratio = key->ratio;

    if (pair->count) {
        age = ngx_webtorch_elapsed_msec32(ngx_webtorch_balance_ms(key->now),
                                          pair->touched);
        w = (float) pair->count
            / (((float) pair->count + b->scatter)
               * (1.0f + (float) age * 1e-3f
                         / NGX_WEBTORCH_BALANCE_RATIO_DECAY));

    } else if (ratio > 1.0f && b->budget > 0) {
        /* a key that is slow elsewhere may be fast here */
        ratio = 1.0f;
    }

    cost->ratio = pair->ratio * w + ratio * (1.0f - w);
    cost->sure = 1.0f - (1.0f - w) / (1.0f + b->scatter);
    cost->gap = ngx_webtorch_balance_key_gap(b, key->row, server, pair,
                                             key->now);
    cost->cold_cost = b->cold_costs[cost->gap];
}


void
ngx_webtorch_balance_key_charge(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_key_pick_t *key,
    const ngx_webtorch_balance_key_cost_t *cost, float own, float lost)
{
    uint32_t                     ms, age;
    ngx_webtorch_balance_key_t  *k;

    k = &b->keys[key->row];
    ms = ngx_webtorch_balance_ms(key->now);

    if (cost->cold_cost > NGX_WEBTORCH_BALANCE_COLD_FACTOR) {

        if (key->credit > 0) {
            b->budget -= own - own / cost->cold_cost;
        }

        k->lost_time = 0;

    } else {
        age = ngx_webtorch_elapsed_msec32(ms, k->charged);
        k->lost_time /= 1.0f + (float) age * 1e-3f
                               / NGX_WEBTORCH_BALANCE_LOST_TIME_DECAY;

        if (lost > 0) {
            k->lost_time += lost;
        }
    }

    k->charged = ms;
}


void
ngx_webtorch_balance_key_begin(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_request_t *req, uint64_t now)
{
    uint32_t                      i;
    uint16_t                     *recent;
    ngx_webtorch_balance_pair_t  *pair;

    req->cold = 0;

    pair = ngx_webtorch_balance_key_pair(b, req->row, req->server);

    if (pair == NULL) {
        return;
    }

    pair->touched = ngx_webtorch_balance_ms(now);

    if (b->cold_costs[req->gap] > NGX_WEBTORCH_BALANCE_COLD) {
        pair->pending = ngx_webtorch_balance_sec16(now);
        req->cold = 1;
    }

    recent = b->recent[req->server];

    for (i = 0; i < NGX_WEBTORCH_BALANCE_RECENT - 1; i++) {
        if (recent[i] == req->row) {
            break;
        }
    }

    memmove(&recent[1], &recent[0], i * sizeof(uint16_t));
    recent[0] = (uint16_t) req->row;
}


void
ngx_webtorch_balance_key_end(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now)
{
    float                         z, seen, share, cold_cost;
    ngx_webtorch_balance_pair_t  *pair;

    pair = ngx_webtorch_balance_key_pair(b, req->row, req->server);

    /* another key may have got the row meanwhile */

    if (pair == NULL || b->keys[req->row].id != req->key) {
        return;
    }

    if (req->cold) {
        pair->pending = 0;
    }

    if (outcome >= NGX_WEBTORCH_BALANCE_CLIENT_CLOSED) {
        return;
    }

    b->budget += NGX_WEBTORCH_BALANCE_COPY_SHARE * req->own;

    if (b->budget > NGX_WEBTORCH_BALANCE_MAX_BUDGET * b->fleet) {
        b->budget = NGX_WEBTORCH_BALANCE_MAX_BUDGET * b->fleet;
    }

    cold_cost = b->cold_costs[req->gap];

    if (outcome != NGX_WEBTORCH_BALANCE_OK
        && (outcome != NGX_WEBTORCH_BALANCE_TIMEOUT
            || cold_cost <= NGX_WEBTORCH_BALANCE_COLD))
    {
        return;
    }

    /* a cold request that timed out has taken that long at least */

    share = req->own / req->expected;
    z = latency * share / b->servers[req->server].base;
    z = z > 1e-4f ? z : 1e-4f;
    seen = ngx_webtorch_balance_log2(z);

    if (outcome != NGX_WEBTORCH_BALANCE_OK) {
        share = 1.0f;
    }

    if (req->gap && pair->count == 0) {
        pair->first = z;

    } else if (req->gap && pair->count >= 2) {
        ngx_webtorch_balance_learn_cold_cost(b, req->gap,
                                seen - ngx_webtorch_balance_log2(pair->ratio),
                                share);
    }

    if (pair->pending && ngx_webtorch_balance_is_pending(pair->pending, now)) {
        /* it may have waited for the cold request */
        return;
    }

    if (req->gap == 0 && pair->count >= 2) {
        b->gaps[0] += 0.02f * share
                      * (seen - ngx_webtorch_balance_log2(pair->ratio)
                         - b->gaps[0]);
    }

    if (req->gap == 0 && pair->count >= 3 && pair->first > 0) {
        /* the cost of a first request is known from those after it */
        ngx_webtorch_balance_learn_cold_cost(b, NGX_WEBTORCH_BALANCE_NEVER,
                                ngx_webtorch_balance_log2(pair->first)
                                - ngx_webtorch_balance_log2(pair->ratio),
                                1.0f);
        pair->first = 0;
    }

    if (cold_cost > NGX_WEBTORCH_BALANCE_COLD) {
        /* this says nothing about the ratio where the key is warm */

        if (pair->count == 0) {
            pair->ratio = req->ratio;
        }

        return;
    }

    ngx_webtorch_balance_learn_ratio(b, req, pair, z, share);
}


/* z: service time to the base; share: weight of the outcome */

static void
ngx_webtorch_balance_learn_ratio(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_pair_t *pair, float z, float share)
{
    float                        a, seen, cold_cost;
    ngx_webtorch_balance_key_t  *key;

    key = &b->keys[req->row];
    cold_cost = b->cold_costs[req->gap];

    seen = ngx_webtorch_balance_log2(z) - ngx_webtorch_balance_log2(cold_cost);
    z /= cold_cost;

    if (pair->count) {
        ngx_webtorch_balance_learn_scatter(b, seen,
                                      ngx_webtorch_balance_log2(pair->ratio));

        if (z > pair->ratio * NGX_WEBTORCH_BALANCE_MAX_RATIO) {
            z = pair->ratio * NGX_WEBTORCH_BALANCE_MAX_RATIO;
        }

        a = 1.0f / ((float) pair->count + 1.0f);
        a = a > 0.05f ? a : 0.05f;
        pair->ratio += a * share * (z - pair->ratio);

    } else {
        pair->ratio = z;
    }

    if (pair->count < NGX_WEBTORCH_BALANCE_MAX_COUNT) {
        pair->count++;
    }

    a = 1.0f / (key->count + 1.0f);
    a = a > 0.02f ? a : 0.02f;
    key->ratio += a * share * (z - key->ratio);

    if (key->count < NGX_WEBTORCH_BALANCE_MAX_COUNT) {
        key->count += 1.0f;
    }
}


/* seconds of pending requests; never 0, which stands for "none" */

static uint16_t
ngx_webtorch_balance_sec16(uint64_t now)
{
    return (uint16_t) (now / 1000000) | 1;
}


/*
 * Seconds in 16 bits wrap each 18 hours.  A stamp that is later than now by
 * less than COLD_LOST is taken for one that was set in the meantime.
 */

static uint32_t
ngx_webtorch_balance_is_pending(uint16_t since, uint64_t now)
{
    uint16_t  elapsed;

    elapsed = (uint16_t) (ngx_webtorch_balance_sec16(now) - since);

    return (uint16_t) (elapsed + NGX_WEBTORCH_BALANCE_COLD_LOST)
           < 2 * NGX_WEBTORCH_BALANCE_COLD_LOST;
}


static void
ngx_webtorch_balance_learn_cold_cost(ngx_webtorch_balance_t *b, uint32_t gap,
    float cost, float share)
{
    float  a;

    a = 1.0f / (b->gap_counts[gap] + 1.0f);
    a = a > 0.03f ? a : 0.03f;

    b->gaps[gap] += a * share * (cost - b->gaps[gap]);
    b->gap_counts[gap] += share;
}


/* updates how well ratios predict the next outcome */

static void
ngx_webtorch_balance_learn_scatter(ngx_webtorch_balance_t *b, float seen,
    float known)
{
    float  a, r;

    a = 1.0f / (b->key_count + 1.0f);
    if (b->key_count < NGX_WEBTORCH_BALANCE_MAX_COUNT) {
        b->key_count += 1.0f;
    }

    seen -= b->seen;
    known -= b->known;

    b->seen += a * seen;
    b->known += a * known;
    b->variance += a * (seen * seen - b->variance);
    b->covariance += a * (seen * known - b->covariance);

    r = b->covariance / (b->variance + 1e-6f);
    r = r > 0.005f ? r : 0.005f;
    r = r < 0.8f ? r : 0.8f;

    b->scatter = (1.0f - r) / r;
}


/* cold costs are relative to a key in use, and rise with the gap */

void
ngx_webtorch_balance_key_refresh(ngx_webtorch_balance_t *b)
{
    float     cost;
    uint32_t  i;

    for (i = 1; i < NGX_WEBTORCH_BALANCE_GAPS; i++) {
        cost = b->gaps[i] - b->gaps[0];
        cost = cost > 0 ? cost : 0;
        cost = cost < 7.0f ? cost : 7.0f;

        b->cold_costs[i] = ngx_webtorch_balance_exp2(cost);

        if (i < NGX_WEBTORCH_BALANCE_NEVER
            && b->cold_costs[i] < b->cold_costs[i - 1])
        {
            b->cold_costs[i] = b->cold_costs[i - 1];
        }
    }
}
