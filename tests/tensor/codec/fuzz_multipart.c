
/* Fuzzes the reader of forms: a line with the content type, then the body. */

#include "ngx_webtorch_multipart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define fuzz_check(condition, what)                                           \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);             \
        abort();                                                              \
    }

/* less than some seeds have, so that both ends of a call are reached */
#define FUZZ_PARTS  3


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

    free(type);
    free(body);

    return 0;
}
