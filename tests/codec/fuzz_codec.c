
/*
 * Fuzzes one codec: FUZZ_CODEC is its table row.  Whatever the body, decode()
 * either refuses it with an error that can be answered, or fills the rows it
 * asked for, which encode() writes within bound() and decode() reads back.
 */

#include "fuzz_rows.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static int
fuzz_decode(const char *text, size_t len, fuzz_rows_t *rows,
    ngx_webtorch_layout_t *layout)
{
    int                    rc;
    char                  *body;
    ngx_webtorch_error_t   err;

    rows->sink.reserve = fuzz_reserve;
    rows->sink.limit = FUZZ_LIMIT;

    body = fuzz_body(text, len);
    memset(&err, 0, sizeof(err));

    rc = FUZZ_CODEC.decode(body, len, rows->schema, &rows->sink, layout, &err);

    free(body);

    return fuzz_decoded(rc, &err, rows, layout);
}


static void
fuzz_round_trip(fuzz_rows_t *rows, ngx_webtorch_layout_t *layout)
{
    char                   *text, *end;
    size_t                  bound;
    uint32_t                i;
    fuzz_rows_t             again = { .schema = rows->schema };
    const webtorch_spec_t  *specs = rows->schema->inputs;
    ngx_webtorch_layout_t   found = { 0 };

    bound = ngx_webtorch_codec_bound(&FUZZ_CODEC, specs,
                                     rows->schema->ninputs, layout);
    text = malloc(bound);
    fuzz_check(text != NULL, "no memory");

    end = ngx_webtorch_codec_encode(&FUZZ_CODEC, text, specs,
                                    rows->schema->ninputs,
                                    (const void *const *) rows->sink.data,
                                    layout);

    fuzz_check(end > text && (size_t) (end - text) <= bound, "beyond bound()");
    fuzz_check(fuzz_decode(text, (size_t) (end - text), &again, &found) == 0,
               "what was encoded is not decoded");
    fuzz_check(found.rows == layout->rows && found.named == layout->named
               && found.single == layout->single, "another layout");

    for (i = 0; i < rows->schema->ninputs; i++) {
        fuzz_check(fuzz_same(&specs[i], rows->sink.data[i], again.sink.data[i],
                             layout->rows),
                   "other elements");
    }

    fuzz_release(&again);
    free(text);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                  i;
    fuzz_rows_t             rows;
    ngx_webtorch_layout_t   layout;

    for (i = 0; i < sizeof(fuzz_schemas) / sizeof(fuzz_schemas[0]); i++) {

        memset(&rows, 0, sizeof(rows));
        memset(&layout, 0, sizeof(layout));
        rows.schema = &fuzz_schemas[i];

        if (fuzz_decode((const char *) data, size, &rows, &layout) == 0) {
            fuzz_round_trip(&rows, &layout);
        }

        fuzz_allocated(&rows, size);
        fuzz_release(&rows);
    }

    return 0;
}
