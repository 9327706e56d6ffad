
#ifndef _GNU_SOURCE
#define _GNU_SOURCE                       /* memmem() */
#endif

/* Fields of multipart bodies. */

#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_content.h"
#include "ngx_webtorch_fields_multipart.h"

#include <string.h>
#include <strings.h>


/* RFC 2046 allows 70 bytes; a longer boundary is read, too */
#define NGX_WEBTORCH_MULTIPART_BOUNDARY  256


typedef struct {
    ngx_webtorch_fields_t  *fields;
    unsigned char           mark[NGX_WEBTORCH_MULTIPART_BOUNDARY + 2];
    size_t                  mark_len;     /* "--" and the boundary */
    size_t                  name;         /* length of the name before a part */
    ngx_webtorch_part_t     part_type;
    uint32_t                dispositions;
    int                     file;
    int                     loose;        /* content to some parsers */
} ngx_webtorch_multipart_t;


static void ngx_webtorch_multipart_boundary(ngx_webtorch_multipart_t *multipart,
    const ngx_webtorch_part_t *type, const unsigned char *data, size_t len);
static const unsigned char *ngx_webtorch_multipart_find(
    const ngx_webtorch_multipart_t *multipart, const unsigned char *p,
    const unsigned char *last);
static int ngx_webtorch_multipart_is_loose(const unsigned char *begin,
    const unsigned char *mark, const unsigned char *p,
    const unsigned char *last);
static const unsigned char *ngx_webtorch_multipart_part(
    ngx_webtorch_multipart_t *multipart, const unsigned char *p,
    const unsigned char *last);
static void ngx_webtorch_multipart_header(ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last);
static void ngx_webtorch_multipart_disposition(
    ngx_webtorch_multipart_t *multipart, const unsigned char *p,
    const unsigned char *last);
static void ngx_webtorch_multipart_syntax(ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last);
static int ngx_webtorch_multipart_is_token(const unsigned char *p,
    const unsigned char *last);
static const unsigned char *ngx_webtorch_multipart_parameter(
    const unsigned char *p, const unsigned char *last,
    ngx_webtorch_part_t *name, ngx_webtorch_part_t *value,
    ngx_webtorch_part_t *rest);
static const unsigned char *ngx_webtorch_multipart_rest(
    const unsigned char *p, const unsigned char *last,
    ngx_webtorch_part_t *rest);
static void ngx_webtorch_multipart_content(ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last);


void
ngx_webtorch_fields_multipart(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, const unsigned char *data, size_t len)
{
    const unsigned char       *p, *last, *end;
    ngx_webtorch_multipart_t   multipart;

    multipart.fields = fields;
    multipart.name = fields->name_len;

    ngx_webtorch_multipart_boundary(&multipart, type, data, len);

    last = data + len;
    p = multipart.mark_len ? ngx_webtorch_multipart_find(&multipart, data, last)
                           : last;

    if (p == last) {
        /* no part: all of it may be what an application reads */

        fields->flaws |= NGX_WEBTORCH_FLAW_BOUNDARY;
        ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_TEXT, 0,
                                  data, len);
        return;
    }

    /* text before the first part and after the last one is skipped by most */

    ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_TEXT,
                              NGX_WEBTORCH_FIELD_SYNTAX, data,
                              (size_t) (p - data));

    for ( ;; ) {
        end = p;
        p += multipart.mark_len;
        multipart.loose = ngx_webtorch_multipart_is_loose(data, end, p, last);

        if (last - p >= 2 && p[0] == '-' && p[1] == '-') {
            p += 2;
            break;
        }

        end = ngx_webtorch_multipart_part(&multipart, p, last);

        if (end == last) {
            fields->flaws |= NGX_WEBTORCH_FLAW_END;
            return;
        }

        p = end;
    }

    while (p < last && (*p == '\r' || *p == '\n' || *p == ' ')) {
        p++;
    }

    ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_TEXT,
                              NGX_WEBTORCH_FIELD_SYNTAX, p,
                              (size_t) (last - p));
}


/* sets the boundary of the type, or that of the first line if they differ */

static void
ngx_webtorch_multipart_boundary(ngx_webtorch_multipart_t *multipart,
    const ngx_webtorch_part_t *type, const unsigned char *data, size_t len)
{
    uint32_t              found;
    const unsigned char  *p, *last, *end;
    ngx_webtorch_part_t   name, value, rest;

    multipart->mark_len = 0;
    multipart->mark[0] = '-';
    multipart->mark[1] = '-';
    found = 0;

    if (type->len) {
        p = (const unsigned char *) type->data;
        last = p + type->len;

        while (p < last && *p != ';' && *p != ',') {
            p++;
        }

        while (p < last) {
            p = ngx_webtorch_multipart_parameter(p + 1, last, &name, &value,
                                                 &rest);

            if (name.len == 8 && strncasecmp(name.data, "boundary", 8) == 0
                && ++found == 1 && value.len
                && value.len <= NGX_WEBTORCH_MULTIPART_BOUNDARY)
            {
                memcpy(multipart->mark + 2, value.data, value.len);
                multipart->mark_len = value.len + 2;
            }
        }
    }

    if (found > 1) {
        multipart->fields->flaws |= NGX_WEBTORCH_FLAW_BOUNDARY;
    }

    if (multipart->mark_len
        && ngx_webtorch_multipart_find(multipart, data, data + len)
           != data + len)
    {
        return;
    }

    multipart->fields->flaws |= NGX_WEBTORCH_FLAW_BOUNDARY;
    multipart->mark_len = 0;

    if (len < 3 || data[0] != '-' || data[1] != '-') {
        return;
    }

    end = memchr(data, '\n', len);

    if (end == NULL) {
        return;
    }

    end -= (end > data && end[-1] == '\r');

    if (end - data > 2 && end - data <= (ptrdiff_t) sizeof(multipart->mark)) {
        multipart->mark_len = (size_t) (end - data);
        memcpy(multipart->mark, data, multipart->mark_len);
    }
}


/* a boundary at the begin of a line; "last" if there is none */

static const unsigned char *
ngx_webtorch_multipart_find(const ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last)
{
    while ((size_t) (last - p) >= multipart->mark_len) {

        if (memcmp(p, multipart->mark, multipart->mark_len) == 0) {
            return p;
        }

        while (p < last && *p != '\n' && *p != '\r') {
            p++;
        }

        p += (p < last);
    }

    return last;
}


/*
 * Whether a boundary is one to some parsers alone: it is after a line feed or a
 * carriage return, or its line goes on.  To others it is content.
 */

static int
ngx_webtorch_multipart_is_loose(const unsigned char *begin,
    const unsigned char *mark, const unsigned char *p,
    const unsigned char *last)
{
    if (mark != begin
        && (mark - begin < 2 || mark[-2] != '\r' || mark[-1] != '\n'))
    {
        return 1;
    }

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return last - p < 2 || p[0] != '\r' || p[1] != '\n';
}


/* returns the next boundary, or "last" */

static const unsigned char *
ngx_webtorch_multipart_part(ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last)
{
    const unsigned char  *end, *line, *to, *begin;

    end = ngx_webtorch_multipart_find(multipart, p, last);
    begin = p;

    multipart->part_type.data = NULL;
    multipart->part_type.len = 0;
    multipart->dispositions = 0;
    multipart->file = 0;

    /* the rest of the line of the boundary */

    line = memchr(p, '\n', (size_t) (end - p));
    p = line ? line + 1 : end;

    while (p < end) {
        line = memchr(p, '\n', (size_t) (end - p));
        line = line ? line : end;

        /* a line that begins with a blank continues the one before */

        while (line + 1 < end && (line[1] == ' ' || line[1] == '\t')) {
            line = memchr(line + 1, '\n', (size_t) (end - line - 1));
            line = line ? line : end;
        }

        to = line - (line > p && line[-1] == '\r');

        if (to == p) {
            p = (line < end) ? line + 1 : end;
            break;
        }

        ngx_webtorch_multipart_header(multipart, p, to);
        p = (line < end) ? line + 1 : end;
    }

    if (multipart->loose) {
        ngx_webtorch_multipart_syntax(multipart, begin, p);
    }

    if (multipart->dispositions != 1) {
        multipart->fields->flaws |= NGX_WEBTORCH_FLAW_PART;
    }

    to = end;

    if (end < last) {
        to -= (to > p && to[-1] == '\n');
        to -= (to > p && to[-1] == '\r');
    }

    ngx_webtorch_multipart_content(multipart, p, to);
    ngx_webtorch_fields_leave(multipart->fields, multipart->name);

    return end;
}


static void
ngx_webtorch_multipart_header(ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last)
{
    size_t                len;
    const unsigned char  *colon, *end;

    colon = memchr(p, ':', (size_t) (last - p));

    if (colon == NULL) {
        multipart->fields->flaws |= NGX_WEBTORCH_FLAW_PART;
        ngx_webtorch_multipart_syntax(multipart, p, last);
        return;
    }

    for (end = colon; end > p && end[-1] <= ' '; end--) { /* void */ }

    if (!ngx_webtorch_multipart_is_token(p, end)) {
        multipart->fields->flaws |= NGX_WEBTORCH_FLAW_PART;
        ngx_webtorch_multipart_syntax(multipart, p, last);
    }

    len = (size_t) (end - p);
    multipart->fields->flaws |= (end < colon) ? NGX_WEBTORCH_FLAW_PART : 0;

    for (colon++; colon < last && (*colon == ' ' || *colon == '\t'); colon++) {
        /* void */
    }

    if (len == 19 && strncasecmp((const char *) p, "content-disposition", 19)
                     == 0)
    {
        multipart->dispositions++;
        ngx_webtorch_multipart_disposition(multipart, colon, last);
        return;
    }

    if (len == 12 && strncasecmp((const char *) p, "content-type", 12) == 0) {
        multipart->part_type.data = (const char *) colon;
        multipart->part_type.len = (size_t) (last - colon);
    }

    ngx_webtorch_multipart_syntax(multipart, colon, last);
}


static void
ngx_webtorch_multipart_syntax(ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last)
{
    ngx_webtorch_fields_plain(multipart->fields, NGX_WEBTORCH_PLACE_MULTIPART,
                              NGX_WEBTORCH_FIELD_SYNTAX, p,
                              (size_t) (last - p));
}


static int
ngx_webtorch_multipart_is_token(const unsigned char *p,
    const unsigned char *last)
{
    for ( /* void */ ; p < last; p++) {
        if (!ngx_webtorch_charset_alnum(*p) && *p != '-' && *p != '_'
            && *p != '.' && *p != '*')
        {
            return 0;
        }
    }

    return 1;
}


static void
ngx_webtorch_multipart_disposition(ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last)
{
    uint32_t                names, files;
    ngx_webtorch_part_t     name, value, rest;
    const unsigned char    *end, *begin;
    ngx_webtorch_fields_t  *fields;

    fields = multipart->fields;
    names = 0;
    files = 0;

    for (begin = p; p < last && *p != ';'; p++) { /* void */ }

    for (end = p; end > begin && end[-1] <= ' '; end--) { /* void */ }

    /* each text that the header's syntax has no place for is a field */

    if (!ngx_webtorch_multipart_is_token(begin, end)) {
        fields->flaws |= NGX_WEBTORCH_FLAW_PART;
        ngx_webtorch_multipart_syntax(multipart, begin, end);
    }

    while (p < last) {
        p = ngx_webtorch_multipart_parameter(p + 1, last, &name, &value, &rest);

        begin = (const unsigned char *) name.data;

        if (!ngx_webtorch_multipart_is_token(begin, begin + name.len)) {
            fields->flaws |= NGX_WEBTORCH_FLAW_PART;
            ngx_webtorch_multipart_syntax(multipart, begin, begin + name.len);
        }

        if (rest.len) {
            fields->flaws |= NGX_WEBTORCH_FLAW_PART;
            begin = (const unsigned char *) rest.data;
            ngx_webtorch_multipart_syntax(multipart, begin, begin + rest.len);
        }

        if (name.len == 4 && strncasecmp(name.data, "name", 4) == 0) {

            /* parsers differ in which one they take, so all are fields */

            if (++names > 1) {
                ngx_webtorch_fields_plain(fields,
                                          NGX_WEBTORCH_PLACE_MULTIPART,
                                          NGX_WEBTORCH_FIELD_KEY,
                                          (const unsigned char *) value.data,
                                          value.len);
                continue;
            }

            ngx_webtorch_fields_leave(fields, multipart->name);
            (void) ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                         (const unsigned char *) value.data,
                                         value.len);
            ngx_webtorch_fields_key(fields, NGX_WEBTORCH_PLACE_MULTIPART,
                                    NGX_WEBTORCH_CODING_NONE,
                                    (const unsigned char *) value.data,
                                    value.len);

        } else if (name.len >= 8
                   && strncasecmp(name.data, "filename", 8) == 0)
        {
            files++;
            multipart->file = 1;

            ngx_webtorch_fields_plain(fields,
                                      NGX_WEBTORCH_PLACE_MULTIPART,
                                      NGX_WEBTORCH_FIELD_FILENAME,
                                      (const unsigned char *) value.data,
                                      value.len);

        } else if (value.len) {
            fields->flaws |= NGX_WEBTORCH_FLAW_PART;
            begin = (const unsigned char *) value.data;
            ngx_webtorch_multipart_syntax(multipart, begin, begin + value.len);
        }
    }

    if (names > 1 || files > 2) {
        fields->flaws |= NGX_WEBTORCH_FLAW_TWICE;
    }
}


/*
 * Reads "name=value" with or without quotes, up to the ";" that ends it, and
 * returns that.  A quote without an end goes up to the end of the header.
 * rest: what is after a quote, or all if it is not a parameter.
 */

static const unsigned char *
ngx_webtorch_multipart_parameter(const unsigned char *p,
    const unsigned char *last, ngx_webtorch_part_t *name,
    ngx_webtorch_part_t *value, ngx_webtorch_part_t *rest)
{
    unsigned char         quote;
    const unsigned char  *begin;

    while (p < last && (*p == ' ' || *p == '\t' || *p == ';')) {
        p++;
    }

    p = (p < last) ? p : last;
    begin = p;

    while (p < last && *p != '=' && *p != ';' && *p != ' ' && *p != '\t') {
        p++;
    }

    name->data = (const char *) begin;
    name->len = (size_t) (p - begin);

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    value->data = (const char *) p;
    value->len = 0;
    rest->data = (const char *) p;
    rest->len = 0;

    if (p == last || *p == ';') {
        return p;
    }

    if (*p != '=') {
        name->len = 0;
        return ngx_webtorch_multipart_rest(begin, last, rest);
    }

    p++;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    if (p < last && (*p == '"' || *p == '\'')) {
        quote = *p++;
        begin = p;

        while (p < last && *p != quote) {
            p += (*p == '\\' && last - p > 1) ? 2 : 1;
        }

        value->data = (const char *) begin;
        value->len = (size_t) (p - begin);

        return ngx_webtorch_multipart_rest(p + (p < last), last, rest);
    }

    begin = p;

    while (p < last && *p != ';') {
        p++;
    }

    value->data = (const char *) begin;
    value->len = (size_t) (p - begin);

    return p;
}


/* without blanks at its ends; returns the ";" after it, or last */

static const unsigned char *
ngx_webtorch_multipart_rest(const unsigned char *p, const unsigned char *last,
    ngx_webtorch_part_t *rest)
{
    const unsigned char  *end, *to;

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    for (end = p; end < last && *end != ';'; end++) { /* void */ }

    for (to = end; to > p && to[-1] <= ' '; to--) { /* void */ }

    rest->data = (const char *) p;
    rest->len = (size_t) (to - p);

    return end;
}


/* text as what its type says, other files by their first bytes */

static void
ngx_webtorch_multipart_content(ngx_webtorch_multipart_t *multipart,
    const unsigned char *p, const unsigned char *last)
{
    size_t                  len;
    ngx_webtorch_part_t     content;
    ngx_webtorch_fields_t  *fields;

    fields = multipart->fields;
    len = (size_t) (last - p);

    if (len == 0) {
        return;
    }

    if (multipart->file && !multipart->loose
        && ngx_webtorch_content_is_binary(p, len))
    {
        return;
    }

    content.data = (const char *) p;
    content.len = len;

    ngx_webtorch_fields_charset(fields, p, len);

    if (ngx_webtorch_content_read(fields, &multipart->part_type, &content)) {
        return;
    }

    ngx_webtorch_fields_plain(fields,
                              multipart->file ? NGX_WEBTORCH_PLACE_FILE
                                              : NGX_WEBTORCH_PLACE_MULTIPART,
                              0, p, len);
}
