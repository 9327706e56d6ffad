
/* Fields of JSON and NDJSON. */

#include "ngx_webtorch_fields_json.h"
#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_fields_graphql.h"

#include <string.h>


/* bytes of a bare word that can be "true", "null", "NaN" or a number */
#define NGX_WEBTORCH_JSON_WORD  32

/* bytes after a document that are checked */
#define NGX_WEBTORCH_JSON_LOOK  64


typedef enum {
    NGX_WEBTORCH_JSON_VALUE = 0,          /* or the end of an array */
    NGX_WEBTORCH_JSON_KEY,                /* or the end of an object */
    NGX_WEBTORCH_JSON_COLON,
    NGX_WEBTORCH_JSON_COMMA               /* or an end */
} ngx_webtorch_json_state_e;


typedef struct {
    ngx_webtorch_fields_t      *fields;
    ngx_webtorch_field_place_e        place;
    const unsigned char        *begin;
    const unsigned char        *p;
    const unsigned char        *last;
    ngx_webtorch_json_state_e   state;
    int                         valid;
    uint32_t                    depth;
    uint64_t                    objects;  /* a bit for each depth */
    size_t                      names[NGX_WEBTORCH_FIELD_DEPTH + 1];
} ngx_webtorch_json_t;


static void ngx_webtorch_json_read(ngx_webtorch_json_t *json);
static void ngx_webtorch_json_open(ngx_webtorch_json_t *json, int object);
static void ngx_webtorch_json_close(ngx_webtorch_json_t *json, int object);
static void ngx_webtorch_json_string(ngx_webtorch_json_t *json);
static void ngx_webtorch_json_key(ngx_webtorch_json_t *json,
    const unsigned char *data, size_t len);
static void ngx_webtorch_json_text(ngx_webtorch_json_t *json,
    const unsigned char *data, size_t len);
static int ngx_webtorch_json_is_query(const ngx_webtorch_json_t *json);
static void ngx_webtorch_json_word(ngx_webtorch_json_t *json);
static int ngx_webtorch_json_is_word(const unsigned char *p, size_t len);
static void ngx_webtorch_json_comment(ngx_webtorch_json_t *json);
static void ngx_webtorch_json_after(ngx_webtorch_json_t *json);


void
ngx_webtorch_fields_json(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, const unsigned char *data, size_t len)
{
    size_t               name;
    ngx_webtorch_json_t  json;

    json.fields = fields;
    json.place = place;
    json.begin = data;
    json.p = data;
    json.last = data + len;
    json.state = NGX_WEBTORCH_JSON_VALUE;
    json.valid = 1;
    json.depth = 0;
    json.objects = 0;
    json.names[0] = fields->name_len;

    name = fields->name_len;

    ngx_webtorch_json_read(&json);
    ngx_webtorch_fields_leave(fields, name);

    if (!json.valid) {
        fields->flaws |= NGX_WEBTORCH_FLAW_SYNTAX;
    }

    if (json.depth) {
        fields->flaws |= NGX_WEBTORCH_FLAW_END;
    }
}


int
ngx_webtorch_json_is_valid(const unsigned char *data, size_t len)
{
    ngx_webtorch_json_t  json;

    memset(&json, 0, sizeof(ngx_webtorch_json_t));

    json.begin = data;
    json.p = data;
    json.last = data + len;
    json.state = NGX_WEBTORCH_JSON_VALUE;
    json.valid = 1;

    ngx_webtorch_json_read(&json);

    return json.valid && json.depth == 0;
}


/* reads to the end, whether it is valid or not */

static void
ngx_webtorch_json_read(ngx_webtorch_json_t *json)
{
    while (json->p < json->last && (json->fields || json->valid)) {

        switch (*json->p) {

        case ' ':
        case '\t':
        case '\r':
        case '\n':
            json->p++;
            break;

        case '{':
        case '[':
            ngx_webtorch_json_open(json, *json->p == '{');
            break;

        case '}':
        case ']':
            ngx_webtorch_json_close(json, *json->p == '}');
            break;

        case ',':
            json->valid &= (json->state == NGX_WEBTORCH_JSON_COMMA
                            && json->depth);
            json->p++;
            json->state = (json->objects & 1) ? NGX_WEBTORCH_JSON_KEY
                                              : NGX_WEBTORCH_JSON_VALUE;
            break;

        case ':':
            json->valid &= (json->state == NGX_WEBTORCH_JSON_COLON);
            json->p++;
            json->state = NGX_WEBTORCH_JSON_VALUE;
            break;

        case '"':
        case '\'':
            json->valid &= (*json->p == '"');
            ngx_webtorch_json_string(json);
            break;

        case '/':
        case '#':
            json->valid = 0;
            ngx_webtorch_json_comment(json);
            break;

        default:
            ngx_webtorch_json_word(json);
            break;
        }
    }
}


static void
ngx_webtorch_json_open(ngx_webtorch_json_t *json, int object)
{
    json->valid &= (json->state == NGX_WEBTORCH_JSON_VALUE);
    json->p++;

    /* beyond the bound all is read, but names and kinds are those of it */

    if (json->depth == NGX_WEBTORCH_FIELD_DEPTH - 1) {
        json->valid = 0;

        if (json->fields) {
            json->fields->unread |= NGX_WEBTORCH_UNREAD_DEPTH;
        }

    } else {
        json->depth++;
        json->objects = json->objects << 1 | (uint64_t) object;

        if (json->fields) {
            json->names[json->depth] = json->fields->name_len;
        }
    }

    json->state = object ? NGX_WEBTORCH_JSON_KEY : NGX_WEBTORCH_JSON_VALUE;
}


static void
ngx_webtorch_json_close(ngx_webtorch_json_t *json, int object)
{
    size_t  len;

    json->p++;

    /* a comma before the end is accepted by some parsers */

    if (json->depth == 0 || (int) (json->objects & 1) != object
        || json->state == NGX_WEBTORCH_JSON_COLON
        || (object && json->state == NGX_WEBTORCH_JSON_VALUE))
    {
        json->valid = 0;
    }

    if (json->depth) {
        json->depth--;
        json->objects >>= 1;

        if (json->fields) {
            ngx_webtorch_fields_leave(json->fields, json->names[json->depth]);
        }
    }

    ngx_webtorch_json_after(json);

    /*
     * Tensors of the inference protocol follow.  Without its header, or where
     * text follows, an application may read what comes as another document.
     */

    if (json->fields && json->depth == 0 && json->p < json->last
        && json->fields->json_len == (size_t) (json->p - json->begin))
    {
        len = (size_t) (json->last - json->p);
        len = (len < NGX_WEBTORCH_JSON_LOOK) ? len : NGX_WEBTORCH_JSON_LOOK;

        if (!ngx_webtorch_charset_is_text(json->p, len)) {
            json->p = json->last;
        }
    }
}


/* a value has ended; in an object the name of its key ends, too */

static void
ngx_webtorch_json_after(ngx_webtorch_json_t *json)
{
    json->state = json->depth ? NGX_WEBTORCH_JSON_COMMA
                              : NGX_WEBTORCH_JSON_VALUE;

    if (json->fields) {
        ngx_webtorch_fields_leave(json->fields, json->names[json->depth]);
    }
}


static void
ngx_webtorch_json_string(ngx_webtorch_json_t *json)
{
    unsigned char          quote;
    const unsigned char   *begin, *p;
    ngx_webtorch_fields_t *fields;

    quote = *json->p;
    begin = json->p + 1;

    for (p = begin; p < json->last && *p != quote; p++) {

        if (*p == '\\' && p + 1 < json->last) {
            p++;

        } else if (*p < ' ') {
            json->valid = 0;
        }
    }

    fields = json->fields;
    json->p = (p < json->last) ? p + 1 : p;

    if (p == json->last) {
        json->valid = 0;
    }

    if (json->state == NGX_WEBTORCH_JSON_KEY) {
        ngx_webtorch_json_key(json, begin, (size_t) (p - begin));
        return;
    }

    json->valid &= (json->state == NGX_WEBTORCH_JSON_VALUE);

    if (fields) {
        ngx_webtorch_json_text(json, begin, (size_t) (p - begin));
    }

    ngx_webtorch_json_after(json);
}


static void
ngx_webtorch_json_key(ngx_webtorch_json_t *json, const unsigned char *data,
    size_t len)
{
    ngx_webtorch_fields_t  *fields;

    json->state = NGX_WEBTORCH_JSON_COLON;
    fields = json->fields;

    if (fields) {
        ngx_webtorch_fields_leave(fields, json->names[json->depth]);
        (void) ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_JSON, data,
                                         len);
        ngx_webtorch_fields_key(fields, json->place, NGX_WEBTORCH_CODING_JSON,
                                data, len);
    }
}


/* a query of GraphQL is read as such, its variables are JSON */

static void
ngx_webtorch_json_text(ngx_webtorch_json_t *json, const unsigned char *data,
    size_t len)
{
    ngx_webtorch_raw_t      raw;
    ngx_webtorch_fields_t  *fields;

    fields = json->fields;

    if (ngx_webtorch_json_is_query(json)
        && ngx_webtorch_fields_graphql(fields, NGX_WEBTORCH_CODING_JSON, data,
                                       len))
    {
        return;
    }

    raw.place = json->place;
    raw.coding = NGX_WEBTORCH_CODING_JSON;
    raw.flags = 0;
    raw.data = data;
    raw.len = len;

    ngx_webtorch_fields_value(fields, &raw);
}


/* "query" of the first object, or of one in a list of them */

static int
ngx_webtorch_json_is_query(const ngx_webtorch_json_t *json)
{
    size_t       len;
    const char  *name;

    if (json->objects != 1 || json->depth == 0 || json->depth > 2) {
        return 0;
    }

    name = json->fields->name + json->names[0];
    len = json->fields->name_len - json->names[0];

    if (len && *name == '.') {
        name++;
        len--;
    }

    return len == 5 && memcmp(name, "query", 5) == 0;
}


/* a number, "true", "false", "null", or text without quotes */

static void
ngx_webtorch_json_word(ngx_webtorch_json_t *json)
{
    int                   is_word;
    size_t                len;
    const unsigned char  *p;

    for (p = json->p; p < json->last && *p > ' ' && *p != ',' && *p != ':'
                      && *p != '}' && *p != ']' && *p != '"' && *p != '{'
                      && *p != '['; p++)
    {
        /* void */
    }

    /* a control character alone */
    p = (p == json->p) ? p + 1 : p;
    len = (size_t) (p - json->p);

    if (json->state == NGX_WEBTORCH_JSON_KEY) {
        json->valid = 0;
        ngx_webtorch_json_key(json, json->p, len);
        json->p = p;

        return;
    }

    is_word = ngx_webtorch_json_is_word(json->p, len);

    if (json->fields) {

        if (is_word) {
            json->fields->numbers++;

        } else {
            ngx_webtorch_fields_plain(json->fields, json->place,
                                      NGX_WEBTORCH_FIELD_SYNTAX, json->p, len);
        }
    }

    json->valid &= (is_word && json->state == NGX_WEBTORCH_JSON_VALUE);
    json->p = p;

    ngx_webtorch_json_after(json);
}


static int
ngx_webtorch_json_is_word(const unsigned char *p, size_t len)
{
    size_t  i;

    static const char *const  words[] = {
        "true", "false", "null", "NaN", "Infinity", "-Infinity"
    };

    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (len == strlen(words[i]) && memcmp(p, words[i], len) == 0) {
            return 1;
        }
    }

    if (len > NGX_WEBTORCH_JSON_WORD) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        if (!((p[i] >= '0' && p[i] <= '9') || p[i] == '-' || p[i] == '+'
              || p[i] == '.' || ((p[i] | 0x20) == 'e' && i)))
        {
            return 0;
        }
    }

    return 1;
}


/* comments: some parsers skip them, and what they hide is read as a field */

static void
ngx_webtorch_json_comment(ngx_webtorch_json_t *json)
{
    const unsigned char  *p, *begin;

    begin = json->p;
    p = begin + 1;

    if (p < json->last && *begin == '/' && *p == '*') {

        for (p++; p < json->last && !(p[-1] == '*' && *p == '/'
                                      && p - begin > 2); p++)
        {
            /* void */
        }

        p = (p < json->last) ? p + 1 : p;

    } else if (*begin == '#' || (p < json->last && *p == '/')) {

        while (p < json->last && *p != '\n') {
            p++;
        }
    }

    json->p = p;

    if (json->fields) {
        ngx_webtorch_fields_plain(json->fields, json->place,
                                  NGX_WEBTORCH_FIELD_MARKUP, begin,
                                  (size_t) (p - begin));
    }
}
