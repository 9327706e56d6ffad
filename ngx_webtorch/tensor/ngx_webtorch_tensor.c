
/*
 * Sizes of rows, shapes as text, the check of a signature.
 */

#include "ngx_webtorch_tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>


/* bytes; a larger row is a mistake in a signature */
#define NGX_WEBTORCH_MAX_ROW  ((uint64_t) 1 << 32)


static const char *ngx_webtorch_write_shape(char *text, const char *batch,
    const int64_t *shape, uint32_t ndim, const webtorch_schema_t *schema);
static int ngx_webtorch_spec_valid(const webtorch_spec_t *spec, uint32_t axes);


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


uint64_t
ngx_webtorch_row_size(const webtorch_spec_t *spec, const int64_t *sizes)
{
    int32_t   i;
    uint64_t  n;

    n = (uint64_t) spec->row_size;

    for (i = 0; i < spec->ndim; i++) {
        if (spec->shape[i] < 0
            && __builtin_mul_overflow(n, (uint64_t) sizes[-1 - spec->shape[i]],
                                      &n))
        {
            return UINT64_MAX;
        }
    }

    return n;
}


uint64_t
ngx_webtorch_buffer_row_size(const webtorch_schema_t *schema, uint32_t buffer,
    const int64_t *sizes)
{
    uint32_t  i;

    i = buffer;

    if (schema->noptional) {

        if (buffer >= schema->ninputs) {
            for (i = 0; i < schema->ninputs; i++) {
                if (schema->gaps[i].mask == buffer) {
                    break;
                }
            }
        }

        if (sizes[WEBTORCH_ABSENT] >> i & 1) {
            return 0;
        }
    }

    return ngx_webtorch_row_size(&schema->inputs[buffer], sizes);
}


uint64_t
ngx_webtorch_rows_of(const webtorch_spec_t *spec, const int64_t *sizes,
    uint64_t elements)
{
    return elements * ngx_webtorch_dtypes[spec->dtype].size
           / ngx_webtorch_row_size(spec, sizes);
}


void
ngx_webtorch_resolve(webtorch_spec_t *resolved, const webtorch_spec_t *spec,
    const int64_t *sizes)
{
    int32_t  i;

    *resolved = *spec;
    resolved->row_size = (int64_t) ngx_webtorch_row_size(spec, sizes);

    for (i = 0; i < spec->ndim; i++) {
        resolved->shape[i] = ngx_webtorch_axis_size(spec, i, sizes);
    }
}


uint64_t
ngx_webtorch_text_size(const webtorch_spec_t *spec, const void *data,
    uint32_t rows)
{
    uint64_t                i, n, size;
    const webtorch_text_t  *text;

    if (!ngx_webtorch_is_string(spec->dtype)) {
        return 0;
    }

    text = data;
    size = 0;
    n = rows * ngx_webtorch_row_elements(spec);

    for (i = 0; i < n; i++) {
        size += text[i].len;
    }

    return size;
}


unsigned char *
ngx_webtorch_text_move(webtorch_text_t *text, uint64_t n, unsigned char *p)
{
    uint64_t  i;

    for (i = 0; i < n; i++) {

        if (text[i].len) {
            memcpy(p, (void *) (uintptr_t) text[i].at, text[i].len);
        }

        text[i].at = (uintptr_t) p;
        p += text[i].len;
    }

    return p;
}


static const char *
ngx_webtorch_write_shape(char *text, const char *batch, const int64_t *shape,
    uint32_t ndim, const webtorch_schema_t *schema)
{
    size_t    n;
    uint32_t  i;

    n = (size_t) snprintf(text, NGX_WEBTORCH_SHAPE_LEN, "[%s", batch);

    for (i = 0; i < ndim; i++) {
        if (n > 1) {
            n += (size_t) snprintf(text + n, NGX_WEBTORCH_SHAPE_LEN - n, ", ");
        }

        if (shape[i] < 0 && schema != NULL) {
            n += (size_t) snprintf(text + n, NGX_WEBTORCH_SHAPE_LEN - n, "%s",
                                   schema->axes[-1 - shape[i]]);

        } else {
            n += (size_t) snprintf(text + n, NGX_WEBTORCH_SHAPE_LEN - n,
                                   "%" PRId64, shape[i]);
        }
    }

    (void) snprintf(text + n, NGX_WEBTORCH_SHAPE_LEN - n, "]");

    return text;
}


const char *
ngx_webtorch_spec_shape(char *text, const webtorch_spec_t *spec,
    const webtorch_schema_t *schema)
{
    return ngx_webtorch_write_shape(text, schema->batched ? "batch" : "",
                                    spec->shape, (uint32_t) spec->ndim,
                                    schema);
}


const char *
ngx_webtorch_shape(char *text, const int64_t *shape, uint32_t ndim)
{
    return ngx_webtorch_write_shape(text, "", shape, ndim, NULL);
}


uint32_t
ngx_webtorch_find_input(const webtorch_schema_t *schema, const char *name,
    size_t len)
{
    uint32_t  i;

    for (i = 0; i < schema->ninputs; i++) {
        if (strlen(schema->inputs[i].name) == len
            && memcmp(schema->inputs[i].name, name, len) == 0)
        {
            break;
        }
    }

    return i;
}


/* axes: the number of variable axes that the spec may refer to */

static int
ngx_webtorch_spec_valid(const webtorch_spec_t *spec, uint32_t axes)
{
    int32_t   i;
    uint64_t  n;

    if (spec->dtype < 0 || spec->dtype >= NGX_WEBTORCH_NTYPES
        || spec->ndim < 0 || spec->ndim > WEBTORCH_MAX_DIMS)
    {
        return -1;
    }

    n = ngx_webtorch_dtypes[spec->dtype].size;

    for (i = 0; i < spec->ndim; i++) {

        if (spec->shape[i] < 0 && -1 - spec->shape[i] < (int64_t) axes) {
            continue;
        }

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
        || schema->noutputs > WEBTORCH_MAX_TENSORS
        || schema->nmasks > schema->ninputs
        || schema->naxes > WEBTORCH_MAX_AXES
        || schema->nbound > schema->naxes)
    {
        return -1;
    }

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        if (ngx_webtorch_spec_valid(&schema->inputs[i], schema->nbound) != 0) {
            return -1;
        }
    }

    for (i = 0; i < schema->ninputs; i++) {
        if (schema->gaps[i].mask >= ngx_webtorch_buffers(schema)
            || schema->gaps[i].len > WEBTORCH_DEFAULT_LEN)
        {
            return -1;
        }
    }

    for (i = 0; i < schema->noutputs; i++) {
        if (ngx_webtorch_spec_valid(&schema->outputs[i], schema->naxes) != 0) {
            return -1;
        }
    }

    return 0;
}
