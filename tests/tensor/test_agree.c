
/* Whether outputs of two functions agree. */

#include "ngx_webtorch_agree.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>


#define check(condition)                                                      \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%d: %s\n", __LINE__, #condition);                    \
        exit(1);                                                              \
    }


static webtorch_spec_t        spec;
static ngx_webtorch_output_t  one, other;


static int
agree(int32_t dtype, const void *a, const void *b, double tolerance)
{
    spec.dtype = dtype;
    one.spec = &spec;
    one.data = a;
    other.spec = &spec;
    other.data = b;

    return ngx_webtorch_agree(&one, &other, 2, tolerance);
}


static void
check_floats(void)
{
    float    a[4] = { 1, 1000, NAN, INFINITY };
    float    b[4] = { 1.0005f, 1000.5f, NAN, INFINITY };
    float    far[4] = { 1.0005f, 1002, NAN, INFINITY };
    float    minus[4] = { 1, 1000, NAN, -INFINITY };
    float    number[4] = { 1, 1000, 3, INFINITY };
    double   d[4] = { 0, 0, 0, 1 }, e[4] = { 0, 0, 0, 1.5 };
    uint16_t h[4], g[4];
    int      i;

    check(agree(WEBTORCH_FLOAT32, a, b, 0.001));
    check(!agree(WEBTORCH_FLOAT32, a, b, 0.0001));
    check(!agree(WEBTORCH_FLOAT32, a, far, 0.001));
    check(!agree(WEBTORCH_FLOAT32, a, minus, 1e9));
    check(!agree(WEBTORCH_FLOAT32, a, number, 1e9));
    check(!agree(WEBTORCH_FLOAT32, number, a, 1e9));

    check(agree(WEBTORCH_FLOAT64, d, e, 0.5));
    check(!agree(WEBTORCH_FLOAT64, d, e, 0.25));

    for (i = 0; i < 4; i++) {
        h[i] = ngx_webtorch_float16(i);
        g[i] = ngx_webtorch_float16(i + 0.25);
    }

    check(agree(WEBTORCH_FLOAT16, h, g, 0.25));
    check(!agree(WEBTORCH_FLOAT16, h, g, 0.2));

    for (i = 0; i < 4; i++) {
        h[i] = ngx_webtorch_bfloat16(i);
        g[i] = ngx_webtorch_bfloat16(i + 0.25);
    }

    check(agree(WEBTORCH_BFLOAT16, h, g, 0.25));
    check(!agree(WEBTORCH_BFLOAT16, h, g, 0.2));
}


static void
check_largest(void)
{
    float  a[4] = { 1, 2, 5, 4 }, b[4] = { 1, 9, 7, 4 }, c[4] = { 1, 2, 4, 5 };
    float  nan[4] = { NAN, 2, 5, 4 };

    check(agree(WEBTORCH_FLOAT32, a, b, NGX_WEBTORCH_AGREE_ARGMAX));
    check(!agree(WEBTORCH_FLOAT32, a, c, NGX_WEBTORCH_AGREE_ARGMAX));
    check(!agree(WEBTORCH_FLOAT32, a, nan, NGX_WEBTORCH_AGREE_ARGMAX));

    /* without classes floats are compared */

    spec.shape[0] = 1;
    check(!agree(WEBTORCH_FLOAT32, a, b, NGX_WEBTORCH_AGREE_ARGMAX));
    spec.ndim = 0;
    check(agree(WEBTORCH_FLOAT32, a, c, NGX_WEBTORCH_AGREE_ARGMAX));
    spec.ndim = 1;
    spec.shape[0] = 2;
}


static void
check_others(void)
{
    char             text[] = "abcabd";
    int64_t          a[4] = { 1, 2, 3, 4 }, b[4] = { 1, 2, 3, 5 };
    webtorch_spec_t  wide;
    webtorch_text_t  s[4], t[4];
    int              i;

    check(agree(WEBTORCH_INT64, a, a, 1e9));
    check(!agree(WEBTORCH_INT64, a, b, 1e9));

    for (i = 0; i < 4; i++) {
        s[i].at = t[i].at = (uintptr_t) text;
        s[i].len = t[i].len = 0;
    }

    t[1].at = 0;
    t[2].at = (uintptr_t) text + 3;
    s[2].len = t[2].len = 2;

    check(agree(WEBTORCH_STR, s, t, 0));
    s[2].len = t[2].len = 3;
    check(!agree(WEBTORCH_STR, s, t, 0));
    s[2].len = 2;
    check(!agree(WEBTORCH_STR, s, t, 0));

    wide = spec;
    wide.dtype = WEBTORCH_INT64;
    wide.shape[0] = 3;
    one.data = other.data = a;
    one.spec = &wide;
    check(!ngx_webtorch_agree(&one, &other, 0, 1));
}


int
main(void)
{
    spec.ndim = 1;
    spec.shape[0] = 2;

    check_floats();
    check_largest();
    check_others();

    return 0;
}
