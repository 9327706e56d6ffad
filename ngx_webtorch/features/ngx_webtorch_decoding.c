
/* Decodes values as applications do: the codings of formats, and others. */

#include "ngx_webtorch_decoding.h"
#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_field.h"
#include "ngx_webtorch_text.h"

#include <string.h>


/* rounds of decoding: what is coded more often is not text to applications */
#define NGX_WEBTORCH_ROUNDS       4

/*
 * Bytes of the shortest base64 and hex that are decoded as a whole.  Random
 * identifiers of this length seldom decode to text.
 */
#define NGX_WEBTORCH_MIN_BASE64   12
#define NGX_WEBTORCH_MIN_HEX      20
#define NGX_WEBTORCH_MIN_0X       6

/* bytes of base64 for each of its blanks, at least */
#define NGX_WEBTORCH_BASE64_BLANKS  20

/* a longer one may be a piece, which ends within a group or an escape */
#define NGX_WEBTORCH_LONG_BASE64  1024

/* what is no digit of base64: a blank for "+", the end of a line, all others */
#define NGX_WEBTORCH_BASE64_BLANK   64
#define NGX_WEBTORCH_BASE64_LINE    65
#define NGX_WEBTORCH_BASE64_NONE    99

/* bytes of base64 that is opaque unless it is text */
#define NGX_WEBTORCH_MIN_OPAQUE   40

#define NGX_WEBTORCH_MAX_ENTITY   10


typedef struct {
    const char     *name;
    unsigned char   c;
} ngx_webtorch_entity_t;


static size_t ngx_webtorch_percent(unsigned char *p, size_t len, int plus,
    uint32_t *decoded);
static size_t ngx_webtorch_entities(unsigned char *p, size_t len,
    uint32_t *decoded);
static size_t ngx_webtorch_entity(const unsigned char *p, size_t len,
    uint32_t *c);
static size_t ngx_webtorch_json(unsigned char *p, size_t len,
    uint32_t *decoded);
static size_t ngx_webtorch_escapes(unsigned char *p, size_t len,
    uint32_t *decoded);
static size_t ngx_webtorch_code(const unsigned char *p, size_t len,
    size_t digits, uint32_t *c);
static size_t ngx_webtorch_whole(unsigned char *p, size_t len,
    unsigned char *scratch, uint32_t *decoded, uint32_t *flags);
static int ngx_webtorch_base64_text(const unsigned char *p, size_t len,
    unsigned char *scratch, size_t *decoded, uint32_t flags);
static size_t ngx_webtorch_hex_string(unsigned char *p,
    const unsigned char *from, size_t len);


static const ngx_webtorch_entity_t  ngx_webtorch_named[] = {
    { "lt", '<' }, { "gt", '>' }, { "amp", '&' }, { "quot", '"' },
    { "apos", '\'' }, { "sol", '/' }, { "lpar", '(' }, { "rpar", ')' },
    { "colon", ':' }, { "semi", ';' }, { "tab", '\t' }, { "newline", '\n' },
    { "nbsp", ' ' }, { "equals", '=' }, { "comma", ',' }, { "period", '.' },
    { "grave", '`' }, { "lsqb", '[' }, { "rsqb", ']' }, { "lcub", '{' },
    { "rcub", '}' }, { "excl", '!' }, { "num", '#' }, { "dollar", '$' },
    { "percnt", '%' }, { "ast", '*' }, { "plus", '+' }, { "bsol", '\\' },
    { "lowbar", '_' }, { "verbar", '|' }, { "quest", '?' }, { "commat", '@' }
};


size_t
ngx_webtorch_decoding_format(unsigned char *p, size_t len,
    ngx_webtorch_coding_e coding, uint32_t *decoded)
{
    uint32_t  usual;

    /* only escapes that the format does not require set a bit */

    switch (coding) {

    case NGX_WEBTORCH_CODING_PERCENT:
    case NGX_WEBTORCH_CODING_FORM:
        usual = 0;
        len = ngx_webtorch_percent(p, len, coding == NGX_WEBTORCH_CODING_FORM,
                                   &usual);
        *decoded |= usual & (NGX_WEBTORCH_DECODED_UNICODE
                             | NGX_WEBTORCH_DECODED_ASCII);
        return len;

    case NGX_WEBTORCH_CODING_JSON:
        return ngx_webtorch_json(p, len, decoded);

    case NGX_WEBTORCH_CODING_XML:
        usual = 0;
        len = ngx_webtorch_entities(p, len, &usual);
        *decoded |= usual & NGX_WEBTORCH_DECODED_ASCII;
        return len;

    default:
        return len;
    }
}


size_t
ngx_webtorch_decoding_value(unsigned char *p, size_t len,
    unsigned char *scratch, uint32_t *decoded, uint32_t *flags)
{
    size_t    before;
    uint32_t  i, bits;

    for (i = 0; i < NGX_WEBTORCH_ROUNDS; i++) {
        before = len;
        bits = 0;

        len = ngx_webtorch_charset_zeros(p, len, decoded);
        len = ngx_webtorch_percent(p, len, 0, &bits);

        if (bits & NGX_WEBTORCH_DECODED_PERCENT & *decoded) {
            bits |= NGX_WEBTORCH_DECODED_AGAIN;
        }

        *decoded |= bits;

        len = ngx_webtorch_entities(p, len, decoded);
        len = ngx_webtorch_escapes(p, len, decoded);
        len = ngx_webtorch_charset_ascii(p, len, decoded);

        /* a path can have the letters of base64 alone */

        if (!(*flags & NGX_WEBTORCH_FIELD_SYNTAX)) {
            len = ngx_webtorch_whole(p, len, scratch, decoded, flags);
        }

        if (len == before) {
            break;
        }
    }

    if (len && memchr(p, '\0', len)) {
        *flags |= NGX_WEBTORCH_FIELD_NULL;
    }

    if (!ngx_webtorch_charset_is_text(p, len)) {
        *flags |= NGX_WEBTORCH_FIELD_BINARY;
    }

    return len;
}


/* "%XX" and "%uXXXX" */

static size_t
ngx_webtorch_percent(unsigned char *p, size_t len, int plus, uint32_t *decoded)
{
    int             high, low;
    size_t          i;
    uint32_t        c;
    unsigned char  *to;

    to = p;

    for (i = 0; i < len; i++) {

        if (p[i] == '+' && plus) {
            *to++ = ' ';
            continue;
        }

        if (p[i] != '%' || len - i < 3) {
            *to++ = p[i];
            continue;
        }

        high = ngx_webtorch_hex(p[i + 1]);
        low = ngx_webtorch_hex(p[i + 2]);

        if (high >= 0 && low >= 0) {
            c = (uint32_t) (high << 4 | low);
            *to++ = (unsigned char) c;
            i += 2;

            *decoded |= NGX_WEBTORCH_DECODED_PERCENT;

            if (ngx_webtorch_charset_alnum(c)) {
                *decoded |= NGX_WEBTORCH_DECODED_ASCII;
            }

        } else if ((p[i + 1] == 'u' || p[i + 1] == 'U')
                   && ngx_webtorch_code(p + i + 2, len - i - 2, 4, &c) == 4)
        {
            to = ngx_webtorch_charset_utf8(to, c);
            i += 5;

            *decoded |= NGX_WEBTORCH_DECODED_UNICODE;

        } else {
            *to++ = p[i];
        }
    }

    return (size_t) (to - p);
}


/* "&lt;", "&#60;", "&#x3c;"; browsers need no ";" after numbers */

static size_t
ngx_webtorch_entities(unsigned char *p, size_t len, uint32_t *decoded)
{
    size_t          i, n;
    uint32_t        c;
    unsigned char  *to;

    if (len == 0 || memchr(p, '&', len) == NULL) {
        return len;
    }

    to = p;

    for (i = 0; i < len; i += n) {

        n = (p[i] == '&') ? ngx_webtorch_entity(p + i + 1, len - i - 1, &c) : 0;

        if (n == 0) {
            *to++ = p[i];
            n = 1;
            continue;
        }

        n++;
        to = ngx_webtorch_charset_utf8(to, c);

        *decoded |= NGX_WEBTORCH_DECODED_ENTITY;

        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) {
            *decoded |= NGX_WEBTORCH_DECODED_ASCII;
        }
    }

    return (size_t) (to - p);
}


/* returns the length of an entity after its "&"; 0: it is none */

static size_t
ngx_webtorch_entity(const unsigned char *p, size_t len, uint32_t *c)
{
    int       base, digit;
    size_t    i, n;
    uint32_t  value;

    if (len > 1 && p[0] == '#') {
        base = (p[1] == 'x' || p[1] == 'X') ? 16 : 10;
        n = (base == 16) ? 2 : 1;
        value = 0;

        for (i = n; i < len && i < n + NGX_WEBTORCH_MAX_ENTITY; i++) {
            digit = ngx_webtorch_hex(p[i]);

            if (digit < 0 || digit >= base) {
                break;
            }

            if (value <= NGX_WEBTORCH_LAST_CHAR) {
                value = value * (uint32_t) base + (uint32_t) digit;
            }
        }

        if (i == n) {
            return 0;
        }

        /* UTF-8 of a character is never longer than its entity */

        *c = (value > NGX_WEBTORCH_LAST_CHAR) ? '?' : value;

        return i + (i < len && p[i] == ';');
    }

    for (n = 0; n < len && n < NGX_WEBTORCH_MAX_ENTITY && p[n] != ';'; n++) {
        /* void */
    }

    if (n == len || p[n] != ';') {
        return 0;
    }

    for (i = 0; i < sizeof(ngx_webtorch_named) / sizeof(ngx_webtorch_named[0]);
         i++)
    {
        if (strlen(ngx_webtorch_named[i].name) == n) {
            for (value = 0; value < n; value++) {
                if ((p[value] | 0x20) != ngx_webtorch_named[i].name[value]) {
                    break;
                }
            }

            if (value == n) {
                *c = ngx_webtorch_named[i].c;
                return n + 1;
            }
        }
    }

    return 0;
}


/* escapes of a string of JSON, whose quotes are not part of it */

static size_t
ngx_webtorch_json(unsigned char *p, size_t len, uint32_t *decoded)
{
    size_t          i;
    uint32_t        c, low;
    const char     *found;
    unsigned char  *to;

    static const char  names[] = "bfnrt";
    static const char  values[] = "\b\f\n\r\t";

    if (len == 0 || memchr(p, '\\', len) == NULL) {
        return len;
    }

    to = p;

    for (i = 0; i < len; i++) {

        if (p[i] != '\\' || len - i < 2) {
            *to++ = p[i];
            continue;
        }

        i++;

        if (p[i] != 'u') {
            found = p[i] ? strchr(names, p[i]) : NULL;
            *to++ = found ? (unsigned char) values[found - names] : p[i];
            continue;
        }

        if (ngx_webtorch_code(p + i + 1, len - i - 1, 4, &c) != 4) {
            *to++ = p[i];
            continue;
        }

        i += 4;

        if (c >= 0xd800 && c < 0xdc00 && len - i > 6 && p[i + 1] == '\\'
            && p[i + 2] == 'u'
            && ngx_webtorch_code(p + i + 3, len - i - 3, 4, &low) == 4
            && low >= 0xdc00 && low < 0xe000)
        {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            i += 6;
        }

        if (c > ' ' && c < 0x7f && c != '<' && c != '>' && c != '&'
            && c != '\'' && c != '"')
        {
            /* libraries escape these for HTML, but no others */
            *decoded |= NGX_WEBTORCH_DECODED_ASCII;
        }

        to = ngx_webtorch_charset_utf8(to, c);
    }

    return (size_t) (to - p);
}


/* "\xXX", "\uXXXX" and "\u{X}" of programs */

static size_t
ngx_webtorch_escapes(unsigned char *p, size_t len, uint32_t *decoded)
{
    size_t          i, n, used;
    uint32_t        c;
    unsigned char  *to;

    if (len == 0 || memchr(p, '\\', len) == NULL) {
        return len;
    }

    to = p;

    for (i = 0; i < len; i += n) {
        n = 1;
        c = 0;

        if (p[i] == '\\' && len - i > 3) {

            if (p[i + 1] == 'x') {
                used = ngx_webtorch_code(p + i + 2, len - i - 2, 2, &c);
                n = (used == 2) ? 4 : 1;

            } else if (p[i + 1] == 'u' && p[i + 2] == '{') {
                used = ngx_webtorch_code(p + i + 3, len - i - 3, 6, &c);

                if (used && i + 3 + used < len && p[i + 3 + used] == '}'
                    && c <= NGX_WEBTORCH_LAST_CHAR)
                {
                    n = used + 4;
                }

            } else if (p[i + 1] == 'u') {
                used = ngx_webtorch_code(p + i + 2, len - i - 2, 4, &c);
                n = (used == 4) ? 6 : 1;

            } else if (p[i + 1] >= '0' && p[i + 1] <= '3'
                       && p[i + 2] >= '0' && p[i + 2] <= '7'
                       && p[i + 3] >= '0' && p[i + 3] <= '7')
            {
                /* octal, in quoted cookies */

                c = (uint32_t) ((p[i + 1] - '0') << 6 | (p[i + 2] - '0') << 3
                                | (p[i + 3] - '0'));
                n = 4;
            }
        }

        if (n == 1) {
            *to++ = p[i];
            continue;
        }

        *decoded |= NGX_WEBTORCH_DECODED_ESCAPE;
        to = ngx_webtorch_charset_utf8(to, c);
    }

    return (size_t) (to - p);
}


/* returns the number of hexadecimal digits, at most those asked for */

static size_t
ngx_webtorch_code(const unsigned char *p, size_t len, size_t digits,
    uint32_t *c)
{
    int     digit;
    size_t  i;

    *c = 0;

    for (i = 0; i < len && i < digits; i++) {
        digit = ngx_webtorch_hex(p[i]);

        if (digit < 0) {
            break;
        }

        *c = *c << 4 | (uint32_t) digit;
    }

    return i;
}


/* values that are base64 or hexadecimal as a whole */

static size_t
ngx_webtorch_whole(unsigned char *p, size_t len, unsigned char *scratch,
    uint32_t *decoded, uint32_t *flags)
{
    int     found;
    size_t  n;

    n = ngx_webtorch_hex_string(scratch, p, len);

    if (n && ngx_webtorch_charset_is_text(scratch, n)) {
        memcpy(p, scratch, n);
        *decoded |= NGX_WEBTORCH_DECODED_HEX;
        return n;
    }

    if (n || len < NGX_WEBTORCH_MIN_BASE64) {
        return len;
    }

    found = ngx_webtorch_base64_text(p, len, scratch, &n, *flags);

    if (n == 0) {
        return len;
    }

    if (found) {
        memcpy(p, scratch, n);
        *decoded |= NGX_WEBTORCH_DECODED_BASE64;
        return n;
    }

    if (len >= NGX_WEBTORCH_MIN_OPAQUE) {
        *flags |= NGX_WEBTORCH_FIELD_OPAQUE;
    }

    return len;
}


/*
 * Whether base64 is of text, whose length is decoded.  A piece of a long value
 * may begin and end within a group.
 */

static int
ngx_webtorch_base64_text(const unsigned char *p, size_t len,
    unsigned char *scratch, size_t *decoded, uint32_t flags)
{
    size_t  i, n, skip;

    *decoded = 0;

    for (i = 0; i < 2 && len > NGX_WEBTORCH_LONG_BASE64; i++) {
        len -= (p[len - 1 - i] == '%' || p[len - 1 - i] == '\\') ? i + 1 : 0;
    }

    for (i = 0; i < 4; i++) {
        n = ngx_webtorch_decoding_base64(scratch, p, len);

        if (n) {
            *decoded = n;

            if (ngx_webtorch_charset_is_text(scratch, n)) {
                return 1;
            }
        }

        if (!(flags & NGX_WEBTORCH_FIELD_MORE)) {
            break;
        }

        for (skip = 0; skip < len && (p[skip] == '\r' || p[skip] == '\n');
             skip++)
        {
            /* void */
        }

        if (len - skip <= NGX_WEBTORCH_MIN_BASE64) {
            break;
        }

        p += skip + 1;
        len -= skip + 1;
    }

    return 0;
}


size_t
ngx_webtorch_decoding_base64(unsigned char *p, const unsigned char *from,
    size_t len)
{
    size_t          i, n, blanks;
    uint32_t        bits, value;
    unsigned char   *to;

    static const unsigned char  digits[256] = {
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 65, 99, 99, 65, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        64, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 62, 99, 62, 99, 63,
        52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 99, 99, 99, 99, 99, 99,
        99, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 99, 99, 99, 99, 63,
        99, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
        41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99
    };

    while (len && from[len - 1] == '=') {
        len--;
    }

    to = p;
    bits = 0;
    n = 0;
    blanks = 0;
    i = 0;

    while (i < len) {

        if (n % 4 == 0 && len - i >= 4
            && (digits[from[i]] | digits[from[i + 1]] | digits[from[i + 2]]
                | digits[from[i + 3]]) < NGX_WEBTORCH_BASE64_BLANK)
        {
            bits = (uint32_t) digits[from[i]] << 18
                   | (uint32_t) digits[from[i + 1]] << 12
                   | (uint32_t) digits[from[i + 2]] << 6
                   | digits[from[i + 3]];

            *to++ = (unsigned char) (bits >> 16);
            *to++ = (unsigned char) (bits >> 8);
            *to++ = (unsigned char) bits;

            i += 4;
            n += 4;

            continue;
        }

        value = digits[from[i++]];

        if (value == NGX_WEBTORCH_BASE64_NONE) {
            return 0;
        }

        if (value == NGX_WEBTORCH_BASE64_LINE) {
            continue;
        }

        if (value == NGX_WEBTORCH_BASE64_BLANK) {
            value = 62;
            blanks++;
        }

        bits = bits << 6 | value;

        if (n % 4) {
            *to++ = (unsigned char) (bits >> (6 - 2 * (n % 4)));
        }

        n++;
    }

    /* a form turns "+" into a blank, but in prose there are more of them */

    if ((n % 4 == 1 && n < NGX_WEBTORCH_LONG_BASE64)
        || blanks * NGX_WEBTORCH_BASE64_BLANKS > len)
    {
        return 0;
    }

    return (size_t) (to - p);
}


/* "0x..." or digits alone; returns 0 if it is not hexadecimal */

static size_t
ngx_webtorch_hex_string(unsigned char *p, const unsigned char *from, size_t len)
{
    int             high, low;
    size_t          i, least;

    least = NGX_WEBTORCH_MIN_HEX;

    if (len > 2 && from[0] == '0' && (from[1] | 0x20) == 'x') {
        from += 2;
        len -= 2;
        least = NGX_WEBTORCH_MIN_0X;
    }

    if (len < least || len % 2) {
        return 0;
    }

    for (i = 0; i < len; i += 2) {
        high = ngx_webtorch_hex(from[i]);
        low = ngx_webtorch_hex(from[i + 1]);

        if (high < 0 || low < 0) {
            return 0;
        }

        p[i / 2] = (unsigned char) (high << 4 | low);
    }

    return len / 2;
}
