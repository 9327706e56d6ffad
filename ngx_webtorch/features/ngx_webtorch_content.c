
/* The format of a body or a part, by its type and by its first bytes. */

#include "ngx_webtorch_content.h"
#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_fields_json.h"
#include "ngx_webtorch_fields_xml.h"

#include <string.h>
#include <strings.h>


static int ngx_webtorch_content_begins_json(const unsigned char *p,
    size_t len);
static int ngx_webtorch_content_is_document(const unsigned char *p,
    size_t len);
static int ngx_webtorch_content_is_form(const unsigned char *p, size_t len);
static void ngx_webtorch_content_trim(ngx_webtorch_part_t *text,
    const char *chars);


ngx_webtorch_type_e
ngx_webtorch_content_type(const ngx_webtorch_part_t *header)
{
    size_t               i;
    ngx_webtorch_part_t  type;

    static const struct {
        const char           *word;
        ngx_webtorch_type_e   type;
    }  types[] = {
        { "multipart/", NGX_WEBTORCH_TYPE_MULTIPART },
        { "x-www-form-urlencoded", NGX_WEBTORCH_TYPE_FORM },
        { "graphql", NGX_WEBTORCH_TYPE_GRAPHQL },
        { "protobuf", NGX_WEBTORCH_TYPE_NONE },
        { "json", NGX_WEBTORCH_TYPE_JSON },
        { "xml", NGX_WEBTORCH_TYPE_XML },
        { "soap", NGX_WEBTORCH_TYPE_XML },
        { "text/", NGX_WEBTORCH_TYPE_TEXT },
        { "image/", NGX_WEBTORCH_TYPE_BINARY },
        { "audio/", NGX_WEBTORCH_TYPE_BINARY },
        { "video/", NGX_WEBTORCH_TYPE_BINARY },
        { "zip", NGX_WEBTORCH_TYPE_BINARY }
    };

    /* without parameters */

    for (i = 0; i < header->len && header->data[i] != ';'; i++) { /* void */ }

    type.data = header->data;
    type.len = i;

    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (ngx_webtorch_content_contains(&type, types[i].word)) {
            return types[i].type;
        }
    }

    return NGX_WEBTORCH_TYPE_NONE;
}


ngx_webtorch_type_e
ngx_webtorch_content_look(const ngx_webtorch_part_t *body)
{
    size_t                i;
    const unsigned char  *p, *end;

    p = (const unsigned char *) body->data;

    if (ngx_webtorch_content_is_binary(p, body->len)
        && !ngx_webtorch_content_is_document(p, body->len))
    {
        return NGX_WEBTORCH_TYPE_BINARY;
    }

    for (i = 0; i < body->len && p[i] <= ' '; i++) { /* void */ }

    if (i == body->len) {
        return NGX_WEBTORCH_TYPE_TEXT;
    }

    switch (p[i]) {

    case '{':
    case '[':
        return NGX_WEBTORCH_TYPE_JSON;

    case '<':
        if (i + 1 < body->len
            && (p[i + 1] == '?' || p[i + 1] == '!'
                || ((p[i + 1] | 0x20) >= 'a' && (p[i + 1] | 0x20) <= 'z')))
        {
            return NGX_WEBTORCH_TYPE_XML;
        }

        break;

    case '-':
        end = memchr(p + i, '\n', body->len - i);

        if (end && i + 1 < body->len && p[i + 1] == '-'
            && (size_t) (p + body->len - end) > 20
            && strncasecmp((const char *) end + 1, "content-", 8) == 0)
        {
            return NGX_WEBTORCH_TYPE_MULTIPART;
        }

        break;

    default:
        break;
    }

    if (ngx_webtorch_json_is_valid(p, body->len)) {
        return NGX_WEBTORCH_TYPE_JSON;
    }

    return ngx_webtorch_content_is_form(p + i, body->len - i)
           ? NGX_WEBTORCH_TYPE_FORM : NGX_WEBTORCH_TYPE_TEXT;
}


/*
 * Begins as JSON or XML do.  Few parsers ask for a type, and some replace bytes
 * that are no UTF-8.
 */

static int
ngx_webtorch_content_is_document(const unsigned char *p, size_t len)
{
    size_t         i;
    unsigned char  c;

    for (i = 0; i < len && ngx_webtorch_charset_blank(p[i]); i++) {
        /* void */
    }

    if (len - i < 2) {
        return 0;
    }

    c = p[i++];

    if (c == '<') {
        return p[i] == '!' || (len - i > 3 && memcmp(p + i, "?xml", 4) == 0);
    }

    if (c != '{' && c != '[') {
        return 0;
    }

    while (i < len && ngx_webtorch_charset_blank(p[i])) {
        i++;
    }

    return i < len && (p[i] == '"' || p[i] == '\'' || p[i] == '{');
}


/* a usual name and "=" at the begin, and no lines */

static int
ngx_webtorch_content_is_form(const unsigned char *p, size_t len)
{
    size_t                i;
    const unsigned char  *end;

    for (i = 0; i < len && i < NGX_WEBTORCH_FIELD_NAME; i++) {
        if (p[i] <= ' ' || p[i] == '<' || p[i] == '{' || p[i] == ':'
            || p[i] == '"' || p[i] == ',')
        {
            return 0;
        }

        if (p[i] == '=') {
            end = memchr(p, '\n', len);
            return i && (end == NULL || end >= p + len - 2);
        }
    }

    return 0;
}


int
ngx_webtorch_content_is_binary(const unsigned char *p, size_t len)
{
    size_t  i, n, bad;

    n = (len < NGX_WEBTORCH_BODY_LOOK) ? len : NGX_WEBTORCH_BODY_LOOK;

    if (ngx_webtorch_charset_is_text(p, n)) {
        return 0;
    }

    if (ngx_webtorch_content_is_known(p, len)) {
        return 1;
    }

    /* a quarter of the bytes are not text */

    for (i = 0, bad = 0; i < n; i++) {
        bad += (p[i] < ' ' && !ngx_webtorch_charset_blank(p[i]))
               || p[i] >= 0x7f;
    }

    return bad > n / 4;
}


int
ngx_webtorch_content_is_known(const unsigned char *p, size_t len)
{
    size_t  i;

    static const struct {
        const char  *bytes;
        size_t       len;
    }  magics[] = {
        { "\x89PNG\r\n", 6 }, { "GIF8", 4 }, { "\xff\xd8\xff", 3 },
        { "PK\x03\x04", 4 }, { "PK\x05\x06", 4 }, { "%PDF-", 5 },
        { "\x1f\x8b", 2 }, { "RIFF", 4 }, { "OggS", 4 }, { "ID3", 3 },
        { "\x93NUMPY", 6 }, { "BZh", 3 }, { "\xfd" "7zXZ", 5 },
        { "7z\xbc\xaf", 4 }, { "\x00\x00\x01\x00", 4 }, { "wOFF", 4 },
        { "wOF2", 4 }, { "\x7f" "ELF", 4 }, { "fLaC", 4 }, { "PAR1", 4 },
        { "ARROW1", 6 }, { "OTTO", 4 }, { "\x00\x01\x00\x00", 4 },
        { "II*\x00", 4 }, { "MM\x00*", 4 }
    };

    for (i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
        if (len >= magics[i].len
            && memcmp(p, magics[i].bytes, magics[i].len) == 0)
        {
            return 1;
        }
    }

    /* a tensor in safetensors has a length of 8 bytes before its text */

    return len > 8 && p[8] == '{' && p[5] == 0 && p[6] == 0 && p[7] == 0;
}


int
ngx_webtorch_content_read(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, const ngx_webtorch_part_t *body)
{
    ngx_webtorch_type_e   declared;
    const unsigned char  *p;

    p = (const unsigned char *) body->data;
    declared = ngx_webtorch_content_type(type);

    if (!ngx_webtorch_content_charset(type)) {
        fields->unread |= NGX_WEBTORCH_UNREAD_CHARSET;
    }

    if ((declared == NGX_WEBTORCH_TYPE_JSON
         && ngx_webtorch_content_begins_json(p, body->len))
        || ((*p == '{' || *p == '[')
            && ngx_webtorch_json_is_valid(p, body->len)))
    {
        ngx_webtorch_fields_json(fields, NGX_WEBTORCH_PLACE_JSON, p, body->len);
        return 1;
    }

    if (declared == NGX_WEBTORCH_TYPE_XML
        || (body->len > 5 && memcmp(p, "<?xml", 5) == 0))
    {
        ngx_webtorch_fields_xml(fields, p, body->len);
        return 1;
    }

    return 0;
}


/*
 * As lenient parsers do.  A part that begins otherwise is text to applications
 * that do not look at its type.
 */

static int
ngx_webtorch_content_begins_json(const unsigned char *p, size_t len)
{
    size_t  i;

    i = (len > 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) ? 3 : 0;

    while (i < len && p[i] <= ' ') {
        i++;
    }

    return i < len
           && (p[i] == '{' || p[i] == '[' || p[i] == '"' || p[i] == '/');
}


/*
 * word: in lower case, begins with a letter.  A client may send a long text, so
 * only what begins with this letter is compared.
 */

int
ngx_webtorch_content_contains(const ngx_webtorch_part_t *text, const char *word)
{
    size_t  i, n;

    n = strlen(word);

    for (i = 0; i + n <= text->len; i++) {
        if ((text->data[i] | 0x20) == word[0]
            && strncasecmp(text->data + i, word, n) == 0)
        {
            return 1;
        }
    }

    return 0;
}


int
ngx_webtorch_content_charset(const ngx_webtorch_part_t *type)
{
    const char           *p, *last, *end;
    ngx_webtorch_part_t   charset;

    if (type->len == 0) {
        return 1;
    }

    last = type->data + type->len;

    for (p = type->data; p < last; p = end) {
        end = memchr(p, ';', (size_t) (last - p));
        end = end ? end + 1 : last;

        if (p == type->data) {
            continue;
        }

        charset.data = p;
        charset.len = (size_t) (end - p);
        ngx_webtorch_content_trim(&charset, " \t;");

        if (charset.len < 8
            || strncasecmp(charset.data, "charset", 7) != 0)
        {
            continue;
        }

        charset.data += 7;
        charset.len -= 7;
        ngx_webtorch_content_trim(&charset, " \t");

        if (charset.len && *charset.data == '=') {
            charset.data++;
            charset.len--;
            ngx_webtorch_content_trim(&charset, " \t\"'");

            if (!ngx_webtorch_charset_is_known(charset.data, charset.len)) {
                return 0;
            }
        }
    }

    return 1;
}


/* removes characters at both ends */

static void
ngx_webtorch_content_trim(ngx_webtorch_part_t *text, const char *chars)
{
    while (text->len && *text->data && strchr(chars, *text->data)) {
        text->data++;
        text->len--;
    }

    while (text->len && text->data[text->len - 1]
           && strchr(chars, text->data[text->len - 1]))
    {
        text->len--;
    }
}
