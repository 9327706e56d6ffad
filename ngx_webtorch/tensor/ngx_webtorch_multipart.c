
#ifndef _GNU_SOURCE
#define _GNU_SOURCE                       /* memmem() */
#endif

/*
 * Forms.  A part is its header lines, an empty line, and data up to the next
 * boundary, which is a line of its own: CR LF in front of "--" belong to it.
 */

#include "ngx_webtorch_multipart.h"
#include "ngx_webtorch_parameter.h"
#include "ngx_webtorch_part.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>


#define NGX_WEBTORCH_MULTIPART_TYPE      "multipart/form-data"
#define NGX_WEBTORCH_MULTIPART_PARAMETER  "boundary"
#define NGX_WEBTORCH_MULTIPART_CHARSET   "_charset_"

#define NGX_WEBTORCH_MULTIPART_DASHES      "\r\n--"
#define NGX_WEBTORCH_MULTIPART_DASHES_LEN  4

#define NGX_WEBTORCH_MULTIPART_MAX_BOUNDARY                                   \
    (WEBTORCH_BOUNDARY_LEN - NGX_WEBTORCH_MULTIPART_DASHES_LEN)


static int ngx_webtorch_multipart_set_boundary(webtorch_form_t *form,
    const ngx_webtorch_parameter_t *param);
static int ngx_webtorch_multipart_first(webtorch_form_t *form,
    ngx_webtorch_error_t *err);
static int ngx_webtorch_multipart_delimiter(webtorch_form_t *form,
    uint64_t at, ngx_webtorch_error_t *err);
static int ngx_webtorch_multipart_data(ngx_webtorch_part_reader_t *r);


int
ngx_webtorch_multipart_is_form(const char *type, size_t len)
{
    size_t       n;
    const char  *p;

    n = sizeof(NGX_WEBTORCH_MULTIPART_TYPE) - 1;

    if (len < n || strncasecmp(type, NGX_WEBTORCH_MULTIPART_TYPE, n) != 0) {
        return 0;
    }

    p = ngx_webtorch_parameter_skip(type + n, type + len);

    return p == type + len || *p == ';';
}


int
ngx_webtorch_multipart_open(webtorch_form_t *form, const char *type,
    size_t type_len, const char *body, size_t len, ngx_webtorch_error_t *err)
{
    int                        rc;
    const char                *p, *end;
    ngx_webtorch_parameter_t   param;

    form->body = body;
    form->len = len;
    form->at = 0;
    form->nparts = 0;
    form->max_parts = WEBTORCH_MAX_PARTS;
    form->last = 0;
    form->boundary_len = 0;
    ngx_webtorch_part_span(&form->charset, form, body, 0, WEBTORCH_PLAIN);

    if (!ngx_webtorch_multipart_is_form(type, type_len)) {
        return ngx_webtorch_error(err, 415, "unsupported_media_type",
                                  "the Content-Type of a form is "
                                  "multipart/form-data");
    }

    p = type + sizeof(NGX_WEBTORCH_MULTIPART_TYPE) - 1;
    end = type + type_len;

    for ( ;; ) {
        rc = ngx_webtorch_parameter_read(&p, end, &param);

        if (rc == 0) {
            break;
        }

        if (rc == 1
            && ngx_webtorch_parameter_is(param.name, param.name_len,
                                         NGX_WEBTORCH_MULTIPART_PARAMETER))
        {
            rc = ngx_webtorch_multipart_set_boundary(form, &param);
        }

        if (rc == -1) {
            return ngx_webtorch_error(err, 400, "malformed_body",
                       "the boundary in the header Content-Type is malformed");
        }
    }

    if (form->boundary_len == 0) {
        return ngx_webtorch_error(err, 400, "malformed_body",
                   "the header Content-Type of a form needs a boundary, "
                   "which HTTP clients add by themselves");
    }

    return ngx_webtorch_multipart_first(form, err);
}


static int
ngx_webtorch_multipart_set_boundary(webtorch_form_t *form,
    const ngx_webtorch_parameter_t *param)
{
    size_t  i, len;

    len = param->len;

    if (form->boundary_len || len == 0
        || len > NGX_WEBTORCH_MULTIPART_MAX_BOUNDARY
        || param->value[len - 1] == ' ')
    {
        return -1;
    }

    for (i = 0; i < len; i++) {
        if ((unsigned char) param->value[i] < ' '
            || (unsigned char) param->value[i] >= 0x7f
            || param->value[i] == '\\')
        {
            return -1;
        }
    }

    memcpy(form->boundary, NGX_WEBTORCH_MULTIPART_DASHES,
           NGX_WEBTORCH_MULTIPART_DASHES_LEN);
    memcpy(form->boundary + NGX_WEBTORCH_MULTIPART_DASHES_LEN, param->value,
           len);

    form->boundary_len = NGX_WEBTORCH_MULTIPART_DASHES_LEN + (uint32_t) len;

    return 0;
}


/* finds the first boundary, which may be at the very beginning */

static int
ngx_webtorch_multipart_first(webtorch_form_t *form, ngx_webtorch_error_t *err)
{
    size_t       len;
    const char  *p;

    len = form->boundary_len;

    if (form->len >= len - 2
        && memcmp(form->body, form->boundary + 2, len - 2) == 0)
    {
        return ngx_webtorch_multipart_delimiter(form, len - 2, err);
    }

    p = form->len ? memmem(form->body, form->len, form->boundary, len) : NULL;

    if (p == NULL) {
        return ngx_webtorch_error(err, 400, "malformed_body",
                   "the body of the form does not have the boundary that the "
                   "header Content-Type names");
    }

    return ngx_webtorch_multipart_delimiter(form,
                                            (uint64_t) (p - form->body) + len,
                                            err);
}


int
ngx_webtorch_multipart_next(webtorch_form_t *form, webtorch_part_t *part,
    ngx_webtorch_error_t *err)
{
    ngx_webtorch_part_reader_t  r;

    if (form->last) {
        return 0;
    }

    if (form->nparts == form->max_parts) {
        return ngx_webtorch_error(err, 413, "too_many_parts",
                                  "the form has more than %" PRIu32 " parts",
                                  form->max_parts);
    }

    memset(part, 0, sizeof(webtorch_part_t));
    memset(&r, 0, sizeof(r));

    r.form = form;
    r.part = part;
    r.err = err;

    if (ngx_webtorch_part_read_headers(&r) != 0
        || ngx_webtorch_multipart_data(&r) != 0)
    {
        return -1;
    }

    if (form->charset.len == 0 && !part->is_file
        && ngx_webtorch_parameter_is(form->body + part->name.at,
                                     (size_t) part->name.len,
                                     NGX_WEBTORCH_MULTIPART_CHARSET))
    {
        form->charset = part->data;
    }

    form->nparts++;

    return 1;
}


/*
 * The search begins with the CR LF of the empty line: those of the boundary may
 * be the same.
 */

static int
ngx_webtorch_multipart_data(ngx_webtorch_part_reader_t *r)
{
    const char       *p, *start;
    webtorch_form_t  *form;

    form = r->form;
    start = form->body + form->at;

    p = memmem(start - 2, (size_t) (form->len - form->at) + 2, form->boundary,
               form->boundary_len);

    if (p == NULL) {
        return ngx_webtorch_part_error(r,
                   "no boundary follows, the body of the form is cut off");
    }

    if (p > start) {
        ngx_webtorch_part_span(&r->part->data, form, start,
                               (size_t) (p - start), WEBTORCH_PLAIN);
    }

    return ngx_webtorch_multipart_delimiter(form,
                      (uint64_t) (p - form->body) + form->boundary_len,
                      r->err);
}


/*
 * Reads the line of a boundary from the end of the boundary on: spaces and CR
 * LF, or "--" for the last one.
 */

static int
ngx_webtorch_multipart_delimiter(webtorch_form_t *form, uint64_t at,
    ngx_webtorch_error_t *err)
{
    const char  *p, *end;

    p = form->body + at;
    end = form->body + form->len;

    if (end - p >= 2 && p[0] == '-' && p[1] == '-') {
        form->last = 1;
        p += 2;
    }

    p = ngx_webtorch_parameter_skip(p, end);

    if (end - p >= 2 && p[0] == '\r' && p[1] == '\n') {
        p += 2;

    } else if (!form->last || p != end) {
        return ngx_webtorch_error(err, 400, "malformed_body",
                   "the line of a boundary, after %" PRIu32 " parts of the "
                   "form, does not end with CR LF", form->nparts);
    }

    form->at = (uint64_t) (p - form->body);

    return 0;
}
