
/*
 * Rows of absent inputs and missing elements.
 */

#include "ngx_webtorch_gaps.h"

#include <inttypes.h>
#include <string.h>


static size_t ngx_webtorch_gaps_text(const webtorch_schema_t *schema,
    const ngx_webtorch_layout_t *layout);
static void ngx_webtorch_gaps_repeat(void *p, const void *value, size_t size,
    size_t len);


int
ngx_webtorch_gaps_absent(const webtorch_schema_t *schema, uint32_t seen,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    uint32_t  i;

    if (seen == 0) {
        return ngx_webtorch_error_missing(err, &schema->inputs[0]);
    }

    for (i = 0; i < schema->ninputs; i++) {

        if (seen & (1u << i)) {
            continue;
        }

        if (!ngx_webtorch_gaps_has(schema, i,
                                   WEBTORCH_OPTIONAL|WEBTORCH_DEFAULT))
        {
            return ngx_webtorch_error_missing(err, &schema->inputs[i]);
        }

        layout->absent |= 1u << i;

        if (!ngx_webtorch_gaps_has(schema, i, WEBTORCH_DEFAULT)) {
            layout->sizes[WEBTORCH_ABSENT] |= (int64_t) 1 << i;
        }
    }

    return 0;
}


int
ngx_webtorch_gaps_reserve(const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    uint32_t  i;
    uint64_t  size;

    if (layout->absent) {

        /* axes that only absent inputs have */

        for (i = 0; i < schema->nbound; i++) {
            if (layout->sizes[i] < 0) {
                layout->sizes[i] = 1;
            }
        }

        layout->text += ngx_webtorch_gaps_text(schema, layout);

        if (ngx_webtorch_gaps_limit(schema, sink, layout, UINT64_MAX, err)
            != 0)
        {
            return -1;
        }
    }

    if (sink->reserve(sink, layout, err) != 0) {
        return -1;
    }

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {

        if (i < schema->ninputs && !(layout->absent & (1u << i))) {
            continue;
        }

        size = layout->rows * ngx_webtorch_buffer_row_size(schema, i,
                                                           layout->sizes);

        if (size == 0) {
            continue;
        }

        if (i < schema->ninputs
            && ngx_webtorch_gaps_has(schema, i, WEBTORCH_DEFAULT))
        {
            size /= ngx_webtorch_dtypes[schema->inputs[i].dtype].size;
            ngx_webtorch_gaps_fill(schema, sink, i, sink->data[i], size);

        } else {
            memset(sink->data[i], 0, size);
        }
    }

    return 0;
}


int
ngx_webtorch_gaps_limit(const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, const ngx_webtorch_layout_t *layout,
    uint64_t elements, ngx_webtorch_error_t *err)
{
    uint64_t                n, size;
    uint32_t                i;
    const webtorch_spec_t  *spec;

    size = 0;

    for (i = 0; i < schema->ninputs; i++) {

        if (!ngx_webtorch_gaps_has(schema, i, WEBTORCH_DEFAULT)) {
            continue;
        }

        spec = &schema->inputs[i];
        n = ngx_webtorch_row_size(spec, layout->sizes);

        /* one row without variable axes is as large as the signature says */

        if (layout->rows <= 1 && n == (uint64_t) spec->row_size) {
            continue;
        }

        n /= ngx_webtorch_dtypes[spec->dtype].size;

        if (__builtin_mul_overflow(n, layout->rows, &n)) {
            n = UINT64_MAX;
        }

        if (!(layout->absent & (1u << i))) {
            n -= (n < elements) ? n : elements;
        }

        if (__builtin_mul_overflow(n, ngx_webtorch_dtypes[spec->dtype].size, &n)
            || __builtin_add_overflow(size, n, &size)
            || size > sink->limit)
        {
            return ngx_webtorch_error(err, 413, "too_many_rows",
                       "tensor \"%s\": the defaults of %" PRIu32 " row%s are "
                       "larger than \"client_max_body_size\" allows",
                       spec->name, layout->rows, layout->rows == 1 ? "" : "s");
        }
    }

    return 0;
}


/* returns the bytes of the default strings of absent inputs */

static size_t
ngx_webtorch_gaps_text(const webtorch_schema_t *schema,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size;
    uint32_t  i;

    size = 0;

    for (i = 0; i < schema->ninputs; i++) {
        if ((layout->absent & (1u << i))
            && ngx_webtorch_is_string(schema->inputs[i].dtype))
        {
            size += schema->gaps[i].len;
        }
    }

    return size;
}


void
ngx_webtorch_gaps_fill(const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, uint32_t input, void *p, uint64_t elements)
{
    size_t                 size;
    webtorch_text_t        text;
    const webtorch_gap_t  *gap;

    gap = &schema->gaps[input];
    size = elements * ngx_webtorch_dtypes[schema->inputs[input].dtype].size;

    if (!ngx_webtorch_is_string(schema->inputs[input].dtype)) {
        ngx_webtorch_gaps_repeat(p, gap->value, size, gap->len);
        return;
    }

    text.at = sink->at;
    text.len = gap->len;

    if (gap->len) {
        memcpy(sink->text, gap->value, gap->len);
        sink->text += gap->len;
        sink->at += gap->len;
    }

    ngx_webtorch_gaps_repeat(p, &text, size, sizeof(webtorch_text_t));
}


/* size: bytes, a multiple of len */

static void
ngx_webtorch_gaps_repeat(void *p, const void *value, size_t size, size_t len)
{
    size_t  done;

    if (size == 0) {
        return;
    }

    memcpy(p, value, len);

    /* doubles the filled part, so that few copies are made */

    for (done = len; done < size; done += len) {
        len = (done < size - done) ? done : size - done;
        memcpy((char *) p + done, p, len);
    }
}


int
ngx_webtorch_gaps_set(const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, uint32_t input, void *p)
{
    size_t                   at;
    double                   nan;
    uint16_t                 bits;
    const webtorch_gap_t    *gap;
    const webtorch_spec_t   *spec;

    gap = &schema->gaps[input];
    spec = &schema->inputs[input];

    if (!(gap->flags & WEBTORCH_MISSING)) {
        return -1;
    }

    if (gap->mask) {
        at = (size_t) ((char *) p - (char *) sink->data[input])
             / ngx_webtorch_dtypes[spec->dtype].size;

        memset(p, 0, ngx_webtorch_dtypes[spec->dtype].size);
        ((uint8_t *) sink->data[gap->mask])[at] = 1;

        return 0;
    }

    nan = __builtin_nan("");

    switch (spec->dtype) {

    case WEBTORCH_FLOAT64:
        *(double *) p = nan;
        break;

    case WEBTORCH_FLOAT32:
        *(float *) p = (float) nan;
        break;

    default: /* WEBTORCH_FLOAT16, WEBTORCH_BFLOAT16 */
        bits = (spec->dtype == WEBTORCH_FLOAT16) ? ngx_webtorch_float16(nan)
                                                 : ngx_webtorch_bfloat16(nan);
        memcpy(p, &bits, sizeof(uint16_t));
        break;
    }

    return 0;
}
