
/*
 * Fuzzes one codec: FUZZ_CODEC is its table row.  decode() must either refuse a
 * body with a complete error, or fill the rows that it has reserved; encode()
 * must write these within bound(), and decode() must read them back.
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
    rows->sink.inflate = NULL;

    body = fuzz_body(text, len);
    memset(&err, 0, sizeof(err));

    rc = FUZZ_CODEC.decode(body, len, rows->schema, &rows->sink, layout, &err);

    free(body);

    return fuzz_decoded(rc, &err, rows, layout);
}


/* takes the shape, which is a header in HTTP, off the input's first line */

static int
fuzz_shape(const char **text, size_t *len, ngx_webtorch_shape_t *shape)
{
    size_t       n;
    const char  *end;

    end = *len ? memchr(*text, '\n', *len) : NULL;

    if (end == NULL) {
        return -1;
    }

    n = (size_t) (end - *text);

    memset(shape, 0, sizeof(ngx_webtorch_shape_t));

    if (ngx_webtorch_parse_shape(shape, *text, n) != 0) {
        return -1;
    }

    *text += n + 1;
    *len -= n + 1;

    return 0;
}


static void
fuzz_round_trip(fuzz_rows_t *rows, ngx_webtorch_layout_t *layout)
{
    char                   *text, *end;
    size_t                  bound;
    uint32_t                i;
    fuzz_rows_t             again = { .schema = rows->schema };
    const webtorch_spec_t  *specs = rows->specs;
    ngx_webtorch_layout_t   found = { 0 };
    ngx_webtorch_shape_t    shape;

    if (layout->shape != NULL) {
        shape.ndim = ngx_webtorch_array_shape(shape.sizes, specs, layout);
        found.shape = &shape;
    }

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


/*
 * Plain rows and tables in JSON have readers of their own.  A byte order mark
 * makes the other one read them, which must find the same.
 */

static void
fuzz_plain(fuzz_rows_t *rows, ngx_webtorch_layout_t *layout, int rc,
    const char *text, size_t len)
{
    char                   *marked;
    uint32_t                i;
    fuzz_rows_t             other = { .schema = rows->schema };
    ngx_webtorch_layout_t   found = { 0 };

    if (&FUZZ_CODEC != &ngx_webtorch_codec_json || len == 0 || *text != '[') {
        return;
    }

    marked = malloc(len + 3);
    fuzz_check(marked != NULL, "no memory");

    memcpy(marked, "\xef\xbb\xbf", 3);
    memcpy(marked + 3, text, len);

    fuzz_check(fuzz_decode(marked, len + 3, &other, &found) == rc,
               "one reader refuses the body");

    if (rc == 0) {
        fuzz_check(found.rows == layout->rows && found.text == layout->text
                   && found.named == layout->named
                   && found.single == layout->single
                   && found.records == layout->records
                   && found.absent == layout->absent, "layouts differ");

        for (i = 0; i < ngx_webtorch_buffers(rows->schema); i++) {
            fuzz_check(fuzz_same(&rows->specs[i], rows->sink.data[i],
                                 other.sink.data[i], layout->rows),
                       "elements differ");
        }
    }

    fuzz_release(&other);
    free(marked);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int                     rc;
    size_t                  i, len;
    const char             *text;
    fuzz_rows_t             rows;
    ngx_webtorch_shape_t    shape;
    ngx_webtorch_layout_t   layout;

    for (i = 0; i < sizeof(fuzz_schemas) / sizeof(fuzz_schemas[0]); i++) {

        if (fuzz_schemas[i].input_strings && !FUZZ_CODEC.strings) {
            continue;
        }

        memset(&rows, 0, sizeof(rows));
        memset(&layout, 0, sizeof(layout));
        rows.schema = &fuzz_schemas[i];

        text = (const char *) data;
        len = size;

        if (FUZZ_CODEC.shapeless && fuzz_shape(&text, &len, &shape) == 0) {
            layout.shape = &shape;
        }

        rc = fuzz_decode(text, len, &rows, &layout);
        fuzz_plain(&rows, &layout, rc, text, len);

        if (rc == 0) {
            fuzz_round_trip(&rows, &layout);
        }

        fuzz_allocated(&rows, size);
        fuzz_release(&rows);
    }

    return 0;
}
