
/* What the parts of a balancer share. */


#ifndef _NGX_WEBTORCH_BALANCE_PARTS_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_PARTS_H_INCLUDED_


#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_clock.h"

#include <string.h>


/* the concurrency that a new server is taken to have */
#define NGX_WEBTORCH_BALANCE_CONCURRENCY  4.0f

/* a key whose next contact costs so many times its service is not warm */
#define NGX_WEBTORCH_BALANCE_DEAR         1.5f


/* seconds without an outcome after which failures are forgiven */
#define NGX_WEBTORCH_BALANCE_FORGIVE      10.0f


/* what of a request's cost on a server is its key's */

typedef struct {
    uint32_t   gap;
    float      ratio;
    float      sure;
    float      price;
} ngx_webtorch_balance_contact_t;


extern const float
    ngx_webtorch_balance_concurrency[NGX_WEBTORCH_BALANCE_LEVELS];


/* keys */

void ngx_webtorch_balance_key_init(ngx_webtorch_balance_t *b);

/* the row of a key, which may be new; NONE: the request has none */
uint32_t ngx_webtorch_balance_key_row(ngx_webtorch_balance_t *b, uint64_t id,
    uint64_t now);

/* all that keys have learned of a server */
void ngx_webtorch_balance_key_leave(ngx_webtorch_balance_t *b,
    uint32_t server);

/* NULL: the request has no key, or the server no room for it */
ngx_webtorch_balance_pair_t *ngx_webtorch_balance_key_pair(
    ngx_webtorch_balance_t *b, uint32_t row, uint32_t server);

/* of its service times to those of all keys, as far as that is known */
float ngx_webtorch_balance_key_ratio(const ngx_webtorch_balance_t *b,
    uint32_t row);

/* on a server; ratio: that of the key everywhere */
void ngx_webtorch_balance_key_contact(const ngx_webtorch_balance_t *b,
    uint32_t row, uint32_t server, const ngx_webtorch_balance_pair_t *pair,
    float ratio, uint64_t now, ngx_webtorch_balance_contact_t *contact);

/* seconds that a contact may cost as it is overdue */
float ngx_webtorch_balance_key_credit(const ngx_webtorch_balance_t *b,
    uint32_t row);

/* after a pick; lost: seconds, to the server that is cheapest without prices */
void ngx_webtorch_balance_key_charge(ngx_webtorch_balance_t *b, uint32_t row,
    float credit, float price, float own, float lost, uint64_t now);

void ngx_webtorch_balance_key_begin(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_request_t *req, uint64_t now);

/* own: seconds of service that it took, share: of its latency */
void ngx_webtorch_balance_key_end(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float own, float share,
    uint64_t now);

void ngx_webtorch_balance_key_refresh(ngx_webtorch_balance_t *b);


static inline float
ngx_webtorch_balance_seconds(uint64_t now, uint64_t since)
{
    return (float) ngx_webtorch_elapsed_usec(now, since) * 1e-6f;
}


/* never 0, which stands for never */

static inline uint32_t
ngx_webtorch_balance_ms(uint64_t now)
{
    return (uint32_t) (now / 1000) | 1;
}


/* within 0.0002, of a positive number */

static inline float
ngx_webtorch_balance_log2(float x)
{
    float     m;
    int32_t   e;
    uint32_t  bits;

    memcpy(&bits, &x, sizeof(float));

    e = (int32_t) (bits >> 23) - 127;
    bits = (bits & 0x7fffff) | 0x3f800000;

    memcpy(&m, &bits, sizeof(float));

    /* a polynomial for the mantissa, 1 to 2 */

    return (float) e - 2.50561466f
           + (4.04961689f + (-2.09940228f
              + (0.63551112f - 0.08001088f * m) * m) * m) * m;
}


/* within 0.02 percent, of -100 to 100 */

static inline float
ngx_webtorch_balance_exp2(float x)
{
    float     f, p;
    int32_t   i;
    uint32_t  bits;

    i = (int32_t) (x + 128.0f) - 128;
    f = x - (float) i;

    p = 0.99989669f + (0.69639055f + (0.22451634f + 0.0790857f * f) * f) * f;

    bits = (uint32_t) (i + 127) << 23;
    memcpy(&f, &bits, sizeof(float));

    return p * f;
}


/* the share of failures, as far as they are not forgiven */

static inline float
ngx_webtorch_balance_error(const ngx_webtorch_balance_server_t *s, uint64_t now)
{
    float  age;

    age = ngx_webtorch_balance_seconds(now, s->finished);

    if (age >= NGX_WEBTORCH_BALANCE_FORGIVE) {
        return 0.0f;
    }

    age = 1.0f - age / NGX_WEBTORCH_BALANCE_FORGIVE;

    return s->error * age * age;
}


/* all bits of a number in all bits of the result (the end of MurmurHash3) */

static inline uint64_t
ngx_webtorch_balance_mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;

    return x ^ x >> 33;
}


#endif /* _NGX_WEBTORCH_BALANCE_PARTS_H_INCLUDED_ */
