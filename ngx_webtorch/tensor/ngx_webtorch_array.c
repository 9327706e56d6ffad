
/*
 * Arrays of binary formats: checks against a signature, copies to rows.
 */

#include "ngx_webtorch_array.h"
#include "ngx_webtorch_convert.h"
#include "ngx_webtorch_gaps.h"


static int ngx_webtorch_array_mismatch(const ngx_webtorch_array_t *array,
    const char *code, const webtorch_schema_t *schema,
    const webtorch_spec_t *spec, ngx_webtorch_error_t *err);
static int ngx_webtorch_array_dtype(const ngx_webtorch_array_t *array,
    const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    ngx_webtorch_error_t *err);
static int64_t ngx_webtorch_array_rows(const ngx_webtorch_array_t *array,
    const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);


static int
ngx_webtorch_array_mismatch(const ngx_webtorch_array_t *array, const char *code,
    const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    ngx_webtorch_error_t *err)
{
    char  shape[NGX_WEBTORCH_SHAPE_LEN];

    return ngx_webtorch_error_mismatch(err, code, schema, spec,
                   ngx_webtorch_dtypes[array->dtype].name,
                   ngx_webtorch_shape(shape, array->shape, array->ndim));
}


static int
ngx_webtorch_array_dtype(const ngx_webtorch_array_t *array,
    const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    ngx_webtorch_error_t *err)
{
    const char  *loss;

    if (array->dtype == spec->dtype) {
        return 0;
    }

    loss = NULL;

    if (!ngx_webtorch_is_string(spec->dtype)
        && !ngx_webtorch_is_string(array->dtype))
    {
        loss = ngx_webtorch_convert_loss(spec->dtype, array->dtype);

        if (loss == NULL) {
            return 0;
        }
    }

    (void) ngx_webtorch_array_mismatch(array, "wrong_dtype", schema, spec, err);

    if (loss) {
        ngx_webtorch_error_append(err,
                                  "; a conversion from %s to %s would lose %s",
                                  ngx_webtorch_dtypes[array->dtype].name,
                                  ngx_webtorch_dtypes[spec->dtype].name, loss);
    }

    return -1;
}


/*
 * Checks an array and binds the variable axes; returns the number of rows; -1:
 * err is set.
 */

static int64_t
ngx_webtorch_array_rows(const ngx_webtorch_array_t *array,
    const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    int       rc;
    uint64_t  rows, size;
    uint32_t  batch, ndim;

    ndim = (uint32_t) spec->ndim;

    if (ngx_webtorch_array_dtype(array, schema, spec, err) != 0) {
        return -1;
    }

    batch = (array->ndim == ndim + 1);

    rc = 1;

    if (array->ndim == ndim || (batch && schema->batched)) {
        rc = ngx_webtorch_bind(schema, spec, &array->shape[batch], layout, err);
    }

    if (rc == 1) {
        return ngx_webtorch_array_mismatch(array, "wrong_shape", schema, spec,
                                           err);
    }

    if (rc != 0) {
        return -1;
    }

    /* the shape is only a claim: it must agree with the length of the data */

    size = ngx_webtorch_row_size(spec, layout->sizes)
           / ngx_webtorch_dtypes[spec->dtype].size;

    if (__builtin_mul_overflow(size, ngx_webtorch_dtypes[array->dtype].size,
                               &size))
    {
        size = UINT64_MAX;
    }

    rows = array->len / size;

    if (array->len % size
        || rows != (uint64_t) (batch ? array->shape[0] : 1))
    {
        return ngx_webtorch_error(err, 400, "malformed_body",
                   "tensor \"%s\": its data, %zu bytes, do not fit its shape",
                   spec->name, array->len);
    }

    if (rows == 0) {
        return ngx_webtorch_array_mismatch(array, "wrong_shape", schema, spec,
                                           err);
    }

    if (rows > UINT32_MAX) {
        return ngx_webtorch_error(err, 413, "too_many_rows",
                                  "tensor \"%s\": too many rows", spec->name);
    }

    return (int64_t) rows;
}


int
ngx_webtorch_arrays_check(const ngx_webtorch_array_t *arrays, uint32_t seen,
    const webtorch_schema_t *schema, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    int64_t                 rows;
    uint32_t                i, first, batched;
    const char             *name;
    const webtorch_spec_t  *spec;

    ngx_webtorch_unbind(schema, layout);

    if (ngx_webtorch_gaps_absent(schema, seen, layout, err) != 0) {
        return -1;
    }

    first = (uint32_t) __builtin_ctz(seen);

    for (i = 0; i < schema->ninputs; i++) {
        spec = &schema->inputs[i];

        if (layout->absent & (1u << i)) {
            continue;
        }

        rows = ngx_webtorch_array_rows(&arrays[i], schema, spec, layout, err);

        if (rows < 0) {
            return -1;
        }

        batched = (arrays[i].ndim == (uint32_t) spec->ndim + 1);

        if (i == first) {
            layout->rows = (uint32_t) rows;
            layout->single = !batched;

        } else if (batched == layout->single) {
            name = schema->inputs[first].name;

            return ngx_webtorch_error_batch(err, batched ? spec->name : name,
                                            batched ? name : spec->name);

        } else if (rows != layout->rows) {
            return ngx_webtorch_error_rows(err, schema->inputs[first].name,
                                           layout->rows, spec->name,
                                           (uint32_t) rows);
        }

        /* bytes other than 0 and 1 would be undefined behaviour in torch */

        if (arrays[i].dtype == WEBTORCH_BOOL
            && arrays[i].data != NULL
            && !ngx_webtorch_bytes_bool(arrays[i].data, arrays[i].len))
        {
            return ngx_webtorch_error(err, 422, "out_of_range",
                       "tensor \"%s\": bytes of a bool are 0 or 1",
                       spec->name);
        }
    }

    return 0;
}


int
ngx_webtorch_array_copy(const ngx_webtorch_array_t *array,
    const webtorch_spec_t *spec, void *p, ngx_webtorch_error_t *err)
{
    if (ngx_webtorch_convert(p, spec->dtype, array->data, array->dtype,
                             array->len
                             / ngx_webtorch_dtypes[array->dtype].size)
        != 0)
    {
        return ngx_webtorch_convert_error(err, spec, array->dtype);
    }

    return 0;
}


int
ngx_webtorch_arrays_read(const ngx_webtorch_array_t *arrays, uint32_t seen,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    uint32_t  i;

    if (ngx_webtorch_arrays_check(arrays, seen, schema, layout, err) != 0
        || ngx_webtorch_gaps_reserve(schema, sink, layout, err) != 0)
    {
        return -1;
    }

    for (i = 0; i < schema->ninputs; i++) {
        if (!(layout->absent & (1u << i))
            && ngx_webtorch_array_copy(&arrays[i], &schema->inputs[i],
                                       sink->data[i], err)
               != 0)
        {
            return -1;
        }
    }

    return 0;
}
