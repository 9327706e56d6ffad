
/*
 * Raw rows: the elements of one tensor as they are in memory, little-endian,
 * without a header.  Their dtype and the shape of a row are those of the
 * signature; sizes of variable axes are in an HTTP header.
 */

#include "ngx_webtorch_array.h"

#include <inttypes.h>
#include <string.h>


static int ngx_webtorch_raw_infer(const webtorch_schema_t *schema, size_t len,
    ngx_webtorch_array_t *array, ngx_webtorch_error_t *err);
static int ngx_webtorch_raw_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static size_t ngx_webtorch_raw_bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout);
static char *ngx_webtorch_raw_frame(char *p, const webtorch_spec_t *specs,
    uint32_t n, uint32_t i, const void *const *data,
    const ngx_webtorch_layout_t *layout);


const ngx_webtorch_codec_t  ngx_webtorch_codec_raw = {
    .name = "raw",
    .types = { "application/octet-stream" },
    .shapeless = 1,
    .decode = ngx_webtorch_raw_decode,
    .bound = ngx_webtorch_raw_bound,
    .frame = ngx_webtorch_raw_frame
};


/*
 * Sets the shape without the HTTP header: the length of the body determines the
 * number of rows, or the size of one variable axis.
 */

static int
ngx_webtorch_raw_infer(const webtorch_schema_t *schema, size_t len,
    ngx_webtorch_array_t *array, ngx_webtorch_error_t *err)
{
    char                    shape[NGX_WEBTORCH_SHAPE_LEN];
    int32_t                 i, axis;
    size_t                  rows;
    const webtorch_spec_t  *spec;

    axis = -1;
    spec = &schema->inputs[0];
    rows = len / (size_t) spec->row_size;
    array->ndim = 0;

    if (schema->batched) {
        array->shape[array->ndim++] = (int64_t) rows;
    }

    for (i = 0; i < spec->ndim; i++) {

        if (spec->shape[i] < 0) {

            /* the length of the body determines one unknown size at most */

            if (schema->batched || axis >= 0) {
                return ngx_webtorch_error(err, 422, "missing_shape",
                           "tensor \"%s\": raw rows of %s need their shape "
                           "in the header \"Tensor-Shape\", for example "
                           "\"2,17\"",
                           spec->name,
                           ngx_webtorch_spec_shape(shape, spec, schema));
            }

            axis = i;
            array->shape[array->ndim++] = (int64_t) rows;
            continue;
        }

        array->shape[array->ndim++] = spec->shape[i];
    }

    if (len == 0 || len % (size_t) spec->row_size
        || (!schema->batched && axis < 0 && rows != 1))
    {
        return ngx_webtorch_error(err, 422, "wrong_shape",
                   "tensor \"%s\": expected %s %s, %" PRId64 " bytes a row, "
                   "found %zu bytes", spec->name,
                   ngx_webtorch_dtypes[spec->dtype].name,
                   ngx_webtorch_spec_shape(shape, spec, schema),
                   spec->row_size, len);
    }

    return 0;
}


static int
ngx_webtorch_raw_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    ngx_webtorch_array_t  array;

    if (schema->ninputs != 1) {
        return ngx_webtorch_error(err, 415, "unsupported_media_type",
                   "raw rows carry one tensor, %" PRIu32 " are expected: send "
                   "application/vnd.safetensors or application/json",
                   schema->ninputs);
    }

    array.dtype = schema->inputs[0].dtype;

    if (layout->shape != NULL) {
        array.ndim = layout->shape->ndim;
        memcpy(array.shape, layout->shape->sizes, sizeof(array.shape));

    } else if (ngx_webtorch_raw_infer(schema, len, &array, err) != 0) {
        return -1;
    }

    array.data = body;
    array.len = len;

    layout->named = 0;

    return ngx_webtorch_arrays_read(&array, 1, schema, sink, layout, err);
}


static size_t
ngx_webtorch_raw_bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    return 0;
}


static char *
ngx_webtorch_raw_frame(char *p, const webtorch_spec_t *specs, uint32_t n,
    uint32_t i, const void *const *data, const ngx_webtorch_layout_t *layout)
{
    return p;
}
