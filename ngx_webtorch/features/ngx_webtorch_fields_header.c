
/* Fields of headers: cookies, credentials, addresses of pages, and others. */

#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_fields.h"

#include <string.h>
#include <strings.h>


#define NGX_WEBTORCH_MAX_BASIC   1024
#define NGX_WEBTORCH_MAX_HEADER  64

/* digits of a length in a header */
#define NGX_WEBTORCH_MAX_DIGITS  10


static int ngx_webtorch_header_is(const ngx_webtorch_part_t *name,
    const char *const *names, size_t n);
static int ngx_webtorch_header_is_usual(const ngx_webtorch_part_t *name,
    const ngx_webtorch_part_t *value);
static int ngx_webtorch_header_is_tokens(const ngx_webtorch_part_t *value);
static int ngx_webtorch_header_is_date(const ngx_webtorch_part_t *value);
static int ngx_webtorch_header_has_word(const char *list, const char *word,
    size_t len);
static void ngx_webtorch_header_cookies(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *value);
static int ngx_webtorch_header_basic(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *value);
static size_t ngx_webtorch_header_number(const ngx_webtorch_part_t *value);
static void ngx_webtorch_header_address(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *value);


/* headers of the connection: their values are fields if they are unusual */

static const char *const  ngx_webtorch_headers_tokens[] = {
    "connection", "content-length", "transfer-encoding", "keep-alive",
    "upgrade", "te", "content-encoding", "proxy-connection",
    "sec-websocket-key"
};

static const char *const  ngx_webtorch_headers_date[] = {
    "if-modified-since", "date"
};

static const char *const  ngx_webtorch_headers_address[] = {
    "referer", "origin", "destination"
};


void
ngx_webtorch_fields_header(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value)
{
    char                 lower[NGX_WEBTORCH_MAX_HEADER];
    size_t               i, len, before;
    const unsigned char  *data;

    static const char *const  cookie[] = { "cookie" };
    static const char *const  authorization[] = {
        "authorization", "proxy-authorization"
    };
    static const char *const  json_len[] = { "inference-header-content-length" };

    if (value->len == 0 || ngx_webtorch_header_is_usual(name, value)) {
        return;
    }

    if (ngx_webtorch_header_is(name, cookie, 1)) {
        ngx_webtorch_header_cookies(fields, value);
        return;
    }

    if (ngx_webtorch_header_is(name, json_len, 1)) {
        fields->json_len = ngx_webtorch_header_number(value);
        fields->json_lens++;
    }

    len = (name->len < sizeof(lower)) ? name->len : sizeof(lower);

    for (i = 0; i < len; i++) {
        lower[i] = name->data[i];

        if (lower[i] >= 'A' && lower[i] <= 'Z') {
            lower[i] |= 0x20;
        }
    }

    before = ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                       (const unsigned char *) "header", 6);
    (void) ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                     (unsigned char *) lower, len);

    ngx_webtorch_fields_key(fields, NGX_WEBTORCH_PLACE_HEADER,
                            NGX_WEBTORCH_CODING_NONE,
                            (const unsigned char *) name->data, name->len);

    data = (const unsigned char *) value->data;

    if (ngx_webtorch_header_is(name, ngx_webtorch_headers_address,
                               sizeof(ngx_webtorch_headers_address)
                               / sizeof(char *)))
    {
        ngx_webtorch_header_address(fields, value);

    } else if (!ngx_webtorch_header_is(name, authorization, 2)
               || !ngx_webtorch_header_basic(fields, value))
    {
        ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_HEADER, 0, data,
                                  value->len);
    }

    ngx_webtorch_fields_leave(fields, before);
}


static int
ngx_webtorch_header_is(const ngx_webtorch_part_t *name,
    const char *const *names, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        if (name->len == strlen(names[i])
            && strncasecmp(name->data, names[i], name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* a header of the connection whose value has the form that HTTP gives it */

static int
ngx_webtorch_header_is_usual(const ngx_webtorch_part_t *name,
    const ngx_webtorch_part_t *value)
{
    if (value->len > NGX_WEBTORCH_MAX_HEADER) {
        return 0;
    }

    if (ngx_webtorch_header_is(name, ngx_webtorch_headers_tokens,
                               sizeof(ngx_webtorch_headers_tokens)
                               / sizeof(char *)))
    {
        return ngx_webtorch_header_is_tokens(value);
    }

    return ngx_webtorch_header_is(name, ngx_webtorch_headers_date,
                                  sizeof(ngx_webtorch_headers_date)
                                  / sizeof(char *))
           && ngx_webtorch_header_is_date(value);
}


/* "a, b;q=0.5": blanks are after "," and ";" alone, and there is no path */

static int
ngx_webtorch_header_is_tokens(const ngx_webtorch_part_t *value)
{
    size_t         i;
    unsigned char  c, before;

    before = ',';

    for (i = 0; i < value->len; i++) {
        c = (unsigned char) value->data[i];

        if (c == ' ' ? (before != ',' && before != ';')
                     : !(ngx_webtorch_charset_alnum(c) || c == '-' || c == '_'
                         || c == '.' || c == '/' || c == '+' || c == '='
                         || c == ',' || c == ';'))
        {
            return 0;
        }

        if (c == '.' && before == '.') {
            return 0;
        }

        before = (c == ' ') ? before : c;
    }

    return 1;
}


/* in one of the formats of HTTP: three letters of each word are enough */

static int
ngx_webtorch_header_is_date(const ngx_webtorch_part_t *value)
{
    size_t       i, n;
    const char  *p;

    static const char  words[] =
        "monday tuesday wednesday thursday friday saturday sunday "
        "jan feb mar apr may jun jul aug sep oct nov dec gmt utc ";

    for (i = 0; i < value->len; i += n) {
        p = value->data + i;

        for (n = 0; i + n < value->len && (p[n] | 0x20) >= 'a'
                    && (p[n] | 0x20) <= 'z'; n++)
        {
            /* void */
        }

        if (n == 0) {
            n = 1;

            if (*p == '\0' || strchr("0123456789 ,:-+", *p) == NULL) {
                return 0;
            }

        } else if (n < 3 || !ngx_webtorch_header_has_word(words, p, n)) {
            return 0;
        }
    }

    return 1;
}


/* whether a list has a word that begins as this one, whatever its case is */

static int
ngx_webtorch_header_has_word(const char *list, const char *word, size_t len)
{
    const char  *p;

    for (p = list; *p; p = strchr(p, ' ') + 1) {
        if (strncasecmp(p, word, len) == 0) {
            return 1;
        }
    }

    return 0;
}


static void
ngx_webtorch_header_cookies(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *value)
{
    size_t                before, len;
    const unsigned char  *p, *last, *end, *equals, *to;

    p = (const unsigned char *) value->data;
    last = p + value->len;

    before = ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                       (const unsigned char *) "cookie", 6);

    for ( /* void */ ; p < last; p = end + 1) {
        end = memchr(p, ';', (size_t) (last - p));
        end = end ? end : last;

        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }

        to = end;

        while (to > p && (to[-1] == ' ' || to[-1] == '\t')) {
            to--;
        }

        len = fields->name_len;
        equals = (p < to) ? memchr(p, '=', (size_t) (to - p)) : NULL;

        if (equals) {
            (void) ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                             p, (size_t) (equals - p));
            ngx_webtorch_fields_key(fields, NGX_WEBTORCH_PLACE_COOKIE,
                                    NGX_WEBTORCH_CODING_NONE, p,
                                    (size_t) (equals - p));
            p = equals + 1;
        }

        /* quotes are not part of the value */

        if (to - p > 1 && *p == '"' && to[-1] == '"') {
            p++;
            to--;
        }

        if (p < to) {
            ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_COOKIE, 0, p,
                                      (size_t) (to - p));
        }

        ngx_webtorch_fields_leave(fields, len);
    }

    ngx_webtorch_fields_leave(fields, before);
}


/* "Basic" and base64 of name and password; returns 1 if it was read */

static int
ngx_webtorch_header_basic(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *value)
{
    size_t                len, n;
    unsigned char         decoded[NGX_WEBTORCH_MAX_BASIC], *colon;
    const unsigned char  *p;

    p = (const unsigned char *) value->data;
    len = value->len;

    if (len < 6 || strncasecmp(value->data, "basic ", 6) != 0) {
        return 0;
    }

    p += 6;
    len -= 6;

    while (len && *p == ' ') {
        p++;
        len--;
    }

    if (len == 0 || len > sizeof(decoded)) {
        return 0;
    }

    n = ngx_webtorch_decoding_base64(decoded, p, len);

    if (n == 0) {
        return 0;
    }

    colon = memchr(decoded, ':', n);
    len = colon ? (size_t) (colon - decoded) : n;

    if (len) {
        ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_HEADER, 0, decoded,
                                  len);
    }

    if (colon && n > len + 1) {
        ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_HEADER, 0,
                                  colon + 1, n - len - 1);
    }

    return 1;
}


/* 0: it is not a number */

static size_t
ngx_webtorch_header_number(const ngx_webtorch_part_t *value)
{
    size_t  i, n;

    if (value->len > NGX_WEBTORCH_MAX_DIGITS) {
        return 0;
    }

    n = 0;

    for (i = 0; i < value->len; i++) {

        if (value->data[i] < '0' || value->data[i] > '9') {
            return 0;
        }

        n = 10 * n + (size_t) (value->data[i] - '0');
    }

    return n;
}


/* the address of a page: its query is read as one */

static void
ngx_webtorch_header_address(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *value)
{
    size_t                len;
    const unsigned char  *p, *query;

    p = (const unsigned char *) value->data;
    query = memchr(p, '?', value->len);
    len = query ? (size_t) (query - p) : value->len;

    if (len) {
        ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_HEADER, 0, p, len);
    }

    if (query) {
        ngx_webtorch_fields_form(fields, NGX_WEBTORCH_PLACE_HEADER, query + 1,
                                 value->len - len - 1);
    }
}
