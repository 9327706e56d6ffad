
#include "ngx_webtorch_agree.h"

#include <math.h>
#include <string.h>


static int ngx_webtorch_agree_strings(const webtorch_text_t *one,
    const webtorch_text_t *other, uint64_t n);
static int ngx_webtorch_agree_floats(const ngx_webtorch_output_t *one,
    const ngx_webtorch_output_t *other, uint64_t n, double tolerance);
static int ngx_webtorch_agree_float32(const float *one, const float *other,
    uint64_t n, double tolerance);
static int ngx_webtorch_agree_largest(const ngx_webtorch_output_t *one,
    const ngx_webtorch_output_t *other, uint64_t n, uint64_t classes);
static uint64_t ngx_webtorch_agree_argmax(int32_t dtype, const char *data,
    uint64_t n);
static inline int ngx_webtorch_agree_close(double one, double other,
    double tolerance);


int
ngx_webtorch_agree(const ngx_webtorch_output_t *one,
    const ngx_webtorch_output_t *other, uint32_t rows, double tolerance)
{
    int64_t                 classes;
    uint64_t                n;
    const webtorch_spec_t  *spec;

    spec = one->spec;

    if (!ngx_webtorch_agree_shapes(spec, other->spec)) {
        return 0;
    }

    n = rows * ngx_webtorch_row_elements(spec);

    if (ngx_webtorch_is_string(spec->dtype)) {
        return ngx_webtorch_agree_strings(one->data, other->data, n);
    }

    if (ngx_webtorch_dtypes[spec->dtype].kind != NGX_WEBTORCH_KIND_FLOAT) {
        return n == 0
               || memcmp(one->data, other->data,
                         n * ngx_webtorch_dtypes[spec->dtype].size)
                  == 0;
    }

    if (tolerance < 0) {
        classes = spec->ndim ? spec->shape[spec->ndim - 1] : 1;

        if (classes > 1) {
            return ngx_webtorch_agree_largest(one, other, n,
                                              (uint64_t) classes);
        }

        tolerance = NGX_WEBTORCH_AGREE_TOLERANCE;
    }

    return ngx_webtorch_agree_floats(one, other, n, tolerance);
}


int
ngx_webtorch_agree_shapes(const webtorch_spec_t *one,
    const webtorch_spec_t *other)
{
    int32_t  i;

    if (one->dtype != other->dtype || one->ndim != other->ndim) {
        return 0;
    }

    for (i = 0; i < one->ndim; i++) {
        if (one->shape[i] != other->shape[i]) {
            return 0;
        }
    }

    return 1;
}


static int
ngx_webtorch_agree_strings(const webtorch_text_t *one,
    const webtorch_text_t *other, uint64_t n)
{
    uint64_t  i;

    for (i = 0; i < n; i++) {

        if (one[i].len != other[i].len
            || (one[i].len
                && memcmp((void *) (uintptr_t) one[i].at,
                          (void *) (uintptr_t) other[i].at, one[i].len)
                   != 0))
        {
            return 0;
        }
    }

    return 1;
}


static int
ngx_webtorch_agree_floats(const ngx_webtorch_output_t *one,
    const ngx_webtorch_output_t *other, uint64_t n, double tolerance)
{
    int32_t      dtype;
    uint32_t     size;
    uint64_t     i;
    const char  *p, *q;

    dtype = one->spec->dtype;

    if (dtype == WEBTORCH_FLOAT32) {
        return ngx_webtorch_agree_float32(one->data, other->data, n, tolerance);
    }

    size = ngx_webtorch_dtypes[dtype].size;
    p = one->data;
    q = other->data;

    for (i = 0; i < n; i++, p += size, q += size) {

        if (!ngx_webtorch_agree_close(ngx_webtorch_number(dtype, p),
                                      ngx_webtorch_number(dtype, q),
                                      tolerance))
        {
            return 0;
        }
    }

    return 1;
}


static int
ngx_webtorch_agree_float32(const float *one, const float *other, uint64_t n,
    double tolerance)
{
    uint64_t  i;

    for (i = 0; i < n; i++) {
        if (!ngx_webtorch_agree_close((double) one[i], (double) other[i],
                                      tolerance))
        {
            return 0;
        }
    }

    return 1;
}


static int
ngx_webtorch_agree_largest(const ngx_webtorch_output_t *one,
    const ngx_webtorch_output_t *other, uint64_t n, uint64_t classes)
{
    int32_t      dtype;
    uint64_t     i, size;
    const char  *p, *q;

    dtype = one->spec->dtype;
    size = classes * ngx_webtorch_dtypes[dtype].size;
    p = one->data;
    q = other->data;

    for (i = 0; i < n; i += classes, p += size, q += size) {

        if (ngx_webtorch_agree_argmax(dtype, p, classes)
            != ngx_webtorch_agree_argmax(dtype, q, classes))
        {
            return 0;
        }
    }

    return 1;
}


/* the first one of equal ones; a NaN is the largest, as for torch.argmax() */

static uint64_t
ngx_webtorch_agree_argmax(int32_t dtype, const char *data, uint64_t n)
{
    double    v, largest;
    uint32_t  size;
    uint64_t  i, found;

    size = ngx_webtorch_dtypes[dtype].size;
    found = 0;
    largest = 0;

    for (i = 0; i < n; i++) {
        v = ngx_webtorch_number(dtype, data + i * size);

        if (isnan(v)) {
            return i;
        }

        if (i == 0 || v > largest) {
            largest = v;
            found = i;
        }
    }

    return found;
}


static inline int
ngx_webtorch_agree_close(double one, double other, double tolerance)
{
    double  size;

    /* infinities are equal, or are not close */

    if (one == other || (isnan(one) && isnan(other))) {
        return 1;
    }

    size = fabs(one);

    return isfinite(size)
           && fabs(one - other) <= tolerance * (size > 1 ? size : 1);
}
