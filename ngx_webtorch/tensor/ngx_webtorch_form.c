
/*
 * Forms for Python.
 */

#include "ngx_webtorch_multipart.h"
#include "ngx_webtorch_parameter.h"

#include <string.h>


static size_t ngx_webtorch_form_unquote(char *dst, const char *src,
    size_t len);
static size_t ngx_webtorch_form_unpercent(char *dst, const char *src,
    size_t len, int latin1);
static int ngx_webtorch_form_failed(webtorch_form_t *form,
    const ngx_webtorch_error_t *err);


int
ngx_webtorch_form_open(webtorch_form_t *form, const char *content_type,
    size_t content_type_len, const char *body, size_t len)
{
    ngx_webtorch_error_t  err;

    if (ngx_webtorch_multipart_open(form, content_type, content_type_len, body,
                                    len, &err)
        != 0)
    {
        return ngx_webtorch_form_failed(form, &err);
    }

    return 0;
}


int
ngx_webtorch_form_read(webtorch_form_t *form, webtorch_part_t *parts,
    uint32_t n)
{
    int                   rc;
    uint32_t              i;
    ngx_webtorch_error_t  err;

    for (i = 0; i < n; i++) {
        rc = ngx_webtorch_multipart_next(form, &parts[i], &err);

        if (rc == -1) {
            return ngx_webtorch_form_failed(form, &err);
        }

        if (rc == 0) {
            break;
        }
    }

    return (int) i;
}


size_t
ngx_webtorch_form_decode(const webtorch_form_t *form,
    const webtorch_span_t *span, char *text)
{
    const char  *p;

    p = form->body + span->at;

    switch (span->coding) {

    case WEBTORCH_QUOTED:
        return ngx_webtorch_form_unquote(text, p, (size_t) span->len);

    case WEBTORCH_PERCENT_UTF8:
        return ngx_webtorch_form_unpercent(text, p, (size_t) span->len,
                                                0);

    case WEBTORCH_PERCENT_LATIN1:
        return ngx_webtorch_form_unpercent(text, p, (size_t) span->len,
                                                1);

    default: /* WEBTORCH_PLAIN */
        memcpy(text, p, (size_t) span->len);

        return (size_t) span->len;
    }
}


/* browsers encode a quote, CR and LF, and no other character */

static size_t
ngx_webtorch_form_unquote(char *dst, const char *src, size_t len)
{
    int          c;
    char        *p;
    const char  *end;

    p = dst;

    for (end = src + len; src < end; src++) {

        if (*src == '\\' && end - src >= 2
            && (src[1] == '\\' || src[1] == '"'))
        {
            *p++ = *++src;
            continue;
        }

        c = (*src == '%' && end - src >= 3)
            ? ngx_webtorch_parameter_hex(src + 1) : -1;

        if (c == '"' || c == '\r' || c == '\n') {
            *p++ = (char) c;
            src += 2;
            continue;
        }

        *p++ = *src;
    }

    return (size_t) (p - dst);
}


/* a byte of ISO-8859-1 takes three bytes of the source and two of UTF-8 */

static size_t
ngx_webtorch_form_unpercent(char *dst, const char *src, size_t len,
    int latin1)
{
    int          c;
    char        *p;
    const char  *end;

    p = dst;

    for (end = src + len; src < end; src++) {

        if (*src != '%') {
            *p++ = *src;
            continue;
        }

        c = ngx_webtorch_parameter_hex(src + 1);
        src += 2;

        if (latin1 && c >= 0x80) {
            *p++ = (char) (0xc0 | c >> 6);
            c = 0x80 | (c & 0x3f);
        }

        *p++ = (char) c;
    }

    return (size_t) (p - dst);
}


static int
ngx_webtorch_form_failed(webtorch_form_t *form,
    const ngx_webtorch_error_t *err)
{
    form->status = err->status;
    form->code = err->code;
    memcpy(form->message, err->text, sizeof(form->message));

    return -1;
}
