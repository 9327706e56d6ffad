
/*
 * The table of dtypes, conversions of 16-bit floats, checks of elements.
 */

#include "ngx_webtorch_dtype.h"

#include <math.h>
#include <string.h>


/*
 * In a NaN and in an infinity all bits of the exponent (mask) are set; in an
 * infinity no bit of the fraction is.
 */
#define ngx_webtorch_none(type, data, n, mask, nan)                           \
    do {                                                                      \
        const type  *p = data;                                                \
        const type   bits = (nan) ? (type) -1 >> 1 : (mask);                  \
                                                                              \
        for (i = 0; i < n; i++) {                                             \
            if ((p[i] & bits) == (mask)) {                                    \
                return 0;                                                     \
            }                                                                 \
        }                                                                     \
    } while (0)


static uint16_t ngx_webtorch_narrow(double v, int fraction);
static float ngx_webtorch_bits_to_float(uint32_t bits);
static int ngx_webtorch_check_floats(int32_t dtype, const void *data,
    uint64_t n, int nan);


const ngx_webtorch_dtype_t  ngx_webtorch_dtypes[NGX_WEBTORCH_NTYPES] = {
    [WEBTORCH_BOOL] =     { "bool", 1, NGX_WEBTORCH_KIND_BOOL },
    [WEBTORCH_UINT8] =    { "uint8", 1, NGX_WEBTORCH_KIND_INTEGER },
    [WEBTORCH_UINT16] =   { "uint16", 2, NGX_WEBTORCH_KIND_INTEGER },
    [WEBTORCH_UINT32] =   { "uint32", 4, NGX_WEBTORCH_KIND_INTEGER },
    [WEBTORCH_UINT64] =   { "uint64", 8, NGX_WEBTORCH_KIND_INTEGER },
    [WEBTORCH_INT8] =     { "int8", 1, NGX_WEBTORCH_KIND_INTEGER },
    [WEBTORCH_INT16] =    { "int16", 2, NGX_WEBTORCH_KIND_INTEGER },
    [WEBTORCH_INT32] =    { "int32", 4, NGX_WEBTORCH_KIND_INTEGER },
    [WEBTORCH_INT64] =    { "int64", 8, NGX_WEBTORCH_KIND_INTEGER },
    [WEBTORCH_FLOAT16] =  { "float16", 2, NGX_WEBTORCH_KIND_FLOAT },
    [WEBTORCH_BFLOAT16] = { "bfloat16", 2, NGX_WEBTORCH_KIND_FLOAT },
    [WEBTORCH_FLOAT32] =  { "float32", 4, NGX_WEBTORCH_KIND_FLOAT },
    [WEBTORCH_FLOAT64] =  { "float64", 8, NGX_WEBTORCH_KIND_FLOAT },
    [WEBTORCH_STR] =      { "str", sizeof(webtorch_text_t),
                            NGX_WEBTORCH_KIND_STRING },
    [WEBTORCH_BYTES] =    { "bytes", sizeof(webtorch_text_t),
                            NGX_WEBTORCH_KIND_STRING },
};


/*
 * Rounds to 16 bits: a sign, an exponent, and a fraction of the given number of
 * bits.
 */

static uint16_t
ngx_webtorch_narrow(double v, int fraction)
{
    int       exponent, bias, smallest;
    uint32_t  bits, sign, infinity;
    double    significand;

    sign = signbit(v) ? 0x8000 : 0;
    bias = (1 << (14 - fraction)) - 1;
    smallest = 1 - bias;
    infinity = 0x7fff >> fraction << fraction;

    if (isnan(v)) {
        return (uint16_t) (sign | infinity | 1 << (fraction - 1));
    }

    if (isinf(v)) {
        return (uint16_t) (sign | infinity);
    }

    if (v == 0) {
        return (uint16_t) sign;
    }

    /* 0.5 <= significand < 1; if rounding carries, the exponent grows by 1 */

    significand = frexp(fabs(v), &exponent);
    exponent--;

    if (exponent < smallest) {
        bits = (uint32_t) nearbyint(ldexp(fabs(v), fraction - smallest));

    } else if (exponent > bias) {
        bits = infinity;

    } else {
        bits = ((uint32_t) (exponent + bias - 1) << fraction)
               + (uint32_t) nearbyint(ldexp(significand, fraction + 1));
    }

    return (uint16_t) (sign | bits);
}


uint16_t
ngx_webtorch_float16(double v)
{
    return ngx_webtorch_narrow(v, 10);
}


uint16_t
ngx_webtorch_bfloat16(double v)
{
    return ngx_webtorch_narrow(v, 7);
}


static float
ngx_webtorch_bits_to_float(uint32_t bits)
{
    float  v;

    memcpy(&v, &bits, sizeof(float));

    return v;
}


float
ngx_webtorch_from_float16(uint16_t bits)
{
    float     v;
    uint32_t  sign, exponent, fraction;

    sign = (uint32_t) (bits & 0x8000) << 16;
    exponent = (bits >> 10) & 0x1f;
    fraction = bits & 0x3ff;

    if (exponent == 0) {
        v = ldexpf((float) fraction, -24);
        return sign ? -v : v;
    }

    exponent = (exponent == 31) ? 255 : exponent - 15 + 127;

    return ngx_webtorch_bits_to_float(sign | exponent << 23 | fraction << 13);
}


float
ngx_webtorch_from_bfloat16(uint16_t bits)
{
    return ngx_webtorch_bits_to_float((uint32_t) bits << 16);
}


double
ngx_webtorch_number(int32_t dtype, const void *p)
{
    switch (dtype) {

    case WEBTORCH_BOOL:
    case WEBTORCH_UINT8:
        return *(const uint8_t *) p;

    case WEBTORCH_UINT16:
        return *(const uint16_t *) p;

    case WEBTORCH_UINT32:
        return *(const uint32_t *) p;

    case WEBTORCH_UINT64:
        return (double) *(const uint64_t *) p;

    case WEBTORCH_INT8:
        return *(const int8_t *) p;

    case WEBTORCH_INT16:
        return *(const int16_t *) p;

    case WEBTORCH_INT32:
        return *(const int32_t *) p;

    case WEBTORCH_INT64:
        return (double) *(const int64_t *) p;

    case WEBTORCH_FLOAT16:
        return ngx_webtorch_from_float16(*(const uint16_t *) p);

    case WEBTORCH_BFLOAT16:
        return ngx_webtorch_from_bfloat16(*(const uint16_t *) p);

    case WEBTORCH_FLOAT32:
        return *(const float *) p;

    default: /* WEBTORCH_FLOAT64 */
        return *(const double *) p;
    }
}


int
ngx_webtorch_bytes_bool(const void *data, size_t len)
{
    size_t          i;
    uint8_t         any;
    const uint8_t  *p;

    p = data;
    any = 0;

    for (i = 0; i < len; i++) {
        any |= p[i];
    }

    return any <= 1;
}


int
ngx_webtorch_finite(int32_t dtype, const void *data, uint64_t n)
{
    return ngx_webtorch_check_floats(dtype, data, n, 0);
}


int
ngx_webtorch_not_infinite(int32_t dtype, const void *data, uint64_t n)
{
    return ngx_webtorch_check_floats(dtype, data, n, 1);
}


/* returns 1 if no element is an infinity or, unless they are allowed, a NaN */

static int
ngx_webtorch_check_floats(int32_t dtype, const void *data, uint64_t n, int nan)
{
    uint64_t  i;

    switch (dtype) {

    case WEBTORCH_FLOAT16:
        ngx_webtorch_none(uint16_t, data, n, 0x7c00, nan);
        break;

    case WEBTORCH_BFLOAT16:
        ngx_webtorch_none(uint16_t, data, n, 0x7f80, nan);
        break;

    case WEBTORCH_FLOAT32:
        ngx_webtorch_none(uint32_t, data, n, 0x7f800000, nan);
        break;

    case WEBTORCH_FLOAT64:
        ngx_webtorch_none(uint64_t, data, n, 0x7ff0000000000000, nan);
        break;

    default:
        break;
    }

    return 1;
}
