
/*
 * Fuzzes the Open Inference Protocol.  The length of the JSON, a header in HTTP,
 * is the number in the first line of the input; without one the JSON is the
 * whole body.  The outputs of the schema are its inputs, so that the answer can
 * be decoded after the word "outputs" in it is replaced.
 */

#include "ngx_webtorch_oip_generate.h"
#include "ngx_webtorch_oip_reply.h"

#include "fuzz_rows.h"


#define FUZZ_NAME     "app:output"

#define FUZZ_OUTPUTS  ",\"outputs\":["
#define FUZZ_INPUTS   ",\"inputs\": ["


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static int
fuzz_decode(const char *text, size_t len, size_t json, fuzz_rows_t *rows,
    ngx_webtorch_layout_t *layout, ngx_webtorch_oip_t *oip)
{
    int                    rc;
    char                  *body;
    uint32_t               i;
    ngx_webtorch_error_t   err;

    rows->sink.reserve = fuzz_reserve;
    rows->sink.limit = FUZZ_LIMIT;

    body = fuzz_body(text, len);
    memset(&err, 0, sizeof(err));
    memset(oip, FUZZ_GARBAGE, sizeof(ngx_webtorch_oip_t));

    rc = ngx_webtorch_oip_decode(body, len, json, rows->schema, &rows->sink,
                                 layout, oip, &err);

    free(body);

    if (fuzz_decoded(rc, &err, rows, layout) != 0) {
        return -1;
    }

    fuzz_check(oip->id_len <= NGX_WEBTORCH_OIP_ID_LEN, "the id is too long");
    fuzz_check(oip->noutputs > 0 && oip->noutputs <= rows->schema->noutputs,
               "no outputs, or too many");
    fuzz_check(oip->binary >> oip->noutputs == 0, "bits of no output");

    for (i = 0; i < oip->noutputs; i++) {
        fuzz_check(oip->outputs[i] < rows->schema->noutputs, "no output");
    }

    return 0;
}


/* the same bytes as a request of the generate extension */

static void
fuzz_generate(const char *text, size_t len, const webtorch_schema_t *schema)
{
    char                   *body;
    fuzz_rows_t             rows = { .schema = schema };
    ngx_webtorch_oip_t      oip;
    ngx_webtorch_error_t    err = { 0 };
    ngx_webtorch_layout_t   layout = { 0 };

    rows.sink.reserve = fuzz_reserve;
    rows.sink.limit = FUZZ_LIMIT;

    body = fuzz_body(text, len);

    if (fuzz_decoded(ngx_webtorch_oip_generate_decode(body, len, schema,
                                                      &rows.sink, &layout,
                                                      &oip, &err),
                     &err, &rows, &layout)
        == 0)
    {
        fuzz_check(oip.id_len <= NGX_WEBTORCH_OIP_ID_LEN, "the id is too long");
    }

    free(body);

    fuzz_allocated(&rows, len);
    fuzz_release(&rows);
}


/* JSON has no NaN and no infinities, and its strings must be UTF-8 */

static int
fuzz_is_json(const webtorch_spec_t *spec, const void *data, uint32_t rows)
{
    uint64_t                i, k, n;
    const char             *p;
    const webtorch_text_t  *text;

    n = rows * ngx_webtorch_row_elements(spec);

    if (!ngx_webtorch_is_string(spec->dtype)) {
        return ngx_webtorch_finite(spec->dtype, data, n);
    }

    text = data;

    for (i = 0; i < n; i++) {
        p = (const char *) (uintptr_t) text[i].at;

        for (k = 0; k < text[i].len; k++) {
            if (p[k] & 0x80) {
                return 0;
            }
        }
    }

    return 1;
}


static void
fuzz_make_binary(const fuzz_rows_t *rows, ngx_webtorch_oip_t *oip)
{
    uint32_t  i, k;

    for (i = 0; i < oip->noutputs; i++) {
        k = oip->outputs[i];

        if (!fuzz_is_json(&rows->specs[k], rows->sink.data[k], rows->rows)) {
            oip->binary |= 1u << i;
        }
    }
}


static void
fuzz_round_trip(fuzz_rows_t *rows, ngx_webtorch_layout_t *layout,
    ngx_webtorch_oip_t *oip)
{
    char                   *text, *json, *end, *outputs;
    size_t                  bound, binary;
    uint32_t                i, k;
    fuzz_rows_t             again = { .schema = rows->schema };
    ngx_webtorch_oip_t      other;
    const webtorch_spec_t  *specs = rows->specs;
    ngx_webtorch_layout_t   found = { 0 };

    fuzz_make_binary(rows, oip);

    for (binary = 0, i = 0; i < oip->noutputs; i++) {
        k = oip->outputs[i];
        binary += ngx_webtorch_oip_size(&specs[k], rows->sink.data[k],
                                        layout->rows);
    }

    bound = ngx_webtorch_oip_bound(oip, sizeof(FUZZ_NAME) - 1, specs, layout);
    text = malloc(bound + binary);
    fuzz_check(text != NULL, "no memory");

    json = ngx_webtorch_oip_encode(text, oip, FUZZ_NAME, sizeof(FUZZ_NAME) - 1,
                                   specs,
                                   (const void *const *) rows->sink.data,
                                   layout);

    fuzz_check(json > text && (size_t) (json - text) <= bound,
               "beyond bound()");

    outputs = memmem(text, (size_t) (json - text), FUZZ_OUTPUTS,
                     sizeof(FUZZ_OUTPUTS) - 1);
    fuzz_check(outputs != NULL, "no outputs");
    memcpy(outputs, FUZZ_INPUTS, sizeof(FUZZ_INPUTS) - 1);

    for (end = json, i = 0; i < oip->noutputs; i++) {
        if (oip->binary & (1u << i)) {
            k = oip->outputs[i];
            end = ngx_webtorch_oip_pack(end, &specs[k], rows->sink.data[k],
                                        layout->rows);
        }
    }

    if (oip->noutputs == rows->schema->ninputs) {
        fuzz_check(fuzz_decode(text, (size_t) (end - text),
                               (size_t) (json - text), &again, &found, &other)
                   == 0,
                   "what was encoded is not decoded");
        fuzz_check(found.rows == layout->rows
                   && found.single == layout->single, "another layout");
        fuzz_check(other.id_len == oip->id_len
                   && memcmp(other.id, oip->id, oip->id_len) == 0,
                   "another id");

        for (i = 0; i < rows->schema->ninputs; i++) {
            fuzz_check(fuzz_same(&specs[i], rows->sink.data[i],
                                 again.sink.data[i], layout->rows),
                       "other elements");
        }

        fuzz_release(&again);
    }

    free(text);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                  i, json;
    const char             *text, *end;
    fuzz_rows_t             rows;
    webtorch_schema_t       schema;
    ngx_webtorch_oip_t      oip;
    ngx_webtorch_layout_t   layout;

    text = (const char *) data;
    end = text + size;
    json = 0;

    while (text < end && *text >= '0' && *text <= '9' && json < 1000000) {
        json = json * 10 + (size_t) (*text++ - '0');
    }

    if (text < end && *text == '\n' && text != (const char *) data) {
        text++;

    } else {
        text = (const char *) data;
        json = size;
    }

    for (i = 0; i < sizeof(fuzz_schemas) / sizeof(fuzz_schemas[0]); i++) {

        schema = fuzz_schemas[i];
        schema.noutputs = schema.ninputs;
        memcpy(schema.outputs, schema.inputs, sizeof(schema.outputs));

        memset(&rows, 0, sizeof(rows));
        memset(&layout, 0, sizeof(layout));
        rows.schema = &schema;

        if (fuzz_decode(text, (size_t) (end - text), json, &rows, &layout,
                        &oip)
            == 0)
        {
            fuzz_round_trip(&rows, &layout, &oip);
        }

        fuzz_allocated(&rows, size);
        fuzz_release(&rows);

        fuzz_generate(text, (size_t) (end - text), &schema);
    }

    return 0;
}
