
/*
 * Parameters of headers.
 */

#include "ngx_webtorch_parameter.h"

#include <string.h>
#include <strings.h>


static const char *ngx_webtorch_parameter_quoted(const char *p,
    const char *end, ngx_webtorch_parameter_t *param);


int
ngx_webtorch_parameter_is(const char *text, size_t len, const char *expected)
{
    return len == strlen(expected) && strncasecmp(text, expected, len) == 0;
}


const char *
ngx_webtorch_parameter_skip(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}


/* returns the length of what may stand without quotes */

size_t
ngx_webtorch_parameter_token(const char *p, const char *end)
{
    const char  *start;

    for (start = p; p < end; p++) {
        if ((unsigned char) *p <= ' ' || *p == 0x7f
            || memchr(";\"=\\", *p, 4) != NULL)
        {
            break;
        }
    }

    return (size_t) (p - start);
}


/* returns the byte that two hexadecimal digits are, -1: they are not */

int
ngx_webtorch_parameter_hex(const char *p)
{
    int  i, c, value;

    value = 0;

    for (i = 0; i < 2; i++) {
        c = p[i] | 0x20;

        if (p[i] >= '0' && p[i] <= '9') {
            value = value * 16 + p[i] - '0';

        } else if (c >= 'a' && c <= 'f') {
            value = value * 16 + c - 'a' + 10;

        } else {
            return -1;
        }
    }

    return value;
}


/*
 * Reads a quoted string after its first quote; returns its end, NULL: it has
 * none.  Browsers write a quote as %22 and a backslash as it is, others escape
 * both with a backslash: a quote behind a backslash is the end if nothing but
 * spaces follow.
 */

static const char *
ngx_webtorch_parameter_quoted(const char *p, const char *end,
    ngx_webtorch_parameter_t *param)
{
    param->value = p;
    param->coding = WEBTORCH_PLAIN;

    for ( /* void */ ; p < end && *p != '"'; p++) {

        if (*p == '%') {
            param->coding = WEBTORCH_QUOTED;
        }

        if (*p == '\\' && end - p >= 2 && (p[1] == '\\' || p[1] == '"')) {

            if (p[1] == '"'
                && ngx_webtorch_parameter_skip(p + 2, end) == end)
            {
                continue;
            }

            param->coding = WEBTORCH_QUOTED;
            p++;
        }
    }

    if (p == end) {
        return NULL;
    }

    param->len = (size_t) (p - param->value);

    return p + 1;
}


/* reads "; name=value"; 1: there is one, 0: the end, -1: malformed */

int
ngx_webtorch_parameter_read(const char **pos, const char *end,
    ngx_webtorch_parameter_t *param)
{
    const char  *p;

    p = ngx_webtorch_parameter_skip(*pos, end);

    if (p == end) {
        return 0;
    }

    if (*p != ';') {
        return -1;
    }

    p = ngx_webtorch_parameter_skip(p + 1, end);

    if (p == end) {
        return 0;
    }

    param->name = p;
    param->name_len = ngx_webtorch_parameter_token(p, end);

    p = ngx_webtorch_parameter_skip(p + param->name_len, end);

    if (param->name_len == 0 || p == end || *p != '=') {
        return -1;
    }

    p = ngx_webtorch_parameter_skip(p + 1, end);

    if (p < end && *p == '"') {
        *pos = ngx_webtorch_parameter_quoted(p + 1, end, param);

        return *pos ? 1 : -1;
    }

    param->value = p;
    param->coding = WEBTORCH_PLAIN;

    /* boundaries of some clients have a "=" and no quotes */

    do {
        p += ngx_webtorch_parameter_token(p, end);
    } while (p < end && *p == '=' && p++);

    param->len = (size_t) (p - param->value);
    *pos = p;

    return 1;
}
