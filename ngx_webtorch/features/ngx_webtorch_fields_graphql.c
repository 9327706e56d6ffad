
/* Fields of GraphQL: its strings and comments. */

#include "ngx_webtorch_fields_graphql.h"
#include "ngx_webtorch_charset.h"

#include <string.h>


typedef struct {
    ngx_webtorch_fields_t  *fields;       /* NULL: for a check only */
    int                     json;         /* within a string of JSON */
    const unsigned char    *p;
    const unsigned char    *last;
    const unsigned char    *word;         /* the last name */
    size_t                  word_len;
} ngx_webtorch_graphql_t;


static int ngx_webtorch_graphql_begins(const ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_read(ngx_webtorch_graphql_t *document);
static int ngx_webtorch_graphql_token(ngx_webtorch_graphql_t *document);
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

    document.fields = NULL;
    document.json = (coding == NGX_WEBTORCH_CODING_JSON);
    document.p = data;
    document.last = data + len;
    document.word = NULL;
    document.word_len = 0;

    if (!ngx_webtorch_graphql_begins(&document)
        || !ngx_webtorch_graphql_read(&document))
    {
        return 0;
    }

    document.fields = fields;
    document.p = data;
    document.word = NULL;
    document.word_len = 0;

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


static int
ngx_webtorch_graphql_read(ngx_webtorch_graphql_t *document)
{
    size_t                 n;
    uint32_t               depth;
    unsigned char          c;
    const unsigned char   *p;

    depth = 0;

    while (document->p < document->last) {

        n = ngx_webtorch_graphql_quote(document, document->p);

        if (n) {
            if (!ngx_webtorch_graphql_string(document, n)) {
                return 0;
            }

            continue;
        }

        c = *document->p;

        if (c == '#') {
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

        if (c == '{') {
            depth++;

        } else if (c == '}') {
            if (depth == 0) {
                return 0;
            }

            depth--;
        }

        if (!ngx_webtorch_graphql_token(document)) {
            return 0;
        }
    }

    return depth == 0;
}


/* a name, a number, a blank or one character of punctuation */

static int
ngx_webtorch_graphql_token(ngx_webtorch_graphql_t *document)
{
    unsigned char         c;
    const unsigned char  *p;

    p = document->p;
    c = *p;

    if (c == '_' || ngx_webtorch_charset_alnum(c)) {

        while (p < document->last
               && (*p == '_' || ngx_webtorch_charset_alnum(*p)))
        {
            p++;
        }

        document->word = document->p;
        document->word_len = (size_t) (p - document->p);
        document->p = p;

        return 1;
    }

    if (document->json && c == '\\' && document->last - p > 1
        && (p[1] == 'n' || p[1] == 'r' || p[1] == 't'))
    {
        document->p += 2;
        return 1;
    }

    if (c == ' ' || c == '\t' || c == '\n' || c == '\r'
        || (c > ' ' && strchr("{}()[]:,!$@=|&.-+", c)))
    {
        document->p++;
        return 1;
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
