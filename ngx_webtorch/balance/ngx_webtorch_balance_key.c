
/*
 * Keys: kinds of request, models, users.  A key has a row of pairs, one for
 * each server.  Two things are learned:
 *
 * What a key's requests take on a server, as a ratio to what the server's do;
 * it is believed as far as ratios have foretold outcomes, for all keys.
 *
 * What it costs to send a key where it is not warm, by what has happened there
 * since its last use: servers keep a number of keys, or each for a time, or
 * none.  Such a contact is made when what was lost by waiting where the key is
 * warm would have paid for it, and not more of them than a share of the work:
 * they make others go, and would be made most when all are slow already.
 */

#include "ngx_webtorch_balance_parts.h"


#define BALANCE_WAYS        8           /* keys that contend for a row */
#define BALANCE_FADE        30.0f       /* seconds: half a ratio's weight */
#define BALANCE_TTL         60000       /* long ago, milliseconds */
#define BALANCE_LOST        60          /* a contact, seconds */
#define BALANCE_PRIOR       4.0f        /* outcomes that first prices count */
#define BALANCE_SPREAD      0.005f      /* of the work, for copies */
#define BALANCE_MOVED       1.2f        /* price that settles a regret */
#define BALANCE_SAVED       10.0f       /* services, of that at most */
#define BALANCE_REGRET      10.0f       /* seconds: half of it is forgotten */
#define BALANCE_COUNT       500         /* outcomes that are kept in mind */
#define BALANCE_MAX_RATIO   8.0f        /* of an outcome to what was known */


static uint32_t balance_gap(const ngx_webtorch_balance_t *b, uint32_t row,
    uint32_t server, const ngx_webtorch_balance_pair_t *pair, uint64_t now);
static uint16_t balance_seconds(uint64_t now);
static uint32_t balance_is_pending(uint16_t since, uint64_t now);
static void balance_learn_price(ngx_webtorch_balance_t *b, uint32_t gap,
    float price, float share);
static void balance_learn_scatter(ngx_webtorch_balance_t *b, float seen,
    float known);


/* log2 of prices before any is known */

static const float  balance_gaps[NGX_WEBTORCH_BALANCE_GAPS] = {
    0.0f, 0.0f, 0.0f, 0.1f, 0.2f, 0.3f, 0.5f, 0.7f, 0.9f, 2.0f
};


void
ngx_webtorch_balance_key_init(ngx_webtorch_balance_t *b)
{
    uint32_t  i;

    for (i = 0; i < NGX_WEBTORCH_BALANCE_GAPS; i++) {
        b->gaps[i] = balance_gaps[i];
        b->gap_counts[i] = BALANCE_PRIOR;
        b->prices[i] = ngx_webtorch_balance_exp2(balance_gaps[i]);
    }

    b->prices[0] = 1.0f;

    b->variance = 1.0f;
    b->covariance = 0.33f;
    b->key_count = 30.0f;
    b->scatter = 2.0f;
}


uint32_t
ngx_webtorch_balance_key_row(ngx_webtorch_balance_t *b, uint64_t id,
    uint64_t now)
{
    uint32_t                     i, rows, first, old, ms;
    ngx_webtorch_balance_key_t  *key;

    if (id == 0) {
        return NGX_WEBTORCH_BALANCE_NONE;
    }

    rows = NGX_WEBTORCH_BALANCE_PAIRS / b->columns;
    ms = ngx_webtorch_balance_ms(now);

    first = (uint32_t) (ngx_webtorch_balance_mix(id) % (rows / BALANCE_WAYS))
            * BALANCE_WAYS;
    old = first;

    for (i = first; i < first + BALANCE_WAYS; i++) {
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
ngx_webtorch_balance_key_leave(ngx_webtorch_balance_t *b, uint32_t server)
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


ngx_webtorch_balance_pair_t *
ngx_webtorch_balance_key_pair(ngx_webtorch_balance_t *b, uint32_t row,
    uint32_t server)
{
    /* of a request that began when there was room for less servers, too */

    if (server >= b->columns
        || row >= NGX_WEBTORCH_BALANCE_PAIRS / b->columns)
    {
        return NULL;
    }

    return &b->pairs[(size_t) row * b->columns + server];
}


float
ngx_webtorch_balance_key_ratio(const ngx_webtorch_balance_t *b, uint32_t row)
{
    float                              w;
    const ngx_webtorch_balance_key_t  *key;

    key = &b->keys[row];
    w = key->count / (key->count + b->scatter);

    return key->ratio * w + 1.0f - w;
}


/*
 * What has happened on a server since a key's last use: 0 to 7 by how many
 * other keys were used, 8: more of them, or it is long ago, 9: never used.
 */

static uint32_t
balance_gap(const ngx_webtorch_balance_t *b, uint32_t row, uint32_t server,
    const ngx_webtorch_balance_pair_t *pair, uint64_t now)
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

    /*
     * In the same steps, but 64 bits: it may have been longer ago than 32 bits
     * hold.
     */

    cold = ngx_webtorch_elapsed_usec(now / 1000 | 1,
                                     b->records[server].cold / 1000 | 1);

    if (age > cold) {
        return NGX_WEBTORCH_BALANCE_NEVER;
    }

    if (age > BALANCE_TTL) {
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
ngx_webtorch_balance_key_contact(const ngx_webtorch_balance_t *b,
    uint32_t row, uint32_t server, const ngx_webtorch_balance_pair_t *pair,
    float ratio, uint64_t now, ngx_webtorch_balance_contact_t *contact)
{
    float     w;
    uint32_t  age;

    w = 0;

    if (pair->count) {
        age = ngx_webtorch_elapsed_msec32(ngx_webtorch_balance_ms(now),
                                          pair->touched);
        w = (float) pair->count
            / (((float) pair->count + b->scatter)
               * (1.0f + (float) age * 1e-3f / BALANCE_FADE));

    } else if (ratio > 1.0f && b->budget > 0) {
        /* a kind that is slow elsewhere may not be here */
        ratio = 1.0f;
    }

    contact->ratio = pair->ratio * w + ratio * (1.0f - w);
    contact->sure = 1.0f - (1.0f - w) / (1.0f + b->scatter);
    contact->gap = balance_gap(b, row, server, pair, now);
    contact->price = b->prices[contact->gap];
}


float
ngx_webtorch_balance_key_credit(const ngx_webtorch_balance_t *b, uint32_t row)
{
    return b->budget > 0 ? b->keys[row].regret : 0.0f;
}


void
ngx_webtorch_balance_key_charge(ngx_webtorch_balance_t *b, uint32_t row,
    float credit, float price, float own, float lost, uint64_t now)
{
    uint32_t                     ms, age;
    ngx_webtorch_balance_key_t  *key;

    key = &b->keys[row];
    ms = ngx_webtorch_balance_ms(now);

    if (price > BALANCE_MOVED) {

        if (credit > 0) {
            b->budget -= own - own / price;
        }

        key->regret = 0;

    } else {
        age = ngx_webtorch_elapsed_msec32(ms, key->charged);
        key->regret /= 1.0f + (float) age * 1e-3f / BALANCE_REGRET;

        if (lost > 0) {
            key->regret += lost;
        }
    }

    key->charged = ms;
}


void
ngx_webtorch_balance_key_begin(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_request_t *req, uint64_t now)
{
    uint32_t                      i;
    uint16_t                     *recent;
    ngx_webtorch_balance_pair_t  *pair;

    req->contact = 0;

    pair = ngx_webtorch_balance_key_pair(b, req->row, req->server);

    if (pair == NULL) {
        return;
    }

    pair->touched = ngx_webtorch_balance_ms(now);

    if (b->prices[req->gap] > NGX_WEBTORCH_BALANCE_DEAR) {
        pair->pending = balance_seconds(now);
        req->contact = 1;
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
    ngx_webtorch_balance_outcome_e outcome, float own, float share,
    uint64_t now)
{
    float                         z, a, seen, price;
    ngx_webtorch_balance_key_t   *key;
    ngx_webtorch_balance_pair_t  *pair;

    pair = ngx_webtorch_balance_key_pair(b, req->row, req->server);

    /* the row may have become another key's meanwhile */

    if (pair == NULL || b->keys[req->row].id != req->key) {
        return;
    }

    if (req->contact) {
        pair->pending = 0;
    }

    if (outcome >= NGX_WEBTORCH_BALANCE_ABANDONED) {
        return;
    }

    key = &b->keys[req->row];

    b->budget += BALANCE_SPREAD * req->own;

    if (b->budget > BALANCE_SAVED * b->fleet) {
        b->budget = BALANCE_SAVED * b->fleet;
    }

    price = b->prices[req->gap];

    if (outcome != NGX_WEBTORCH_BALANCE_OK
        && (outcome != NGX_WEBTORCH_BALANCE_TIMEOUT
            || price <= NGX_WEBTORCH_BALANCE_DEAR))
    {
        return;
    }

    /* a contact that took too long took that long at least */

    z = own / b->servers[req->server].base;
    z = z > 1e-4f ? z : 1e-4f;
    seen = ngx_webtorch_balance_log2(z);

    if (req->gap && pair->count == 0) {
        pair->first = z;

    } else if (req->gap && pair->count >= 2) {
        balance_learn_price(b, req->gap,
                            seen - ngx_webtorch_balance_log2(pair->ratio),
                            share);
    }

    if (pair->pending && balance_is_pending(pair->pending, now)) {
        /* it may have waited for the contact, unless that died with a worker */
        return;
    }

    if (req->gap == 0 && pair->count >= 2) {
        b->gaps[0] += 0.02f * share
                      * (seen - ngx_webtorch_balance_log2(pair->ratio)
                         - b->gaps[0]);
    }

    if (req->gap == 0 && pair->count >= 3 && pair->first > 0) {
        /* what a first contact had cost shows in those after it */
        balance_learn_price(b, NGX_WEBTORCH_BALANCE_NEVER,
                            ngx_webtorch_balance_log2(pair->first)
                            - ngx_webtorch_balance_log2(pair->ratio), 1.0f);
        pair->first = 0;
    }

    if (price > NGX_WEBTORCH_BALANCE_DEAR) {
        /* nothing is learned of what it takes when it is warm */

        if (pair->count == 0) {
            pair->ratio = req->ratio;
        }

        return;
    }

    z /= price;

    if (pair->count) {
        balance_learn_scatter(b, seen - ngx_webtorch_balance_log2(price),
                              ngx_webtorch_balance_log2(pair->ratio));

        if (z > pair->ratio * BALANCE_MAX_RATIO) {
            z = pair->ratio * BALANCE_MAX_RATIO;
        }

        a = 1.0f / ((float) pair->count + 1.0f);
        a = a > 0.05f ? a : 0.05f;
        pair->ratio += a * share * (z - pair->ratio);

    } else {
        pair->ratio = z;
    }

    if (pair->count < BALANCE_COUNT) {
        pair->count++;
    }

    a = 1.0f / (key->count + 1.0f);
    a = a > 0.02f ? a : 0.02f;
    key->ratio += a * share * (z - key->ratio);
    if (key->count < BALANCE_COUNT) {
        key->count += 1.0f;
    }
}


/* never 0 */

static uint16_t
balance_seconds(uint64_t now)
{
    return (uint16_t) (now / 1000000) | 1;
}


/*
 * Of 16 bits, which wrap each 18 hours, half cannot stand for stamps that are
 * later than now: those that are not much later do.
 */

static uint32_t
balance_is_pending(uint16_t since, uint64_t now)
{
    uint16_t  elapsed;

    elapsed = (uint16_t) (balance_seconds(now) - since);

    return (uint16_t) (elapsed + BALANCE_LOST) < 2 * BALANCE_LOST;
}


static void
balance_learn_price(ngx_webtorch_balance_t *b, uint32_t gap, float price,
    float share)
{
    float  a;

    a = 1.0f / (b->gap_counts[gap] + 1.0f);
    a = a > 0.03f ? a : 0.03f;

    b->gaps[gap] += a * share * (price - b->gaps[gap]);
    b->gap_counts[gap] += share;
}


/* by how much a ratio foretells the next outcome's, among all that is noise */

static void
balance_learn_scatter(ngx_webtorch_balance_t *b, float seen, float known)
{
    float  a, r;

    a = 1.0f / (b->key_count + 1.0f);
    if (b->key_count < BALANCE_COUNT) {
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


/* prices are relative to that of a key in use, and rise with the gap */

void
ngx_webtorch_balance_key_refresh(ngx_webtorch_balance_t *b)
{
    float     price;
    uint32_t  i;

    for (i = 1; i < NGX_WEBTORCH_BALANCE_GAPS; i++) {
        price = b->gaps[i] - b->gaps[0];
        price = price > 0 ? price : 0;
        price = price < 7.0f ? price : 7.0f;

        b->prices[i] = ngx_webtorch_balance_exp2(price);

        if (i < NGX_WEBTORCH_BALANCE_NEVER && b->prices[i] < b->prices[i - 1]) {
            b->prices[i] = b->prices[i - 1];
        }
    }
}
