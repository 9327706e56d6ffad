
/*
 * Raw rows: the elements of one tensor as they are in memory, little-endian,
 * without a header.  The signature tells their dtype and the shape of a row.
 */

#include "ngx_webtorch_array.h"

#include <inttypes.h>
#include <string.h>


static int
ngx_webtorch_raw_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    char                    shape[NGX_WEBTORCH_SHAPE_LEN];
    uint32_t                batch;
    ngx_webtorch_array_t    array;
    const webtorch_spec_t  *spec;

    if (schema->ninputs != 1) {
        return ngx_webtorch_error(err, 415, "unsupported_media_type",
                   "raw rows carry one tensor, %" PRIu32 " are expected: send "
                   "application/vnd.safetensors or application/json",
                   schema->ninputs);
    }

    spec = &schema->inputs[0];

    if (len == 0 || len % (size_t) spec->row_size
        || (!schema->batched && len != (size_t) spec->row_size))
    {
        return ngx_webtorch_error(err, 422, "wrong_shape",
                   "tensor \"%s\": expected %s %s, %" PRId64 " bytes a row, "
                   "found %zu bytes", spec->name,
                   ngx_webtorch_dtypes[spec->dtype].name,
                   ngx_webtorch_spec_shape(shape, spec, schema->batched),
                   spec->row_size, len);
    }

    batch = schema->batched ? 1 : 0;

    array.dtype = spec->dtype;
    array.ndim = (uint32_t) spec->ndim + batch;
    array.shape[0] = (int64_t) (len / (size_t) spec->row_size);
    memcpy(&array.shape[batch], spec->shape,
           (size_t) spec->ndim * sizeof(int64_t));
    array.data = body;
    array.len = len;

    layout->named = 0;

    return ngx_webtorch_arrays_read(&array, schema, sink, layout, err);
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


const ngx_webtorch_codec_t  ngx_webtorch_codec_raw = {
    .name = "raw",
    .types = { "application/octet-stream" },
    .decode = ngx_webtorch_raw_decode,
    .bound = ngx_webtorch_raw_bound,
    .frame = ngx_webtorch_raw_frame
};
