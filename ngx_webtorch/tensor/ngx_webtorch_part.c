
#ifndef _GNU_SOURCE
#define _GNU_SOURCE                       /* memmem() */
#endif

/*
 * The header lines of a part of a form.
 */

#include "ngx_webtorch_part.h"
#include "ngx_webtorch_parameter.h"

#include <inttypes.h>
#include <string.h>


/* bytes of a name in messages */
#define NGX_WEBTORCH_PART_SHOWN  64


static int ngx_webtorch_part_is_boundary(const webtorch_form_t *form,
    const char *p, const char *end);
static int ngx_webtorch_part_header(ngx_webtorch_part_reader_t *r,
    const char *p, const char *end);
static int ngx_webtorch_part_disposition(ngx_webtorch_part_reader_t *r,
    const char *p, const char *end);
static int ngx_webtorch_part_set(ngx_webtorch_part_reader_t *r,
    const ngx_webtorch_parameter_t *param);
static int ngx_webtorch_part_extended(ngx_webtorch_part_reader_t *r,
    const ngx_webtorch_parameter_t *param);
static int ngx_webtorch_part_encoding(ngx_webtorch_part_reader_t *r,
    const char *p, size_t len);


int
ngx_webtorch_part_error(ngx_webtorch_part_reader_t *r,
    const char *what)
{
    size_t                  len;
    const webtorch_span_t  *name;

    name = &r->part->name;

    if (!r->named) {
        return ngx_webtorch_error(r->err, 400, "malformed_body",
                                  "part %" PRIu32 " of the form: %s",
                                  r->form->nparts + 1, what);
    }

    len = (name->len < NGX_WEBTORCH_PART_SHOWN)
          ? (size_t) name->len : NGX_WEBTORCH_PART_SHOWN;

    return ngx_webtorch_error(r->err, 400, "malformed_body",
                              "part %" PRIu32 " of the form, \"%.*s\": %s",
                              r->form->nparts + 1, (int) len,
                              r->form->body + name->at, what);
}


void
ngx_webtorch_part_span(webtorch_span_t *span, const webtorch_form_t *form,
    const char *text, size_t len, int32_t coding)
{
    span->at = len ? (uint64_t) (text - form->body) : 0;
    span->len = len;
    span->coding = coding;
}


int
ngx_webtorch_part_read_headers(ngx_webtorch_part_reader_t *r)
{
    size_t            left;
    const char       *p, *start, *eol, *end;
    webtorch_form_t  *form;

    form = r->form;
    start = form->body + form->at;
    left = (size_t) (form->len - form->at);

    if (left > NGX_WEBTORCH_MULTIPART_HEADERS) {
        left = NGX_WEBTORCH_MULTIPART_HEADERS;
    }

    end = start + left;

    for (p = start; /* void */ ; p = eol + 2) {

        eol = memmem(p, (size_t) (end - p), "\r\n", 2);

        if (eol == NULL) {
            return ngx_webtorch_part_error(r,
                       left == NGX_WEBTORCH_MULTIPART_HEADERS
                           ? "its header lines have more than 8192 bytes"
                           : "its header lines are cut off");
        }

        if (eol == p) {
            break;
        }

        if (ngx_webtorch_part_is_boundary(form, p, eol)) {
            return ngx_webtorch_part_error(r, "no empty line follows its "
                                              "header lines");
        }

        if (ngx_webtorch_part_header(r, p, eol) != 0) {
            return -1;
        }
    }

    ngx_webtorch_part_span(&r->part->headers, form, start,
                           (size_t) (p - start), WEBTORCH_PLAIN);

    form->at = (uint64_t) (p + 2 - form->body);

    if (!r->disposition) {
        return ngx_webtorch_part_error(r,
                                  "it has no header Content-Disposition");
    }

    return 0;
}


/* RFC 2046: a line that begins with the boundary ends the part */

static int
ngx_webtorch_part_is_boundary(const webtorch_form_t *form, const char *p,
    const char *end)
{
    size_t  len;

    len = form->boundary_len - 2;

    return (size_t) (end - p) >= len && memcmp(p, form->boundary + 2, len) == 0;
}


static int
ngx_webtorch_part_header(ngx_webtorch_part_reader_t *r,
    const char *p, const char *end)
{
    size_t       len;
    const char  *c, *name;

    name = p;
    c = memchr(p, ':', (size_t) (end - p));
    len = c ? (size_t) (c - p) : 0;

    if (len == 0 || ngx_webtorch_parameter_token(p, c) != len) {
        return ngx_webtorch_part_error(r, "a header line is malformed");
    }

    for (p = c + 1; p < end; p++) {
        if (((unsigned char) *p < ' ' && *p != '\t') || *p == 0x7f) {
            return ngx_webtorch_part_error(r,
                                  "a header line has a control character");
        }
    }

    p = ngx_webtorch_parameter_skip(c + 1, end);

    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }

    if (ngx_webtorch_parameter_is(name, len, "Content-Disposition")) {
        return ngx_webtorch_part_disposition(r, p, end);
    }

    if (ngx_webtorch_parameter_is(name, len, "Content-Type")) {

        if (r->typed) {
            return ngx_webtorch_part_error(r,
                                      "it has two headers Content-Type");
        }

        r->typed = 1;
        ngx_webtorch_part_span(&r->part->content_type, r->form, p,
                               (size_t) (end - p), WEBTORCH_PLAIN);
        return 0;
    }

    if (ngx_webtorch_parameter_is(name, len, "Content-Transfer-Encoding")) {
        return ngx_webtorch_part_encoding(r, p, (size_t) (end - p));
    }

    return 0;
}


static int
ngx_webtorch_part_disposition(ngx_webtorch_part_reader_t *r,
    const char *p, const char *end)
{
    int                       rc;
    size_t                    len;
    ngx_webtorch_parameter_t  param;

    len = ngx_webtorch_parameter_token(p, end);

    if (r->disposition) {
        return ngx_webtorch_part_error(r,
                                  "it has two headers Content-Disposition");
    }

    if (!ngx_webtorch_parameter_is(p, len, "form-data")) {
        return ngx_webtorch_part_error(r,
                                  "its Content-Disposition is not form-data");
    }

    r->disposition = 1;

    for (p += len; /* void */ ; /* void */ ) {
        rc = ngx_webtorch_parameter_read(&p, end, &param);

        if (rc == 0) {
            break;
        }

        if (rc == -1) {
            return ngx_webtorch_part_error(r,
                                      "its Content-Disposition is malformed");
        }

        if (ngx_webtorch_part_set(r, &param) != 0) {
            return -1;
        }
    }

    if (!r->named) {
        return ngx_webtorch_part_error(r, "it has no name");
    }

    return 0;
}


/* a filename* is preferred to a filename */

static int
ngx_webtorch_part_set(ngx_webtorch_part_reader_t *r,
    const ngx_webtorch_parameter_t *param)
{
    if (ngx_webtorch_parameter_is(param->name, param->name_len, "name")) {

        if (r->named) {
            return ngx_webtorch_part_error(r, "it has two names");
        }

        r->named = 1;
        ngx_webtorch_part_span(&r->part->name, r->form, param->value,
                               param->len, param->coding);
        return 0;
    }

    if (ngx_webtorch_parameter_is(param->name, param->name_len, "filename")) {

        if (r->filename) {
            return ngx_webtorch_part_error(r, "it has two filenames");
        }

        r->filename = 1;
        r->part->is_file = 1;

        if (r->part->filename.coding < WEBTORCH_PERCENT_UTF8) {
            ngx_webtorch_part_span(&r->part->filename, r->form,
                                   param->value, param->len,
                                   param->coding);
        }

        return 0;
    }

    if (ngx_webtorch_parameter_is(param->name, param->name_len, "filename*")) {
        return ngx_webtorch_part_extended(r, param);
    }

    return 0;
}


/* filename*=UTF-8'language'percent-encoded */

static int
ngx_webtorch_part_extended(ngx_webtorch_part_reader_t *r,
    const ngx_webtorch_parameter_t *param)
{
    int32_t      coding;
    const char  *p, *end, *text;

    if (r->part->filename.coding >= WEBTORCH_PERCENT_UTF8) {
        return ngx_webtorch_part_error(r, "it has two filenames");
    }

    end = param->value + param->len;
    p = memchr(param->value, '\'', param->len);
    text = p ? memchr(p + 1, '\'', (size_t) (end - p) - 1) : NULL;

    if (text == NULL) {
        return ngx_webtorch_part_error(r, "its filename* is malformed");
    }

    if (ngx_webtorch_parameter_is(param->value, (size_t) (p - param->value),
                                  "UTF-8"))
    {
        coding = WEBTORCH_PERCENT_UTF8;

    } else if (ngx_webtorch_parameter_is(param->value,
                                         (size_t) (p - param->value),
                                         "ISO-8859-1"))
    {
        coding = WEBTORCH_PERCENT_LATIN1;

    } else {
        return ngx_webtorch_part_error(r,
                   "the charset of its filename* is not UTF-8 or ISO-8859-1");
    }

    text++;

    for (p = text; p < end; p++) {
        if ((unsigned char) *p >= 0x80
            || (*p == '%'
                && (end - p < 3 || ngx_webtorch_parameter_hex(p + 1) < 0)))
        {
            return ngx_webtorch_part_error(r,
                                      "its filename* is malformed");
        }
    }

    r->part->is_file = 1;
    ngx_webtorch_part_span(&r->part->filename, r->form, text,
                           (size_t) (end - text), coding);
    return 0;
}


/* HTTP carries bytes: other encodings are not for forms, and are not decoded */

static int
ngx_webtorch_part_encoding(ngx_webtorch_part_reader_t *r,
    const char *p, size_t len)
{
    if (ngx_webtorch_parameter_is(p, len, "binary")
        || ngx_webtorch_parameter_is(p, len, "8bit")
        || ngx_webtorch_parameter_is(p, len, "7bit"))
    {
        return 0;
    }

    return ngx_webtorch_part_error(r,
               "its Content-Transfer-Encoding is not binary, 8bit or 7bit");
}
