
/* Fields of GraphQL: its strings and comments. */

#include "ngx_webtorch_fields_graphql.h"
#include "ngx_webtorch_charset.h"

#include <string.h>


/* kinds of tokens; punctuation has its own character */

#define NGX_WEBTORCH_GRAPHQL_BEGIN   0
#define NGX_WEBTORCH_GRAPHQL_NAME    'a'
#define NGX_WEBTORCH_GRAPHQL_NUMBER  '0'
#define NGX_WEBTORCH_GRAPHQL_STRING  '"'
#define NGX_WEBTORCH_GRAPHQL_SPREAD  '.'

/* open brackets at most */
#define NGX_WEBTORCH_GRAPHQL_DEPTH   64


typedef struct {
    ngx_webtorch_fields_t  *fields;       /* NULL: for a check only */
    int                     json;         /* within a string of JSON */
    const unsigned char    *p;
    const unsigned char    *last;
    const unsigned char    *word;         /* the last name */
    size_t                  word_len;
    int                     token;        /* the last one */
    uint32_t                definitions;
    uint32_t                names;        /* before the "{" of a definition */
    uint32_t                depth;
    unsigned char           open[NGX_WEBTORCH_GRAPHQL_DEPTH];
} ngx_webtorch_graphql_t;


static int ngx_webtorch_graphql_begins(const ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_read(ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_token(ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_name(ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_number(ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_sign(ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_is_value(
    const ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_is_keyword(const unsigned char *p, size_t len);
static int ngx_webtorch_graphql_string(ngx_webtorch_graphql_t *document,
    size_t quote);
static size_t ngx_webtorch_graphql_quote(const ngx_webtorch_graphql_t *document,
    const unsigned char *p);
static void ngx_webtorch_graphql_field(ngx_webtorch_graphql_t *document,
    const unsigned char *begin, const unsigned char *end, uint32_t flags);


int
ngx_webtorch_fields_graphql(ngx_webtorch_fields_t *fields,
    ngx_webtorch_coding_e coding, const unsigned char *data, size_t len)
{
    ngx_webtorch_graphql_t  document;

    document.json = (coding == NGX_WEBTORCH_CODING_JSON);
    document.last = data + len;

    document.fields = NULL;
    document.p = data;

    if (!ngx_webtorch_graphql_begins(&document)
        || !ngx_webtorch_graphql_read(&document))
    {
        return 0;
    }

    document.fields = fields;
    document.p = data;

    (void) ngx_webtorch_graphql_read(&document);

    return 1;
}


/* "{", "query", "mutation" and so on; comments may come before */

static int
ngx_webtorch_graphql_begins(const ngx_webtorch_graphql_t *document)
{
    size_t                i, n;
    const unsigned char  *p;

    static const char *const  words[] = {
        "query", "mutation", "subscription", "fragment", "{", "#"
    };

    p = document->p;

    while (p < document->last) {

        if (*p <= ' ') {
            p++;

        } else if (document->json && document->last - p > 1 && *p == '\\'
                   && (p[1] == 'n' || p[1] == 't' || p[1] == 'r'))
        {
            p += 2;

        } else {
            break;
        }
    }

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        n = strlen(words[i]);

        if ((size_t) (document->last - p) > n
            && memcmp(p, words[i], n) == 0)
        {
            /* there is a selection */
            return memchr(p, '{', (size_t) (document->last - p)) != NULL;
        }
    }

    return 0;
}


/* returns 0 if it is not a document by its grammar */

static int
ngx_webtorch_graphql_read(ngx_webtorch_graphql_t *document)
{
    size_t                 n;
    const unsigned char   *p;

    document->word = NULL;
    document->word_len = 0;
    document->token = NGX_WEBTORCH_GRAPHQL_BEGIN;
    document->definitions = 0;
    document->names = 0;
    document->depth = 0;

    while (document->p < document->last) {

        n = ngx_webtorch_graphql_quote(document, document->p);

        if (n) {
            if (!ngx_webtorch_graphql_is_value(document)
                || !ngx_webtorch_graphql_string(document, n))
            {
                return 0;
            }

            document->token = NGX_WEBTORCH_GRAPHQL_STRING;
            continue;
        }

        if (*document->p == '#') {
            p = document->p;

            while (document->p < document->last && *document->p != '\n'
                   && !(document->json && *document->p == '\\'))
            {
                document->p++;
            }

            ngx_webtorch_graphql_field(document, p + 1, document->p,
                                       NGX_WEBTORCH_FIELD_MARKUP);
            continue;
        }

        if (!ngx_webtorch_graphql_token(document)) {
            return 0;
        }
    }

    return document->depth == 0 && document->definitions
           && document->token == '}';
}


/* a name, a number, a blank or punctuation */

static int
ngx_webtorch_graphql_token(ngx_webtorch_graphql_t *document)
{
    unsigned char         c;
    const unsigned char  *p;

    p = document->p;
    c = *p;

    if (c == '-' || (c >= '0' && c <= '9')) {
        return ngx_webtorch_graphql_number(document);
    }

    if (c == '_' || ngx_webtorch_charset_alnum(c)) {
        return ngx_webtorch_graphql_name(document);
    }

    if (document->json && c == '\\' && document->last - p > 1
        && (p[1] == 'n' || p[1] == 'r' || p[1] == 't'))
    {
        document->p += 2;
        return 1;
    }

    if (ngx_webtorch_charset_blank(c) || c == ',') {
        document->p++;
        return 1;
    }

    return ngx_webtorch_graphql_sign(document);
}


/* outside of braces there are a keyword, a name, and "on" with a name */

static int
ngx_webtorch_graphql_name(ngx_webtorch_graphql_t *document)
{
    const unsigned char  *p;

    for (p = document->p;
         p < document->last
         && (*p == '_' || ngx_webtorch_charset_alnum(*p));
         p++)
    {
        /* void */
    }

    document->word = document->p;
    document->word_len = (size_t) (p - document->p);
    document->p = p;

    if (document->depth == 0 && document->token != '@') {
        document->names++;

        if (document->names > 4
            || (document->names == 1
                && !ngx_webtorch_graphql_is_keyword(document->word,
                                                    document->word_len)))
        {
            return 0;
        }
    }

    document->token = NGX_WEBTORCH_GRAPHQL_NAME;

    return 1;
}


static int
ngx_webtorch_graphql_number(ngx_webtorch_graphql_t *document)
{
    size_t                digits;
    const unsigned char  *p;

    if (!ngx_webtorch_graphql_is_value(document)) {
        return 0;
    }

    digits = 0;

    for (p = document->p + (*document->p == '-'); p < document->last; p++) {

        if (*p >= '0' && *p <= '9') {
            digits++;

        } else if (!digits
                   || !(*p == '.' || (*p | 0x20) == 'e'
                        || ((*p == '-' || *p == '+')
                            && (p[-1] | 0x20) == 'e')))
        {
            break;
        }
    }

    document->p = p;
    document->token = NGX_WEBTORCH_GRAPHQL_NUMBER;

    return digits
           && (p == document->last
               || !(*p == '_' || ngx_webtorch_charset_alnum(*p)));
}


/* each sign is allowed after some tokens only */

static int
ngx_webtorch_graphql_sign(ngx_webtorch_graphql_t *document)
{
    int            token;
    unsigned char  c, open;

    token = document->token;
    c = *document->p++;
    open = document->depth ? document->open[document->depth - 1] : 0;

    switch (c) {

    case '{':
    case '(':
    case '[':

        if (document->depth == NGX_WEBTORCH_GRAPHQL_DEPTH
            || token == '{' || (c == '(' && token != NGX_WEBTORCH_GRAPHQL_NAME)
            || (c == '[' && !ngx_webtorch_graphql_is_value(document)))
        {
            return 0;
        }

        if (document->depth == 0 && c == '{') {
            document->definitions++;
            document->names = 0;
        }

        document->open[document->depth++] = c;
        break;

    case '}':
    case ')':
    case ']':

        if (open != (c == '}' ? '{' : c == ')' ? '(' : '[')) {
            return 0;
        }

        document->depth--;
        break;

    case '.':

        if (open != '{' || document->last - document->p < 2
            || document->p[0] != '.' || document->p[1] != '.')
        {
            return 0;
        }

        document->p += 2;
        break;

    case ':':

        if (document->depth == 0 || token != NGX_WEBTORCH_GRAPHQL_NAME) {
            return 0;
        }

        break;

    case '!':
    case '=':

        if (open != '(' && open != '[') {
            return 0;
        }

        break;

    case '$':

        if (open != '(' && !ngx_webtorch_graphql_is_value(document)) {
            return 0;
        }

        break;

    case '@':
        break;

    default:
        return 0;
    }

    document->token = c;

    return 1;
}


/* within arguments and lists, after a colon or another value */

static int
ngx_webtorch_graphql_is_value(const ngx_webtorch_graphql_t *document)
{
    unsigned char  open;

    open = document->depth ? document->open[document->depth - 1] : 0;

    return document->token == ':' || document->token == '=' || open == '[';
}


static int
ngx_webtorch_graphql_is_keyword(const unsigned char *p, size_t len)
{
    size_t  i;

    static const char *const  words[] = {
        "query", "mutation", "subscription", "fragment"
    };

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (len == strlen(words[i]) && memcmp(p, words[i], len) == 0) {
            return 1;
        }
    }

    return 0;
}


/* returns the length of a quotation mark; 0: there is none */

static size_t
ngx_webtorch_graphql_quote(const ngx_webtorch_graphql_t *document,
    const unsigned char *p)
{
    if (!document->json) {
        return (*p == '"') ? 1 : 0;
    }

    return (document->last - p > 1 && p[0] == '\\' && p[1] == '"') ? 2 : 0;
}


/* a string, or one of a block, which begins and ends with three quotes */

static int
ngx_webtorch_graphql_string(ngx_webtorch_graphql_t *document, size_t quote)
{
    size_t                marks, i;
    const unsigned char  *p, *q, *begin;

    p = document->p;
    marks = 0;

    while (marks < 3 && p < document->last
           && ngx_webtorch_graphql_quote(document, p))
    {
        p += quote;
        marks++;
    }

    if (marks == 2) {
        document->p = p;
        return 1;
    }

    for (begin = p; p < document->last; /* void */ ) {
        q = p;

        for (i = 0; i < marks && q < document->last
                    && ngx_webtorch_graphql_quote(document, q); i++)
        {
            q += quote;
        }

        if (i == marks) {
            ngx_webtorch_graphql_field(document, begin, p, 0);
            document->p = q;
            return 1;
        }

        /* within a string of JSON the escape itself is escaped */

        if (*p == '\\' && document->last - p > 1) {

            if (!document->json) {
                p += 2;

            } else if (p[1] == '\\' && document->last - p > 2) {
                p += 2;
                p += (*p == '\\' && document->last - p > 1) ? 2 : 1;

            } else {
                p += 2;
            }

        } else {
            p++;
        }
    }

    return 0;
}


static void
ngx_webtorch_graphql_field(ngx_webtorch_graphql_t *document,
    const unsigned char *begin, const unsigned char *end, uint32_t flags)
{
    size_t              name;
    ngx_webtorch_raw_t  raw;

    if (document->fields == NULL) {
        return;
    }

    raw.place = NGX_WEBTORCH_PLACE_GRAPHQL;
    raw.coding = document->json ? NGX_WEBTORCH_CODING_JSON
                                : NGX_WEBTORCH_CODING_NONE;
    raw.flags = flags;
    raw.data = begin;
    raw.len = (size_t) (end - begin);

    name = ngx_webtorch_fields_enter(document->fields, NGX_WEBTORCH_CODING_NONE,
                                     document->word, document->word_len);
    ngx_webtorch_fields_value(document->fields, &raw);
    ngx_webtorch_fields_leave(document->fields, name);
}
