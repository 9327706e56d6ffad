
/*
 * Shapes of bodies, sizes of variable axes.
 */

#include "ngx_webtorch_layout.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_parameter.h"

#include <inttypes.h>
#include <stdio.h>


static const char *ngx_webtorch_first_with(const webtorch_schema_t *schema,
    int64_t axis);


int
ngx_webtorch_parse_shape(ngx_webtorch_shape_t *shape, const char *text,
    size_t len)
{
    int64_t      size;
    const char  *p, *end, *digits;

    end = text + len;
    p = ngx_webtorch_parameter_skip(text, end);

    shape->ndim = 0;

    if (p == end) {
        return 0;
    }

    for ( ;; ) {
        size = 0;

        for (digits = p; p < end && *p >= '0' && *p <= '9'; p++) {
            if (size > (INT64_MAX - 9) / 10) {
                return -1;
            }

            size = size * 10 + (*p - '0');
        }

        if (p == digits || shape->ndim == NGX_WEBTORCH_ARRAY_DIMS) {
            return -1;
        }

        shape->sizes[shape->ndim++] = size;

        p = ngx_webtorch_parameter_skip(p, end);

        if (p == end) {
            return 0;
        }

        if (*p != ',') {
            return -1;
        }

        p = ngx_webtorch_parameter_skip(p + 1, end);
    }
}


char *
ngx_webtorch_write_sizes(char *p, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout)
{
    int64_t   shape[NGX_WEBTORCH_ARRAY_DIMS];
    uint32_t  i, n;

    n = ngx_webtorch_array_shape(shape, spec, layout);

    for (i = 0; i < n; i++) {
        p += sprintf(p, "%s%" PRId64, i ? "," : "", shape[i]);
    }

    return p;
}


uint32_t
ngx_webtorch_array_shape(int64_t *shape, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout)
{
    int32_t   i;
    uint32_t  n;

    n = 0;

    if (!layout->single) {
        shape[n++] = layout->rows;
    }

    for (i = 0; i < spec->ndim; i++) {
        shape[n++] = spec->shape[i];
    }

    return n;
}


void
ngx_webtorch_unbind(const webtorch_schema_t *schema,
    ngx_webtorch_layout_t *layout)
{
    uint32_t  i;

    for (i = 0; i < schema->nbound; i++) {
        layout->sizes[i] = -1;
    }

    layout->sizes[WEBTORCH_ABSENT] = 0;
    layout->absent = 0;
}


size_t
ngx_webtorch_rows_size(const webtorch_schema_t *schema,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size;
    uint32_t  i;

    size = layout->text;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size += layout->rows * (size_t) ngx_webtorch_buffer_row_size(schema, i,
                                                                layout->sizes);
    }

    return size;
}


int
ngx_webtorch_rows_alloc(const webtorch_schema_t *schema,
    const ngx_webtorch_layout_t *layout, void **data, char **text,
    ngx_webtorch_error_t *err)
{
    size_t    size;
    uint32_t  i;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size = ngx_webtorch_buffer_row_size(schema, i, layout->sizes);

        if (size == 0) {
            continue;
        }

        data[i] = ngx_webtorch_buffer_alloc(layout->rows * size);

        if (data[i] == NULL) {
            return ngx_webtorch_error(err, 500, "no_memory", "no memory");
        }
    }

    if (layout->text == 0) {
        return 0;
    }

    *text = ngx_webtorch_buffer_alloc(layout->text);

    return *text ? 0 : ngx_webtorch_error(err, 500, "no_memory", "no memory");
}


/* returns the name of the first input that has a variable axis */

static const char *
ngx_webtorch_first_with(const webtorch_schema_t *schema, int64_t axis)
{
    int32_t                 k;
    uint32_t                i;
    const webtorch_spec_t  *spec;

    for (i = 0; i < schema->ninputs; i++) {
        spec = &schema->inputs[i];

        for (k = 0; k < spec->ndim; k++) {
            if (spec->shape[k] == axis) {
                return spec->name;
            }
        }
    }

    return "";
}


int
ngx_webtorch_bind(const webtorch_schema_t *schema, const webtorch_spec_t *spec,
    const int64_t *shape, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    int32_t      i;
    int64_t     *size;
    const char  *name;

    for (i = 0; i < spec->ndim; i++) {
        if (spec->shape[i] >= 0 && spec->shape[i] != shape[i]) {
            return 1;
        }
    }

    if (schema->nbound == 0) {
        return 0;
    }

    for (i = 0; i < spec->ndim; i++) {

        if (spec->shape[i] >= 0) {
            continue;
        }

        size = &layout->sizes[-1 - spec->shape[i]];
        name = schema->axes[-1 - spec->shape[i]];

        /* a body without elements could claim any number of such rows */

        if (shape[i] == 0) {
            return ngx_webtorch_error(err, 422, "wrong_shape",
                       "tensor \"%s\": the axis \"%s\" is empty, its size must "
                       "be at least 1", spec->name, name);
        }

        if (*size < 0) {
            *size = shape[i];

        } else if (*size != shape[i]) {
            return ngx_webtorch_error(err, 422, "wrong_shape",
                       "the axis \"%s\" differs: it is of size %" PRId64
                       " in tensor \"%s\", of %" PRId64 " in \"%s\"",
                       name, *size,
                       ngx_webtorch_first_with(schema, spec->shape[i]),
                       shape[i], spec->name);
        }
    }

    return 0;
}
