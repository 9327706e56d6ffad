
#include "ngx_webtorch_hint.h"

#include <string.h>


/* letters of an unexpected word that an error quotes */
#define NGX_WEBTORCH_HINT_WORD  32

/* a float of more digits before its point may be out of range, an integer is */
#define NGX_WEBTORCH_HINT_FLOAT    308
#define NGX_WEBTORCH_HINT_INTEGER  18


typedef struct {
    const char   *text;
    const char   *p;
    const char   *end;
    size_t        depth;
    char          last;                   /* token before; 'v': a value, or 0 */

    /* what is wrong; the word may be quoted */
    const char   *what;
    const char   *word;
    size_t        word_len;

    const char   *large;                  /* the first number that may be out of
                                             range */
} ngx_webtorch_hint_json_t;


/* how a body of a format begins */

typedef struct {
    const char                  *begin;
    size_t                       len;
    const ngx_webtorch_codec_t  *codec;   /* NULL: none of ours */
    const char                  *text;
} ngx_webtorch_hint_begin_t;


static int ngx_webtorch_hint_json(ngx_webtorch_hint_json_t *json);
static void ngx_webtorch_hint_number(ngx_webtorch_hint_json_t *json);
static int ngx_webtorch_hint_string(ngx_webtorch_hint_json_t *json);
static int ngx_webtorch_hint_word(ngx_webtorch_hint_json_t *json);
static int ngx_webtorch_hint_mark(ngx_webtorch_hint_json_t *json);
static int ngx_webtorch_hint_is_letter(char c);
static int ngx_webtorch_hint_is_word(const ngx_webtorch_hint_json_t *json,
    const char *word);
static const ngx_webtorch_hint_begin_t *ngx_webtorch_hint_find(
    const char *body, size_t len);


static const ngx_webtorch_hint_begin_t  ngx_webtorch_hint_begins[] = {
    { "\x93NUMPY", 6, &ngx_webtorch_codec_npy,
      ".npy, whose content type is application/x-npy" },
    { "PK\3\4", 4, &ngx_webtorch_codec_npz,
      "a zip archive: the content type of .npz is application/x-npz, of files "
      "of torch.save() application/x-pytorch" },
    { "\x1f\x8b", 2, NULL,
      "gzip, which needs the header \"Content-Encoding: gzip\"" },
    { "\xff\xfe", 2, NULL, "text in UTF-16, JSON is UTF-8" },
    { "\xfe\xff", 2, NULL, "text in UTF-16, JSON is UTF-8" },
    { "[", 1, &ngx_webtorch_codec_json,
      "JSON, whose content type is application/json" },
    { "{", 1, &ngx_webtorch_codec_json,
      "JSON, whose content type is application/json" },
};


static const ngx_webtorch_hint_begin_t  ngx_webtorch_hint_safetensors = {
    NULL, 0, &ngx_webtorch_codec_safetensors,
    "safetensors, whose content type is application/vnd.safetensors"
};


int
ngx_webtorch_error_json(ngx_webtorch_error_t *err, const char *format,
    const char *text, size_t len, const char *reason)
{
    ngx_webtorch_hint_json_t  json;

    memset(&json, 0, sizeof(json));

    json.text = text;
    json.p = text;
    json.end = text + len;

    /* a byte order mark is skipped by the parser, too */

    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        json.p += 3;
    }

    if (ngx_webtorch_hint_json(&json) == 0) {

        if (json.large) {
            return ngx_webtorch_error(err, 422, "out_of_range",
                       "the number at byte %zu is out of range, floats have "
                       "64 bits, as integers have",
                       (size_t) (json.large - text) + 1);
        }

        return ngx_webtorch_error(err, 400, "malformed_body", "invalid %s: %s",
                                  format, reason);
    }

    if (json.word == NULL) {
        return ngx_webtorch_error(err, 400, "malformed_body", "invalid %s: %s",
                                  format, json.what);
    }

    return ngx_webtorch_error(err, 400, "malformed_body",
               "invalid %s: \"%.*s\" at byte %zu%s%s", format,
               (int) (json.word_len < NGX_WEBTORCH_HINT_WORD
                      ? json.word_len : NGX_WEBTORCH_HINT_WORD),
               json.word, (size_t) (json.word - text) + 1,
               json.what ? ": " : "", json.what ? json.what : "");
}


/* returns -1 if it has found what is wrong */

static int
ngx_webtorch_hint_json(ngx_webtorch_hint_json_t *json)
{
    int   rc;
    char  c;

    for ( ;; ) {

        while (json->p < json->end && strchr(" \t\r\n", *json->p) && *json->p) {
            json->p++;
        }

        if (json->p == json->end) {
            break;
        }

        c = *json->p;

        if (json->depth == 0 && json->last) {
            json->word = json->p;
            json->word_len = 1;
            json->what = "the text continues after its value";
            return -1;
        }

        if (c == '"') {
            rc = ngx_webtorch_hint_string(json);

        } else if (c == '-' || (c >= '0' && c <= '9')) {
            ngx_webtorch_hint_number(json);

            /* "-Infinity" */
            json->last = (json->p[-1] == '-') ? '-' : 'v';
            rc = 0;

        } else if (ngx_webtorch_hint_is_letter(c)) {
            rc = ngx_webtorch_hint_word(json);

        } else {
            rc = ngx_webtorch_hint_mark(json);
        }

        if (rc != 0) {
            return -1;
        }
    }

    if (json->depth) {
        json->what = "it ends within an array or an object";
        return -1;
    }

    return 0;
}


/* only numbers that the parser refuses as out of range may be large */

static void
ngx_webtorch_hint_number(ngx_webtorch_hint_json_t *json)
{
    int          point, exponent, sign, e;
    int64_t      digits;
    const char  *start;

    start = json->p;
    point = 0;
    exponent = 0;
    sign = 1;
    e = 0;
    digits = 0;

    for ( /* void */ ; json->p < json->end && *json->p; json->p++) {

        if (*json->p >= '0' && *json->p <= '9') {

            if (e) {
                exponent = exponent < 100000 ? exponent * 10 + (*json->p - '0')
                                             : exponent;
            } else if (!point && (digits || *json->p != '0')) {
                digits++;
            }

        } else if (*json->p == '.') {
            point = 1;

        } else if (*json->p == 'e' || *json->p == 'E') {
            e = 1;

        } else if (*json->p == '-') {
            sign = e ? -1 : 1;

        } else if (*json->p != '+') {
            break;
        }
    }

    if (json->large == NULL
        && (digits + sign * exponent > NGX_WEBTORCH_HINT_FLOAT
            || (!point && !e && digits > NGX_WEBTORCH_HINT_INTEGER)))
    {
        json->large = start;
    }
}


static int
ngx_webtorch_hint_string(ngx_webtorch_hint_json_t *json)
{
    json->last = 'v';

    for (json->p++; json->p < json->end; json->p++) {

        if (*json->p == '"') {
            json->p++;
            return 0;
        }

        if (*json->p == '\\' && json->p + 1 < json->end) {
            json->p++;
        }
    }

    json->what = "it ends within a string";

    return -1;
}


static int
ngx_webtorch_hint_word(ngx_webtorch_hint_json_t *json)
{
    json->word = json->p;

    while (json->p < json->end && ngx_webtorch_hint_is_letter(*json->p)) {
        json->p++;
    }

    json->word_len = (size_t) (json->p - json->word);

    if (ngx_webtorch_hint_is_word(json, "true")
        || ngx_webtorch_hint_is_word(json, "false")
        || ngx_webtorch_hint_is_word(json, "null"))
    {
        json->word = NULL;
        json->last = 'v';
        return 0;
    }

    if (ngx_webtorch_hint_is_word(json, "NaN")
        || ngx_webtorch_hint_is_word(json, "Infinity"))
    {
        json->what = "JSON has no NaN and no infinities, binary formats such "
                     "as .npy have them";

    } else if (ngx_webtorch_hint_is_word(json, "True")
               || ngx_webtorch_hint_is_word(json, "False")
               || ngx_webtorch_hint_is_word(json, "None"))
    {
        json->what = "this is Python, use json.dumps()";
    }

    return -1;
}


static int
ngx_webtorch_hint_mark(ngx_webtorch_hint_json_t *json)
{
    char  c;

    c = *json->p;

    json->word = json->p;
    json->word_len = 1;

    switch (c) {

    case '[':
    case '{':
        json->depth++;
        break;

    case ']':
    case '}':
        if (json->last == ',') {
            json->what = "there is no value after the comma";
            return -1;
        }

        if (json->depth == 0) {
            return -1;
        }

        json->depth--;
        break;

    case ',':
        if (json->last != 'v' && json->last != ']' && json->last != '}') {
            json->what = "there is no value before the comma";
            return -1;
        }

        break;

    case ':':
        break;

    case '\'':
        json->what = "strings are in double quotes";
        return -1;

    default:
        if (c < 0x20 || c > 0x7e) {
            json->word = NULL;
            json->what = "it has bytes that are not text outside its strings";
        }

        return -1;
    }

    json->word = NULL;
    json->last = c;
    json->p++;

    return 0;
}


static int
ngx_webtorch_hint_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}


static int
ngx_webtorch_hint_is_word(const ngx_webtorch_hint_json_t *json,
    const char *word)
{
    return json->word_len == strlen(word)
           && memcmp(json->word, word, json->word_len) == 0;
}


int
ngx_webtorch_hint_is_json(const char *text, size_t len)
{
    const char  *end;

    end = text + len;

    /* a byte order mark is skipped by the parser, too */

    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
    }

    while (text < end && memchr(" \t\r\n", *text, 4) != NULL) {
        text++;
    }

    return text < end && memchr("[{\"-tfnNI", *text, 9) != NULL;
}


void
ngx_webtorch_hint_format(ngx_webtorch_error_t *err,
    const ngx_webtorch_codec_t *codec, const char *body, size_t len)
{
    const ngx_webtorch_hint_begin_t  *found;

    if (strcmp(err->code, "malformed_body") != 0 && !codec->shapeless) {
        return;
    }

    found = ngx_webtorch_hint_find(body, len);

    if (found == NULL
        || found->codec == codec
        || (codec == &ngx_webtorch_codec_torch
            && found->codec == &ngx_webtorch_codec_npz))
    {
        return;
    }

    ngx_webtorch_error_append(err, "; the body looks like %s", found->text);
}


static const ngx_webtorch_hint_begin_t *
ngx_webtorch_hint_find(const char *body, size_t len)
{
    size_t                            i, n;
    uint64_t                          size;
    const ngx_webtorch_hint_begin_t  *begin;

    if (len > sizeof(size)) {
        memcpy(&size, body, sizeof(size));

        if (body[sizeof(size)] == '{' && size <= len - sizeof(size)) {
            return &ngx_webtorch_hint_safetensors;
        }
    }

    n = sizeof(ngx_webtorch_hint_begins) / sizeof(ngx_webtorch_hint_begin_t);

    while (len && (*body == ' ' || *body == '\t'
                   || *body == '\r' || *body == '\n'))
    {
        body++;
        len--;
    }

    for (i = 0; i < n; i++) {
        begin = &ngx_webtorch_hint_begins[i];

        if (len >= begin->len && memcmp(body, begin->begin, begin->len) == 0) {
            return begin;
        }
    }

    return NULL;
}
