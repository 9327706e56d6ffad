
/*
 * Paths and parameters as tokens: words, numbers and signs, and n-grams of
 * these; docs/features.md has the numbers.
 */

#include "ngx_webtorch_features.h"

#include <string.h>


#define NGX_WEBTORCH_FNV_BASIS       2166136261U
#define NGX_WEBTORCH_FNV_PRIME       16777619U

#define NGX_WEBTORCH_MIX             2654435769U
#define NGX_WEBTORCH_POSITIVE        0x7fffffffU

/* shapes of tokens; those of signs are their bytes and how many they are */
#define NGX_WEBTORCH_SHAPE_LETTERS   0x100
#define NGX_WEBTORCH_SHAPE_DIGITS    0x101
#define NGX_WEBTORCH_SHAPE_END       0x102
#define NGX_WEBTORCH_SHAPE_REPEATED  0x200
#define NGX_WEBTORCH_MAX_REPEATED    3

/* classes of bytes; a byte that is alone in its class stands for itself */
#define NGX_WEBTORCH_LETTERS         'a'
#define NGX_WEBTORCH_DIGITS          '0'
#define NGX_WEBTORCH_BLANKS          ' '
#define NGX_WEBTORCH_CONTROLS        0x1f


typedef struct {
    const ngx_webtorch_tokens_t  *rows;
    uint32_t                      count;      /* of tokens so far */
    uint32_t                      segment;

    /* of the segment's last three tokens, 0: there is none */
    uint32_t                      word;
    uint32_t                      shapes[3];

    uint32_t                      shape;      /* of the whole segment */
} ngx_webtorch_cutter_t;


static void ngx_webtorch_cut_form(ngx_webtorch_cutter_t *cutter,
    const ngx_webtorch_text_features_t *text, size_t from, size_t to,
    uint32_t *mark);
static void ngx_webtorch_cut_parameter(ngx_webtorch_cutter_t *cutter,
    const unsigned char *text, size_t from, size_t equals, size_t to);
static void ngx_webtorch_cut_segment(ngx_webtorch_cutter_t *cutter,
    uint32_t name, const unsigned char *p, const unsigned char *last);
static void ngx_webtorch_cut_token(ngx_webtorch_cutter_t *cutter,
    uint32_t word, uint32_t shape);
static uint32_t ngx_webtorch_class(unsigned char c);
static uint32_t ngx_webtorch_token_hash(const unsigned char *p,
    const unsigned char *last);
static int ngx_webtorch_is_plain(const unsigned char *p,
    const unsigned char *last);


static inline uint32_t
ngx_webtorch_mix(uint32_t h, uint32_t symbol)
{
    h = (h ^ symbol) * NGX_WEBTORCH_MIX;

    return h ^ h >> 15;
}


/* an n-gram's number; 0 is none's */

static inline int32_t
ngx_webtorch_ngram(uint32_t h)
{
    h = (h ^ h >> 16) & 0xffff;

    return h ? (int32_t) h : 1;
}


void
ngx_webtorch_features_tokens(const ngx_webtorch_tokens_t *rows,
    const ngx_webtorch_text_features_t *text)
{
    uint32_t               i, mark;
    ngx_webtorch_cutter_t  cutter;

    memset(&cutter, 0, sizeof(ngx_webtorch_cutter_t));
    cutter.rows = rows;

    if (rows->parameters) {
        memset(rows->parameters, 0,
               NGX_WEBTORCH_SEGMENTS * NGX_WEBTORCH_PARAMETER
               * sizeof(int32_t));
    }

    ngx_webtorch_cut_segment(&cutter,
                             ngx_webtorch_token_hash(text->text,
                                                     text->text
                                                     + text->query_offset),
                             text->text, text->text + text->query_offset);

    mark = 0;

    ngx_webtorch_cut_form(&cutter, text, text->query_offset + 1,
                          text->body_offset, &mark);
    ngx_webtorch_cut_form(&cutter, text, text->body_offset + 1, text->len,
                          &mark);

    if (rows->tokens && cutter.count < rows->ntokens) {
        for (i = 0; i < NGX_WEBTORCH_TOKEN; i++) {
            memset(rows->tokens + i * rows->ntokens + cutter.count, 0,
                   (rows->ntokens - cutter.count) * sizeof(int32_t));
        }
    }

    if (rows->segments) {
        for (i = cutter.count; i < rows->nsegments; i++) {
            rows->segments[i] = NGX_WEBTORCH_SEGMENTS - 1;
        }
    }
}


/* a query, or a body that is taken for a form */

static void
ngx_webtorch_cut_form(ngx_webtorch_cutter_t *cutter,
    const ngx_webtorch_text_features_t *text, size_t from, size_t to,
    uint32_t *mark)
{
    size_t  at, equals;

    if (from >= to) {
        return;
    }

    equals = to;

    while (*mark < text->nmarks && text->marks[*mark] < to) {
        at = text->marks[(*mark)++];

        if (text->text[at] == '=') {
            equals = at;
            continue;
        }

        ngx_webtorch_cut_parameter(cutter, text->text, from, equals, at);

        from = at + 1;
        equals = to;
    }

    ngx_webtorch_cut_parameter(cutter, text->text, from, equals, to);
}


/* one without a name has its equals sign behind it */

static void
ngx_webtorch_cut_parameter(ngx_webtorch_cutter_t *cutter,
    const unsigned char *text, size_t from, size_t equals, size_t to)
{
    size_t    value;
    uint32_t  name;

    value = from;
    name = NGX_WEBTORCH_FNV_BASIS;

    if (equals < to) {
        name = ngx_webtorch_token_hash(text + from, text + equals);

        if (ngx_webtorch_is_plain(text + from, text + equals)) {
            value = equals + 1;
        }
    }

    if (cutter->segment < NGX_WEBTORCH_SEGMENTS - 2) {
        cutter->segment++;
    }

    ngx_webtorch_cut_segment(cutter, name, text + value, text + to);
}


static void
ngx_webtorch_cut_segment(ngx_webtorch_cutter_t *cutter, uint32_t name,
    const unsigned char *p, const unsigned char *last)
{
    int32_t              *parameter;
    uint32_t              class, shape, word;
    const unsigned char  *begin, *token;

    begin = p;

    cutter->word = 0;
    cutter->shape = 0;
    memset(cutter->shapes, 0, sizeof(cutter->shapes));

    while (p < last) {
        token = p;
        class = ngx_webtorch_class(*p++);

        while (p < last && ngx_webtorch_class(*p) == class) {
            p++;
        }

        switch (class) {

        case NGX_WEBTORCH_LETTERS:
            shape = NGX_WEBTORCH_SHAPE_LETTERS;
            word = ngx_webtorch_token_hash(token, p);
            break;

        case NGX_WEBTORCH_DIGITS:
            shape = NGX_WEBTORCH_SHAPE_DIGITS;
            word = shape;
            break;

        default:
            shape = class + NGX_WEBTORCH_SHAPE_REPEATED
                            * (p - token < NGX_WEBTORCH_MAX_REPEATED
                               ? (uint32_t) (p - token)
                               : NGX_WEBTORCH_MAX_REPEATED);
            word = shape;
            break;
        }

        ngx_webtorch_cut_token(cutter, word, shape);
    }

    ngx_webtorch_cut_token(cutter, NGX_WEBTORCH_SHAPE_END,
                           NGX_WEBTORCH_SHAPE_END);

    parameter = cutter->rows->parameters;

    if (parameter) {
        parameter += cutter->segment;

        parameter[0] = (int32_t) (name & NGX_WEBTORCH_POSITIVE);
        parameter[NGX_WEBTORCH_SEGMENTS] =
            (int32_t) (cutter->shape & NGX_WEBTORCH_POSITIVE);
        parameter[2 * NGX_WEBTORCH_SEGMENTS] = (int32_t) (last - begin);
    }
}


static void
ngx_webtorch_cut_token(ngx_webtorch_cutter_t *cutter, uint32_t word,
    uint32_t shape)
{
    int32_t   *p;
    uint32_t   n, *shapes;

    shapes = cutter->shapes;
    n = cutter->rows->ntokens;

    if (cutter->rows->tokens && cutter->count < n) {
        p = cutter->rows->tokens + cutter->count;

        p[0] = ngx_webtorch_ngram(ngx_webtorch_mix(1, word));
        p[n] = ngx_webtorch_ngram(
                   ngx_webtorch_mix(ngx_webtorch_mix(2, cutter->word), word));
        p[2 * n] = ngx_webtorch_ngram(
                   ngx_webtorch_mix(ngx_webtorch_mix(3, shapes[2]), word));
        p[3 * n] = ngx_webtorch_ngram(
                   ngx_webtorch_mix(ngx_webtorch_mix(ngx_webtorch_mix(4,
                       shapes[1]), shapes[2]), shape));
        p[4 * n] = ngx_webtorch_ngram(
                   ngx_webtorch_mix(ngx_webtorch_mix(ngx_webtorch_mix(
                       ngx_webtorch_mix(5, shapes[0]), shapes[1]),
                       shapes[2]), shape));
    }

    if (cutter->rows->segments && cutter->count < cutter->rows->nsegments) {
        cutter->rows->segments[cutter->count] = cutter->segment;
    }

    cutter->count++;
    cutter->shape = ngx_webtorch_mix(cutter->shape, shape);
    cutter->word = word;

    shapes[0] = shapes[1];
    shapes[1] = shapes[2];
    shapes[2] = shape;
}


static uint32_t
ngx_webtorch_class(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || c == '_' || c >= 0x80) {
        return NGX_WEBTORCH_LETTERS;
    }

    if (c >= '0' && c <= '9') {
        return NGX_WEBTORCH_DIGITS;
    }

    if (c > ' ' && c < 0x7f) {
        return c;
    }

    switch (c) {

    case ' ':
    case '\t':
        return NGX_WEBTORCH_BLANKS;

    case '\0':
    case '\n':
    case '\r':
        return c;

    default:
        return NGX_WEBTORCH_CONTROLS;
    }
}


static uint32_t
ngx_webtorch_token_hash(const unsigned char *p, const unsigned char *last)
{
    uint32_t  h;

    h = NGX_WEBTORCH_FNV_BASIS;

    while (p < last) {
        h = (h ^ *p++) * NGX_WEBTORCH_FNV_PRIME;
    }

    return h;
}


/* as names of parameters are; other ones are looked at with the value */

static int
ngx_webtorch_is_plain(const unsigned char *p, const unsigned char *last)
{
    uint32_t  class;

    for ( /* void */ ; p < last; p++) {
        class = ngx_webtorch_class(*p);

        if (class != NGX_WEBTORCH_LETTERS && class != NGX_WEBTORCH_DIGITS
            && class != '.' && class != '-' && class != '[' && class != ']')
        {
            return 0;
        }
    }

    return 1;
}
