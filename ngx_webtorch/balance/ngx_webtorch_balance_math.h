
/* Arithmetic of the balancer: durations, fast logarithms, hashing. */


#ifndef _NGX_WEBTORCH_BALANCE_MATH_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_MATH_H_INCLUDED_


#include "ngx_webtorch_clock.h"

#include <string.h>


/* seconds without an outcome after which failures are forgiven */
#define NGX_WEBTORCH_BALANCE_FORGIVE  10.0f


static inline float
ngx_webtorch_balance_seconds(uint64_t now, uint64_t since)
{
    return (float) ngx_webtorch_elapsed_usec(now, since) * 1e-6f;
}


/* share of failures, decayed since the last outcome */

static inline float
ngx_webtorch_balance_forgive(float share, uint64_t now, uint64_t finished)
{
    float  age;

    age = ngx_webtorch_balance_seconds(now, finished);

    if (age >= NGX_WEBTORCH_BALANCE_FORGIVE) {
        return 0.0f;
    }

    age = 1.0f - age / NGX_WEBTORCH_BALANCE_FORGIVE;

    return share * age * age;
}


/* milliseconds of keys; never 0, which stands for "never" */

static inline uint32_t
ngx_webtorch_balance_ms(uint64_t now)
{
    return (uint32_t) (now / 1000) | 1;
}


/* x is positive; the absolute error is below 0.0002 */

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

    /* a polynomial of the mantissa, 1 to 2 */

    return (float) e - 2.50561466f
           + (4.04961689f + (-2.09940228f
              + (0.63551112f - 0.08001088f * m) * m) * m) * m;
}


/* x is from -100 to 100; the relative error is below 0.02 percent */

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


/* sorts indices by their values */

static inline void
ngx_webtorch_balance_sort(uint16_t *order, uint32_t n, const float *value)
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


/* each bit of x changes all bits of the result (the end of MurmurHash3) */

static inline uint64_t
ngx_webtorch_balance_mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;

    return x ^ x >> 33;
}


#endif /* _NGX_WEBTORCH_BALANCE_MATH_H_INCLUDED_ */
