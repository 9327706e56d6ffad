
/* UTF-8 and UTF-16 as parsers take them, and what is text at all. */

#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_field.h"

#include <string.h>


#define NGX_WEBTORCH_REPLACEMENT   0xfffd

/* bytes of a name, without "-" and "_" */
#define NGX_WEBTORCH_CHARSET_NAME  32


static int ngx_webtorch_charset_is_blank(uint32_t c);
static int ngx_webtorch_charset_sequence(const unsigned char *p, size_t len,
    uint32_t *c, int *overlong);


/*
 * Overlong UTF-8, full-width characters, other slashes and blanks, as the ASCII
 * that they stand for or are converted to.
 */

size_t
ngx_webtorch_charset_ascii(unsigned char *p, size_t len, uint32_t *decoded)
{
    int             n, overlong;
    size_t          i;
    uint32_t        c;
    unsigned char  *to;

    for (i = 0; i < len && p[i] < 0x80; i++) {
        /* void */
    }

    to = p + i;

    while (i < len) {

        if (p[i] < 0x80) {
            *to++ = p[i++];
            continue;
        }

        n = ngx_webtorch_charset_sequence(p + i, len - i, &c, &overlong);

        if (n == 0) {
            /* a blank of Latin-1 */
            *to++ = (p[i] == 0xa0) ? ' ' : p[i];
            i++;
            continue;
        }

        if (ngx_webtorch_charset_is_blank(c)) {
            *to++ = ' ';

        } else if (c == 0x2215 || c == 0x2044) {
            *decoded |= NGX_WEBTORCH_DECODED_WIDE;
            *to++ = '/';

        } else if (c == 0x2216) {
            *decoded |= NGX_WEBTORCH_DECODED_WIDE;
            *to++ = '\\';

        } else if (overlong && c < 0x80) {
            *decoded |= NGX_WEBTORCH_DECODED_OVERLONG;
            *to++ = (unsigned char) c;

        } else if (c >= 0xff01 && c <= 0xff5e) {
            *decoded |= NGX_WEBTORCH_DECODED_WIDE;
            *to++ = (unsigned char) (c - 0xff01 + '!');

        } else {
            memmove(to, p + i, (size_t) n);
            to += n;
        }

        i += (size_t) n;
    }

    return (size_t) (to - p);
}


/* separates words where blanks of Unicode do: U+00A0 and others */

static int
ngx_webtorch_charset_is_blank(uint32_t c)
{
    return c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a)
           || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f
           || c == 0x3000;
}


/* returns the bytes of a sequence of UTF-8; 0: it is not one */

static int
ngx_webtorch_charset_sequence(const unsigned char *p, size_t len, uint32_t *c,
    int *overlong)
{
    int  i, n;

    static const uint32_t  least[] = {
        0, 0, 0x80, 0x800, 0x10000, 0x200000, 0x4000000
    };

    /* once there were sequences of 5 and 6 bytes */

    n = (p[0] >= 0xfe) ? 0 : (p[0] >= 0xfc) ? 6 : (p[0] >= 0xf8) ? 5
        : (p[0] >= 0xf0) ? 4 : (p[0] >= 0xe0) ? 3 : (p[0] >= 0xc0) ? 2 : 0;

    if (n == 0 || len < (size_t) n) {
        return 0;
    }

    *c = p[0] & (0xffU >> (n + 1));

    for (i = 1; i < n; i++) {

        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        *c = *c << 6 | (p[i] & 0x3f);
    }

    *overlong = (*c < least[n]);

    return n;
}


/* UTF-16 of ASCII: every other byte is zero */

size_t
ngx_webtorch_charset_zeros(unsigned char *p, size_t len, uint32_t *decoded)
{
    size_t  i, zeros[2];

    if (len < 6 || memchr(p, '\0', len) == NULL) {
        return len;
    }

    zeros[0] = 0;
    zeros[1] = 0;

    for (i = 0; i < len; i++) {
        zeros[i & 1] += (p[i] == 0);
    }

    for (i = 0; i < 2; i++) {

        if (zeros[i] >= len / 2 - len / 8 && zeros[1 - i] <= len / 16) {
            *decoded |= NGX_WEBTORCH_DECODED_UTF16;

            return ngx_webtorch_charset_utf16(p, len, p, len, i == 0);
        }
    }

    return len;
}


size_t
ngx_webtorch_charset_utf16(unsigned char *p, size_t size,
    const unsigned char *from, size_t len, int big)
{
    size_t          i;
    uint32_t        c, high;
    unsigned char  *to, *last, buffer[4], *end;

    to = p;
    last = p + size;
    high = 0;

    for (i = 0; i + 1 < len; i += 2) {
        c = big ? (uint32_t) from[i] << 8 | from[i + 1]
                : (uint32_t) from[i + 1] << 8 | from[i];

        if (c >= 0xd800 && c < 0xdc00) {
            high = c;
            continue;
        }

        if (high && c >= 0xdc00 && c < 0xe000) {
            c = 0x10000 + ((high - 0xd800) << 10) + (c - 0xdc00);
        }

        high = 0;
        end = ngx_webtorch_charset_utf8(buffer, c);

        /* in place, what is written must not overtake what is read */

        if (end - buffer > last - to
            || (p == from && to + (end - buffer) > p + i + 2))
        {
            if (p != from) {
                break;
            }

            *to++ = '?';
            continue;
        }

        memcpy(to, buffer, (size_t) (end - buffer));
        to += end - buffer;
    }

    return (size_t) (to - p);
}


int
ngx_webtorch_charset_is_text(const unsigned char *p, size_t len)
{
    int       n, overlong;
    size_t    i, bad;
    uint32_t  c;

    bad = 0;

    for (i = 0; i < len; i += (size_t) n) {
        n = 1;

        if (p[i] >= 0x80) {
            n = ngx_webtorch_charset_sequence(p + i, len - i, &c, &overlong);

            if (n == 0 || overlong || (n == 3 && c >= 0xd800 && c < 0xe000)
                || c > NGX_WEBTORCH_LAST_CHAR)
            {
                bad++;
                n = 1;
            }

        } else if (p[i] < ' ' && p[i] != '\t' && p[i] != '\n' && p[i] != '\r') {
            bad++;

        } else if (p[i] == 0x7f) {
            bad++;
        }
    }

    /* one in 16 may be broken */

    return bad <= len / 16;
}


unsigned char *
ngx_webtorch_charset_utf8(unsigned char *p, uint32_t c)
{
    if (c < 0x80) {
        *p++ = (unsigned char) c;
        return p;
    }

    if (c > NGX_WEBTORCH_LAST_CHAR) {
        c = NGX_WEBTORCH_REPLACEMENT;
    }

    if (c < 0x800) {
        *p++ = (unsigned char) (0xc0 | c >> 6);

    } else {
        if (c < 0x10000) {
            *p++ = (unsigned char) (0xe0 | c >> 12);

        } else {
            *p++ = (unsigned char) (0xf0 | c >> 18);
            *p++ = (unsigned char) (0x80 | (c >> 12 & 0x3f));
        }

        *p++ = (unsigned char) (0x80 | (c >> 6 & 0x3f));
    }

    *p++ = (unsigned char) (0x80 | (c & 0x3f));

    return p;
}


int
ngx_webtorch_charset_is_known(const char *name, size_t name_len)
{
    char    plain[NGX_WEBTORCH_CHARSET_NAME];
    size_t  i, n, len;

    /* without "-" and "_"; one that ends with "*" begins so */

    static const char *const  known[] = {
        "", "utf8*", "unicode11utf8", "utf16*", "ucs2", "ascii", "usascii",
        "iso8859*", "latin*", "l1", "windows125*", "cp125*", "windows874",
        "koi8*", "gb2312", "gbk", "gb18030", "big5*", "shiftjis", "sjis",
        "windows31j", "eucjp", "euckr", "euctw", "windows949", "tis620",
        "binary"
    };

    for (i = 0, len = 0; i < name_len; i++) {
        if (name[i] == '-' || name[i] == '_') {
            continue;
        }

        if (len == sizeof(plain)) {
            return 0;
        }

        plain[len] = name[i];
        plain[len] |= (plain[len] >= 'A' && plain[len] <= 'Z') ? 0x20 : 0;
        len++;
    }

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        n = strlen(known[i]);

        if (n && known[i][n - 1] == '*') {
            n--;

            if (len >= n && memcmp(plain, known[i], n) == 0) {
                return 1;
            }

        } else if (len == n && memcmp(plain, known[i], n) == 0) {
            return 1;
        }
    }

    return 0;
}
