
/*
 * Fuzzes the check of files of torch.save(): a body must pass, or be refused
 * with a complete error.  Answers, with rows of the input's bytes, must be
 * written within bound(), and pass the check.
 */

#include "fuzz_rows.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* check() reserves no rows */

static const webtorch_schema_t  fuzz_nothing;


static int
fuzz_check_file(const char *text, size_t len)
{
    int                    rc;
    char                  *body;
    fuzz_rows_t            none = { .calls = 1, .schema = &fuzz_nothing };
    ngx_webtorch_error_t   err;
    ngx_webtorch_layout_t  layout = { 0 };

    body = malloc(len + 1);
    fuzz_check(body != NULL, "no memory");

    /* the extra byte is in front, so that the block ends with the body */

    if (len) {
        memcpy(body + 1, text, len);
    }

    memset(&err, 0, sizeof(err));

    rc = ngx_webtorch_codec_torch.check(body + 1, len, &err);

    free(body);

    return fuzz_decoded(rc, &err, &none, &layout);
}


static void
fuzz_write(const webtorch_schema_t *schema, const uint8_t *data, size_t size,
    ngx_webtorch_layout_t *layout)
{
    char        *text, *end;
    size_t       bound, len, i;
    uint32_t     k;
    fuzz_rows_t  rows = { .schema = schema };

    (void) fuzz_reserve(&rows.sink, layout, NULL);

    for (k = 0; k < schema->ninputs; k++) {
        len = layout->rows * (size_t) rows.specs[k].row_size;

        for (i = 0; i < len; i++) {
            ((uint8_t *) rows.sink.data[k])[i] = data[i % size];
        }
    }

    bound = ngx_webtorch_codec_bound(&ngx_webtorch_codec_torch, rows.specs,
                                     schema->ninputs, layout);
    text = malloc(bound);
    fuzz_check(text != NULL, "no memory");

    end = ngx_webtorch_codec_encode(&ngx_webtorch_codec_torch, text,
                                    rows.specs, schema->ninputs,
                                    (const void *const *) rows.sink.data,
                                    layout);

    fuzz_check(end > text && (size_t) (end - text) <= bound, "beyond bound()");
    fuzz_check(fuzz_check_file(text, (size_t) (end - text)) == 0,
               "what was written is refused");

    free(text);
    fuzz_release(&rows);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t                  i;
    ngx_webtorch_layout_t     layout = { 0 };
    const webtorch_schema_t  *schema;

    (void) fuzz_check_file((const char *) data, size);

    if (size == 0) {
        return 0;
    }

    schema = &fuzz_schemas[data[0] % (sizeof(fuzz_schemas)
                                      / sizeof(fuzz_schemas[0]))];

    layout.named = data[size - 1] & 1;
    layout.single = (data[size - 1] & 2) != 0;
    layout.rows = layout.single ? 1 : (uint32_t) size;

    for (i = 0; i < schema->nbound; i++) {
        layout.sizes[i] = 1 + data[size - 1] % 4;
    }

    /* the format has no strings */

    if (!schema->input_strings) {
        fuzz_write(schema, data, size, &layout);
    }

    return 0;
}
