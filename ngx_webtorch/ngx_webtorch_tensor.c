
#include "ngx_webtorch_tensor.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>


/* a row larger than this is a mistake in a signature */
#define NGX_WEBTORCH_MAX_ROW  ((uint64_t) 1 << 32)


const ngx_webtorch_dtype_t  ngx_webtorch_dtypes[NGX_WEBTORCH_NDTYPES] = {
    [WEBTORCH_BOOL] =    { "bool", 1 },
    [WEBTORCH_INT64] =   { "int64", 8 },
    [WEBTORCH_FLOAT32] = { "float32", 4 },
    [WEBTORCH_FLOAT64] = { "float64", 8 },
};


uint64_t
ngx_webtorch_row_elements(const webtorch_spec_t *spec)
{
    int32_t   i;
    uint64_t  n;

    n = 1;

    for (i = 0; i < spec->ndim; i++) {
        n *= (uint64_t) spec->shape[i];
    }

    return n;
}


static const char *
ngx_webtorch_write_shape(char *text, const char *axis, const int64_t *shape,
    uint32_t ndim)
{
    int       n;
    uint32_t  i;

    n = snprintf(text, NGX_WEBTORCH_SHAPE_LEN, "[%s", axis);

    for (i = 0; i < ndim; i++) {
        n += snprintf(text + n, (size_t) (NGX_WEBTORCH_SHAPE_LEN - n),
                      "%s%" PRId64, (n > 1) ? ", " : "", shape[i]);
    }

    (void) snprintf(text + n, (size_t) (NGX_WEBTORCH_SHAPE_LEN - n), "]");

    return text;
}


const char *
ngx_webtorch_spec_shape(char *text, const webtorch_spec_t *spec, int batched)
{
    return ngx_webtorch_write_shape(text, batched ? "batch" : "",
                                    spec->shape, (uint32_t) spec->ndim);
}


const char *
ngx_webtorch_shape(char *text, const int64_t *shape, uint32_t ndim)
{
    return ngx_webtorch_write_shape(text, "", shape, ndim);
}


int
ngx_webtorch_rows_finite(const webtorch_spec_t *spec, const void *data,
    uint32_t rows)
{
    uint64_t       i, n;
    const float   *f;
    const double  *d;

    n = rows * ngx_webtorch_row_elements(spec);

    switch (spec->dtype) {

    case WEBTORCH_FLOAT32:
        f = data;

        for (i = 0; i < n; i++) {
            if (!isfinite(f[i])) {
                return 0;
            }
        }

        return 1;

    case WEBTORCH_FLOAT64:
        d = data;

        for (i = 0; i < n; i++) {
            if (!isfinite(d[i])) {
                return 0;
            }
        }

        return 1;

    default:
        return 1;
    }
}


static int
ngx_webtorch_spec_valid(const webtorch_spec_t *spec)
{
    int32_t   i;
    uint64_t  n;

    if (spec->dtype < 0 || spec->dtype >= NGX_WEBTORCH_NDTYPES
        || spec->ndim < 0 || spec->ndim > WEBTORCH_MAX_DIMS)
    {
        return -1;
    }

    n = ngx_webtorch_dtypes[spec->dtype].size;

    for (i = 0; i < spec->ndim; i++) {
        if (spec->shape[i] < 1
            || (uint64_t) spec->shape[i] > NGX_WEBTORCH_MAX_ROW / n)
        {
            return -1;
        }

        n *= (uint64_t) spec->shape[i];
    }

    return (uint64_t) spec->row_size == n ? 0 : -1;
}


int
ngx_webtorch_schema_valid(const webtorch_schema_t *schema)
{
    uint32_t  i;

    if (schema->ninputs > WEBTORCH_MAX_TENSORS
        || schema->noutputs > WEBTORCH_MAX_TENSORS)
    {
        return -1;
    }

    for (i = 0; i < schema->ninputs; i++) {
        if (ngx_webtorch_spec_valid(&schema->inputs[i]) != 0) {
            return -1;
        }
    }

    for (i = 0; i < schema->noutputs; i++) {
        if (ngx_webtorch_spec_valid(&schema->outputs[i]) != 0) {
            return -1;
        }
    }

    return 0;
}
