
/*
 * Fuzzes the reader of forms, and files of forms as rows: a line with the
 * content type, then the body.
 */

#include "fuzz_rows.h"

#include "ngx_webtorch_codec_file.h"
#include "ngx_webtorch_multipart.h"


/* less than some seeds have, so that both ends of a call are reached */
#define FUZZ_PARTS  3


static const webtorch_schema_t  fuzz_file_schema = {
    .batched = 1, .ninputs = 1, .input_strings = 1,
    .inputs = { { "files", WEBTORCH_BYTES, 0, { 0 }, 16 } }
};


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* copies bytes to memory of exactly their size */

static char *
fuzz_copy(const uint8_t *data, size_t size)
{
    char  *copy;

    copy = malloc(size ? size : 1);
    fuzz_check(copy != NULL, "no memory");

    if (size) {
        memcpy(copy, data, size);
    }

    return copy;
}


static void
fuzz_span(const webtorch_form_t *form, const webtorch_span_t *span)
{
    char    *text;
    size_t   len;

    fuzz_check(span->at <= form->len && span->len <= form->len - span->at,
               "a text is not in the body");

    text = malloc(span->len ? span->len : 1);
    len = ngx_webtorch_form_decode(form, span, text);
    fuzz_check(len <= span->len, "a text is longer when it is decoded");
    free(text);
}


static void
fuzz_part(const webtorch_form_t *form, const webtorch_part_t *part)
{
    const char  *data;

    fuzz_span(form, &part->name);
    fuzz_span(form, &part->filename);
    fuzz_span(form, &part->content_type);
    fuzz_span(form, &part->headers);
    fuzz_span(form, &part->data);

    fuzz_check(part->is_file || part->filename.len == 0,
               "a filename of a part that is no file");
    fuzz_check(part->headers.len <= NGX_WEBTORCH_MULTIPART_HEADERS,
               "the header lines are too long");
    fuzz_check(part->name.at + part->name.len
               <= part->headers.at + part->headers.len,
               "the name is not in the header lines");

    data = form->body + part->data.at;

    fuzz_check(memmem(data, part->data.len, form->boundary,
                      form->boundary_len) == NULL,
               "the data has a boundary");

    fuzz_check(part->data.len == 0
               || memcmp(data + part->data.len, form->boundary,
                         form->boundary_len) == 0,
               "no boundary is behind the data");
}


static void
fuzz_form(webtorch_form_t *form)
{
    int               i, n;
    uint64_t          at;
    webtorch_part_t   parts[FUZZ_PARTS];

    at = 0;

    do {
        n = ngx_webtorch_form_read(form, parts, FUZZ_PARTS);

        for (i = 0; i < n; i++) {
            fuzz_part(form, &parts[i]);
            fuzz_check(parts[i].headers.at > at, "parts are not in order");
            at = parts[i].headers.at;
        }

    } while (n == FUZZ_PARTS);

    fuzz_check(n < 0 || form->last, "the end was not read");
    fuzz_check(n >= 0 || (form->status >= 400 && form->message[0]),
               "an error without a message");
}


/* the rows are the files, and exactly their bytes are the text */

static void
fuzz_files(const char *type, size_t type_len, const char *body, size_t len)
{
    int                     rc;
    fuzz_rows_t             rows;
    ngx_webtorch_error_t    err;
    ngx_webtorch_layout_t   layout;

    memset(&rows, 0, sizeof(rows));
    memset(&layout, 0, sizeof(layout));
    memset(&err, 0, sizeof(err));

    rows.schema = &fuzz_file_schema;
    rows.sink.reserve = fuzz_reserve;
    rows.sink.limit = FUZZ_LIMIT;

    fuzz_check(ngx_webtorch_codec_takes_files(rows.schema), "no files");

    layout.type = type;
    layout.type_len = type_len;

    rc = ngx_webtorch_codec_files.decode(body, len, rows.schema, &rows.sink,
                                         &layout, &err);

    if (fuzz_decoded(rc, &err, &rows, &layout) == 0) {
        fuzz_check(ngx_webtorch_text_size(&rows.specs[0], rows.sink.data[0],
                                          layout.rows) == layout.text,
                   "the rows are not the text");
        fuzz_check(layout.text < len, "more text than body");
    }

    fuzz_allocated(&rows, 16 * len);
    fuzz_release(&rows);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char             *type, *body;
    size_t            type_len, len;
    const uint8_t    *eol;
    webtorch_form_t   form;

    eol = size ? memchr(data, '\n', size) : NULL;
    type_len = eol ? (size_t) (eol - data) : size;
    len = eol ? size - type_len - 1 : 0;

    type = fuzz_copy(data, type_len);
    body = fuzz_copy(data + size - len, len);

    memset(&form, 0xa5, sizeof(form));

    if (ngx_webtorch_form_open(&form, type, type_len, body, len) == 0) {
        fuzz_form(&form);

    } else {
        fuzz_check(form.status >= 400 && form.message[0],
                   "an error without a message");
    }

    fuzz_files(type, type_len, body, len);

    free(type);
    free(body);

    return 0;
}
