
/*
 * Schemas, rows and checks that the fuzzers of codecs share.
 */


#ifndef _FUZZ_ROWS_H_INCLUDED_
#define _FUZZ_ROWS_H_INCLUDED_


#include "ngx_webtorch_codec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/*
 * Bytes that may be allocated for each byte of the body, beyond one row: an
 * element has 8 bytes in memory, and no body has less than one for it.
 */
#ifndef FUZZ_MAX_FACTOR
#define FUZZ_MAX_FACTOR  8
#endif

/* bodies of libFuzzer can inflate to more, so that the limit is tested */
#define FUZZ_LIMIT       (256 * 1024)

/* the padding after a body: a parser that interprets it reads a digit */
#define FUZZ_GARBAGE     '7'

#define fuzz_check(condition, what)                                           \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);             \
        abort();                                                              \
    }


typedef struct {
    ngx_webtorch_sink_t        sink;
    const webtorch_schema_t   *schema;
    webtorch_spec_t            specs[WEBTORCH_MAX_BUFFERS];   /* with sizes */
    char                      *text;      /* the bytes of all strings */
    uint64_t                   bytes;     /* of all inputs */
    uint32_t                   rows;
    int                        calls;
} fuzz_rows_t;


#define fuzz_spec_1(name, dtype, size, n)                                     \
    { name, dtype, 1, { n }, (size) * (n) }
#define fuzz_spec_2(name, dtype, size, n, m)                                  \
    { name, dtype, 2, { n, m }, (size) * (n) * (m) }
#define fuzz_spec_0(name, dtype, size)                                        \
    { name, dtype, 0, { 0 }, size }


static const webtorch_schema_t  fuzz_schemas[] = {
    { .batched = 1, .ninputs = 4, .input_strings = 1,
      .nmasks = 2, .noptional = 1,
      .inputs = { fuzz_spec_0("x", WEBTORCH_FLOAT32, 4),
                  fuzz_spec_0("label", WEBTORCH_INT64, 8),
                  fuzz_spec_0("s", WEBTORCH_STR, 16),
                  fuzz_spec_0("mask", WEBTORCH_BOOL, 1),
                  fuzz_spec_0("label", WEBTORCH_BOOL, 1),
                  fuzz_spec_0("s", WEBTORCH_BOOL, 1) },
      .gaps = { { .flags = WEBTORCH_MISSING },
                { .flags = WEBTORCH_MISSING, .mask = 4 },
                { .flags = WEBTORCH_MISSING, .mask = 5 },
                { .flags = WEBTORCH_OPTIONAL } } },
    { .batched = 1, .ninputs = 4, .input_strings = 1, .nmasks = 2,
      .inputs = { fuzz_spec_0("x", WEBTORCH_FLOAT32, 4),
                  fuzz_spec_0("label", WEBTORCH_INT16, 2),
                  fuzz_spec_0("s", WEBTORCH_STR, 16),
                  fuzz_spec_0("mask", WEBTORCH_BOOL, 1),
                  fuzz_spec_0("label", WEBTORCH_BOOL, 1),
                  fuzz_spec_0("s", WEBTORCH_BOOL, 1) },
      .gaps = { { .flags = WEBTORCH_MISSING },
                { .flags = WEBTORCH_MISSING, .mask = 4 },
                { .flags = WEBTORCH_MISSING, .mask = 5 },
                { 0 } } },
    { .batched = 1, .ninputs = 2,
      .inputs = { fuzz_spec_0("x", WEBTORCH_FLOAT64, 8),
                  fuzz_spec_0("label", WEBTORCH_UINT64, 8) } },
    { .batched = 1, .ninputs = 3, .input_strings = 1,
      .inputs = { fuzz_spec_0("x", WEBTORCH_FLOAT64, 8),
                  fuzz_spec_1("label", WEBTORCH_INT16, 2, 2),
                  fuzz_spec_0("s", WEBTORCH_STR, 16) },
      .gaps = { { 0 },
                { .flags = WEBTORCH_DEFAULT, .len = 4, .value = "abc" },
                { .flags = WEBTORCH_DEFAULT, .len = 3, .value = "xyz" } } },
    { .batched = 1, .ninputs = 4, .input_strings = 1, .nmasks = 2,
      .inputs = { fuzz_spec_0("x", WEBTORCH_FLOAT32, 4),
                  fuzz_spec_0("label", WEBTORCH_STR, 16),
                  fuzz_spec_0("s", WEBTORCH_STR, 16),
                  fuzz_spec_1("mask", WEBTORCH_BYTES, 16, 2),
                  fuzz_spec_0("s", WEBTORCH_BOOL, 1),
                  fuzz_spec_1("mask", WEBTORCH_BOOL, 1, 2) },
      .gaps = { { 0 },
                { .flags = WEBTORCH_OPTIONAL|WEBTORCH_DEFAULT, .len = 7,
                  .value = "unknown" },
                { .flags = WEBTORCH_MISSING|WEBTORCH_DEFAULT, .mask = 4,
                  .len = 5, .value = "empty" },
                { .flags = WEBTORCH_MISSING|WEBTORCH_DEFAULT, .mask = 5,
                  .len = 3, .value = "two" } } },
    { .batched = 1, .ninputs = 3, .nmasks = 1, .noptional = 1,
      .inputs = { fuzz_spec_0("x", WEBTORCH_FLOAT32, 4),
                  fuzz_spec_1("mask", WEBTORCH_INT64, 8, 500),
                  fuzz_spec_1("label", WEBTORCH_FLOAT32, 4, 1000),
                  fuzz_spec_1("mask", WEBTORCH_BOOL, 1, 500) },
      .gaps = { { 0 },
                { .flags = WEBTORCH_OPTIONAL|WEBTORCH_MISSING, .mask = 3 },
                { .flags = WEBTORCH_DEFAULT, .len = 4, .value = "abc" } } },
    { .batched = 1, .ninputs = 2, .input_strings = 1,
      .naxes = 1, .nbound = 1, .axes = { "n" },
      .inputs = { { "x", WEBTORCH_STR, 1, { -1 }, 16 },
                  { "label", WEBTORCH_INT64, 0, { 0 }, 8 } } },
    { .batched = 1, .ninputs = 1, .input_strings = 1,
      .inputs = { { "x", WEBTORCH_BYTES, 1, { 2 }, 32 } } },
    { .batched = 0, .ninputs = 1, .input_strings = 1,
      .inputs = { { "x", WEBTORCH_STR, 0, { 0 }, 16 } } },
    { .batched = 1, .ninputs = 1, .naxes = 1, .nbound = 1, .axes = { "n" },
      .inputs = { { "x", WEBTORCH_INT64, 1, { -1 }, 8 } } },
    { .batched = 1, .ninputs = 1, .naxes = 2, .nbound = 2, .axes = { "n", "m" },
      .inputs = { { "x", WEBTORCH_FLOAT32, 3, { -1, 2, -2 }, 8 } } },
    { .batched = 0, .ninputs = 1, .naxes = 1, .nbound = 1, .axes = { "n" },
      .inputs = { { "x", WEBTORCH_FLOAT64, 2, { -1, -1 }, 8 } } },
    { .batched = 0, .ninputs = 1, .naxes = 1, .nbound = 1, .axes = { "n" },
      .inputs = { { "mask", WEBTORCH_BOOL, 1, { -1 }, 1 } } },
    { .batched = 1, .ninputs = 2, .naxes = 1, .nbound = 1, .axes = { "n" },
      .inputs = { { "x", WEBTORCH_FLOAT32, 2, { -1, 2 }, 8 },
                  { "label", WEBTORCH_INT64, 1, { -1 }, 8 } } },
    { .batched = 1, .ninputs = 1,
      .inputs = { fuzz_spec_1("x", WEBTORCH_FLOAT32, 4, 2) } },
    { .batched = 1, .ninputs = 1,
      .inputs = { fuzz_spec_2("x", WEBTORCH_FLOAT64, 8, 2, 3) } },
    { .batched = 1, .ninputs = 1,
      .inputs = { fuzz_spec_0("label", WEBTORCH_INT64, 8) } },
    { .batched = 0, .ninputs = 1,
      .inputs = { fuzz_spec_1("mask", WEBTORCH_BOOL, 1, 3) } },
    { .batched = 0, .ninputs = 1,
      .inputs = { fuzz_spec_0("x", WEBTORCH_FLOAT64, 8) } },
    { .batched = 1, .ninputs = 1,
      .inputs = { fuzz_spec_1("x", WEBTORCH_FLOAT16, 2, 2) } },
    { .batched = 1, .ninputs = 1,
      .inputs = { fuzz_spec_1("x", WEBTORCH_BFLOAT16, 2, 2) } },
    { .batched = 1, .ninputs = 1,
      .inputs = { fuzz_spec_1("x", WEBTORCH_UINT8, 1, 4) } },
    { .batched = 1, .ninputs = 1,
      .inputs = { fuzz_spec_1("x", WEBTORCH_INT16, 2, 2) } },
    { .batched = 1, .ninputs = 1,
      .inputs = { fuzz_spec_0("x", WEBTORCH_UINT64, 8) } },
    { .batched = 1, .ninputs = 2,
      .inputs = { fuzz_spec_1("x", WEBTORCH_FLOAT32, 4, 2),
        fuzz_spec_0("label", WEBTORCH_INT64, 8) } },
};


static void
fuzz_release(fuzz_rows_t *rows)
{
    uint32_t  i;

    for (i = 0; i < ngx_webtorch_buffers(rows->schema); i++) {
        free(rows->sink.data[i]);
        rows->sink.data[i] = NULL;
    }

    free(rows->text);
    rows->text = NULL;
}


/* blocks have exactly the rows' size, so that a sanitizer detects overruns */

static int
fuzz_reserve(ngx_webtorch_sink_t *sink, const ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    size_t        size;
    uint32_t      i;
    fuzz_rows_t  *rows = (fuzz_rows_t *) sink;

    fuzz_check(rows->calls++ == 0, "reserve() is called twice");
    fuzz_check(layout->rows > 0, "reserve() of no rows");

    for (i = 0; i < rows->schema->nbound; i++) {
        fuzz_check(layout->sizes[i] > 0, "an axis has no size");
    }

    rows->rows = layout->rows;

    for (i = 0; i < ngx_webtorch_buffers(rows->schema); i++) {
        ngx_webtorch_resolve(&rows->specs[i], &rows->schema->inputs[i],
                             layout->sizes);

        size = rows->rows * ngx_webtorch_buffer_row_size(rows->schema, i,
                                                         layout->sizes);
        sink->data[i] = malloc(size);

        fuzz_check(sink->data[i] != NULL, "no memory");

        if (i < rows->schema->ninputs) {
            rows->bytes += size;
        }
    }

    if (layout->text) {
        rows->text = malloc(layout->text);
        fuzz_check(rows->text != NULL, "no memory");
    }

    sink->text = rows->text;
    sink->at = 0;

    return 0;
}


/* absent inputs get rows of zeros, to be encoded as others are */

static void
fuzz_set_absent(fuzz_rows_t *rows, const ngx_webtorch_layout_t *layout)
{
    uint32_t  i;

    for (i = 0; i < ngx_webtorch_buffers(rows->schema); i++) {

        if (ngx_webtorch_buffer_row_size(rows->schema, i, layout->sizes)) {
            continue;
        }

        free(rows->sink.data[i]);
        rows->sink.data[i] = calloc(rows->rows,
                                    (size_t) rows->specs[i].row_size);
        fuzz_check(rows->sink.data[i] != NULL, "no memory");
    }
}


/* turns inputs into outputs, whose strings have addresses, not offsets */

static void
fuzz_set_addresses(fuzz_rows_t *rows)
{
    uint32_t          i;
    uint64_t          k;
    webtorch_text_t  *text;

    for (i = 0; i < rows->schema->ninputs; i++) {

        if (!ngx_webtorch_is_string(rows->specs[i].dtype)) {
            continue;
        }

        text = rows->sink.data[i];
        k = rows->rows * ngx_webtorch_row_elements(&rows->specs[i]);

        while (k--) {
            text[k].at += (uint64_t) (uintptr_t) rows->text;
        }
    }
}


/* returns a copy of the body, followed by the padding that may be read */

static char *
fuzz_body(const char *text, size_t len)
{
    char  *body;

    body = malloc(len + NGX_WEBTORCH_PADDING);
    fuzz_check(body != NULL, "no memory");

    if (len) {
        memcpy(body, text, len);
    }

    memset(body + len, FUZZ_GARBAGE, NGX_WEBTORCH_PADDING);

    return body;
}


/* checks the error if decode() returned one, else the rows */

static int
fuzz_decoded(int rc, const ngx_webtorch_error_t *err, fuzz_rows_t *rows,
    const ngx_webtorch_layout_t *layout)
{
    if (rc != 0) {
        fuzz_check(err->status >= 400 && err->status < 600, "no status");
        fuzz_check(err->code != NULL && *err->code, "no code");
        fuzz_check(*err->text, "no text");
        fuzz_check(memchr(err->text, '\0', NGX_WEBTORCH_ERROR_LEN) != NULL,
                   "the text does not end");
        return -1;
    }

    fuzz_check(rows->calls == 1, "rows were not reserved");
    fuzz_check(rows->rows == layout->rows, "not as many rows as were reserved");

    fuzz_set_absent(rows, layout);

    if (rows->schema->input_strings) {
        fuzz_check(rows->sink.at == layout->text, "not all of the text");
        fuzz_set_addresses(rows);
    }

    return 0;
}


static double
fuzz_float(const webtorch_spec_t *spec, const void *data, uint64_t i)
{
    switch (spec->dtype) {
    case WEBTORCH_FLOAT16:
        return (double) ngx_webtorch_from_float16(((const uint16_t *) data)[i]);
    case WEBTORCH_BFLOAT16:
        return (double) ngx_webtorch_from_bfloat16(((const uint16_t *) data)[i]);
    case WEBTORCH_FLOAT32:
        return (double) ((const float *) data)[i];
    default:
        return ((const double *) data)[i];
    }
}


/* returns 1 if both have the same bits, or if both are NaN with any payload */

static int
fuzz_same_float(const webtorch_spec_t *spec, const void *a, const void *b,
    uint64_t i)
{
    size_t  size = ngx_webtorch_dtypes[spec->dtype].size;

    return memcmp((const char *) a + i * size, (const char *) b + i * size,
                  size) == 0
           || (isnan(fuzz_float(spec, a, i)) && isnan(fuzz_float(spec, b, i)));
}


static int
fuzz_same_text(const webtorch_text_t *a, const webtorch_text_t *b)
{
    return a->len == b->len
           && (a->len == 0
               || memcmp((const void *) (uintptr_t) a->at,
                         (const void *) (uintptr_t) b->at, a->len)
                  == 0);
}


static int
fuzz_same(const webtorch_spec_t *spec, const void *a, const void *b,
    uint32_t rows)
{
    uint64_t  i, n;

    n = rows * ngx_webtorch_row_elements(spec);

    switch (spec->dtype) {

    case WEBTORCH_FLOAT16:
    case WEBTORCH_BFLOAT16:
    case WEBTORCH_FLOAT32:
    case WEBTORCH_FLOAT64:

        for (i = 0; i < n; i++) {
            if (!fuzz_same_float(spec, a, b, i)) {
                return 0;
            }
        }

        return 1;

    case WEBTORCH_STR:
    case WEBTORCH_BYTES:

        for (i = 0; i < n; i++) {
            if (!fuzz_same_text((const webtorch_text_t *) a + i,
                                (const webtorch_text_t *) b + i))
            {
                return 0;
            }
        }

        return 1;

    default:
        return memcmp(a, b, (size_t) spec->row_size * rows) == 0;
    }
}


static void
fuzz_allocated(const fuzz_rows_t *rows, size_t size)
{
    fuzz_check((rows->rows <= 1 && rows->schema->naxes == 0)
               || rows->bytes <= FUZZ_MAX_FACTOR * size * rows->schema->ninputs
                                 + FUZZ_LIMIT,
               "more is allocated than the body can hold");
}


#endif /* _FUZZ_ROWS_H_INCLUDED_ */
