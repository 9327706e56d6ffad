
/*
 * Tokens of the path and the parameters: words, numbers and punctuation, and
 * their n-grams.  docs/features.md has the numbers.
 */

#include "ngx_webtorch_tokens.h"
#include "ngx_webtorch_hash.h"

#include <string.h>


#define NGX_WEBTORCH_POSITIVE        0x7fffffffU

/* shapes of tokens; punctuation has its byte and the number of repetitions */
#define NGX_WEBTORCH_TOKENS_SHAPE_LETTERS   0x100
#define NGX_WEBTORCH_TOKENS_SHAPE_DIGITS    0x101
#define NGX_WEBTORCH_TOKENS_SHAPE_END       0x102
#define NGX_WEBTORCH_TOKENS_SHAPE_REPEATED  0x200
#define NGX_WEBTORCH_TOKENS_MAX_REPEATED    3

/* classes of bytes; any other byte is a class of its own */
#define NGX_WEBTORCH_LETTERS         'a'
#define NGX_WEBTORCH_DIGITS          '0'
#define NGX_WEBTORCH_BLANKS          ' '
#define NGX_WEBTORCH_CONTROLS        0x1f


typedef struct {
    ngx_webtorch_tokens_t  *tokens;
    uint32_t                segment;

    /* the last tokens of the segment: a word and three shapes; 0: none */
    uint32_t                word;
    uint32_t                shapes[3];

    /* hash of all shapes of the segment */
    uint32_t                shape;
} ngx_webtorch_cutter_t;


static void ngx_webtorch_tokens_cut_form(ngx_webtorch_cutter_t *cutter,
    const ngx_webtorch_text_features_t *text, size_t from, size_t to,
    uint32_t *mark);
static void ngx_webtorch_tokens_cut_parameter(ngx_webtorch_cutter_t *cutter,
    const unsigned char *text, size_t from, size_t equals, size_t to);
static void ngx_webtorch_tokens_cut_segment(ngx_webtorch_cutter_t *cutter,
    uint32_t name, const unsigned char *p, const unsigned char *last);
static void ngx_webtorch_tokens_cut_token(ngx_webtorch_cutter_t *cutter,
    uint32_t word, uint32_t shape);
static uint32_t ngx_webtorch_tokens_class(unsigned char c);
static uint32_t ngx_webtorch_tokens_hash(const unsigned char *p,
    const unsigned char *last);
static int ngx_webtorch_tokens_is_plain(const unsigned char *p,
    const unsigned char *last);


/* the number of an n-gram; 0 stands for none */

static inline int32_t
ngx_webtorch_tokens_ngram(uint32_t h, uint32_t last)
{
    h = ngx_webtorch_mix(h, last);
    h = (h ^ h >> 16) & 0xffff;

    return h ? (int32_t) h : 1;
}


void
ngx_webtorch_tokens_cut(ngx_webtorch_tokens_t *tokens,
    const ngx_webtorch_text_features_t *text)
{
    uint32_t               mark;
    const unsigned char   *last;
    ngx_webtorch_cutter_t  cutter;

    tokens->count = 0;
    memset(tokens->parameters, 0, sizeof(tokens->parameters));

    cutter.tokens = tokens;
    cutter.segment = 0;

    last = text->text + text->query_offset;

    ngx_webtorch_tokens_cut_segment(&cutter,
                                    ngx_webtorch_tokens_hash(text->text, last),
                                    text->text, last);

    mark = 0;

    ngx_webtorch_tokens_cut_form(&cutter, text, text->query_offset + 1,
                                 text->body_offset, &mark);
    ngx_webtorch_tokens_cut_form(&cutter, text, text->body_offset + 1,
                                 text->len, &mark);
}


uint32_t
ngx_webtorch_tokens_size(const ngx_webtorch_tokens_t *tokens)
{
    uint32_t  size;

    size = NGX_WEBTORCH_MIN_TOKENS;

    while (size < tokens->count) {
        size *= 4;
    }

    return (size < NGX_WEBTORCH_MAX_TOKENS) ? size : NGX_WEBTORCH_MAX_TOKENS;
}


void
ngx_webtorch_features_tokens(int32_t *row, uint32_t n,
    const ngx_webtorch_tokens_t *tokens)
{
    uint32_t  i, count;

    count = (tokens->count < n) ? tokens->count : n;

    for (i = 0; i < NGX_WEBTORCH_TOKEN; i++) {
        memcpy(row, tokens->ngrams[i], count * sizeof(int32_t));
        memset(row + count, 0, (n - count) * sizeof(int32_t));
        row += n;
    }
}


void
ngx_webtorch_features_segments(int64_t *row, uint32_t n,
    const ngx_webtorch_tokens_t *tokens)
{
    uint32_t  i, count;

    count = (tokens->count < n) ? tokens->count : n;

    for (i = 0; i < count; i++) {
        row[i] = tokens->segments[i];
    }

    for ( /* void */ ; i < n; i++) {
        row[i] = NGX_WEBTORCH_SEGMENTS - 1;
    }
}


void
ngx_webtorch_features_parameters(int32_t *row,
    const ngx_webtorch_tokens_t *tokens)
{
    memcpy(row, tokens->parameters, sizeof(tokens->parameters));
}


/* splits a query, or a body that is taken for a form */

static void
ngx_webtorch_tokens_cut_form(ngx_webtorch_cutter_t *cutter,
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

        ngx_webtorch_tokens_cut_parameter(cutter, text->text, from, equals, at);

        from = at + 1;
        equals = to;
    }

    ngx_webtorch_tokens_cut_parameter(cutter, text->text, from, equals, to);
}


/* from, equals, to: offsets; equals is "to" if there is no name */

static void
ngx_webtorch_tokens_cut_parameter(ngx_webtorch_cutter_t *cutter,
    const unsigned char *text, size_t from, size_t equals, size_t to)
{
    size_t    value;
    uint32_t  name;

    value = from;
    name = NGX_WEBTORCH_FNV_BASIS;

    if (equals < to) {
        name = ngx_webtorch_tokens_hash(text + from, text + equals);

        if (ngx_webtorch_tokens_is_plain(text + from, text + equals)) {
            value = equals + 1;
        }
    }

    if (cutter->segment < NGX_WEBTORCH_SEGMENTS - 2) {
        cutter->segment++;
    }

    ngx_webtorch_tokens_cut_segment(cutter, name, text + value, text + to);
}


static void
ngx_webtorch_tokens_cut_segment(ngx_webtorch_cutter_t *cutter, uint32_t name,
    const unsigned char *p, const unsigned char *last)
{
    int32_t             (*parameters)[NGX_WEBTORCH_SEGMENTS];
    uint32_t              class, shape, word;
    const unsigned char  *begin, *token;

    begin = p;

    cutter->word = 0;
    cutter->shape = 0;
    memset(cutter->shapes, 0, sizeof(cutter->shapes));

    while (p < last) {
        token = p;
        class = ngx_webtorch_tokens_class(*p++);

        while (p < last && ngx_webtorch_tokens_class(*p) == class) {
            p++;
        }

        switch (class) {

        case NGX_WEBTORCH_LETTERS:
            shape = NGX_WEBTORCH_TOKENS_SHAPE_LETTERS;
            word = ngx_webtorch_tokens_hash(token, p);
            break;

        case NGX_WEBTORCH_DIGITS:
            shape = NGX_WEBTORCH_TOKENS_SHAPE_DIGITS;
            word = shape;
            break;

        default:
            shape = class + NGX_WEBTORCH_TOKENS_SHAPE_REPEATED
                            * (p - token < NGX_WEBTORCH_TOKENS_MAX_REPEATED
                               ? (uint32_t) (p - token)
                               : NGX_WEBTORCH_TOKENS_MAX_REPEATED);
            word = shape;
            break;
        }

        ngx_webtorch_tokens_cut_token(cutter, word, shape);
    }

    ngx_webtorch_tokens_cut_token(cutter, NGX_WEBTORCH_TOKENS_SHAPE_END,
                                  NGX_WEBTORCH_TOKENS_SHAPE_END);

    parameters = cutter->tokens->parameters;

    parameters[0][cutter->segment] = (int32_t) (name & NGX_WEBTORCH_POSITIVE);
    parameters[1][cutter->segment] =
        (int32_t) (cutter->shape & NGX_WEBTORCH_POSITIVE);
    parameters[2][cutter->segment] = (int32_t) (last - begin);
}


static void
ngx_webtorch_tokens_cut_token(ngx_webtorch_cutter_t *cutter, uint32_t word,
    uint32_t shape)
{
    uint32_t                i, h, *shapes;
    ngx_webtorch_tokens_t  *tokens;

    tokens = cutter->tokens;
    shapes = cutter->shapes;
    i = tokens->count;

    if (i < NGX_WEBTORCH_MAX_TOKENS) {
        tokens->count++;
        tokens->segments[i] = (uint8_t) cutter->segment;

        tokens->ngrams[0][i] = ngx_webtorch_tokens_ngram(1, word);

        h = ngx_webtorch_mix(2, cutter->word);
        tokens->ngrams[1][i] = ngx_webtorch_tokens_ngram(h, word);

        h = ngx_webtorch_mix(3, shapes[2]);
        tokens->ngrams[2][i] = ngx_webtorch_tokens_ngram(h, word);

        h = ngx_webtorch_mix(ngx_webtorch_mix(4, shapes[1]), shapes[2]);
        tokens->ngrams[3][i] = ngx_webtorch_tokens_ngram(h, shape);

        h = ngx_webtorch_mix(ngx_webtorch_mix(5, shapes[0]), shapes[1]);
        h = ngx_webtorch_mix(h, shapes[2]);
        tokens->ngrams[4][i] = ngx_webtorch_tokens_ngram(h, shape);
    }

    cutter->shape = ngx_webtorch_mix(cutter->shape, shape);
    cutter->word = word;

    shapes[0] = shapes[1];
    shapes[1] = shapes[2];
    shapes[2] = shape;
}


static uint32_t
ngx_webtorch_tokens_class(unsigned char c)
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
ngx_webtorch_tokens_hash(const unsigned char *p, const unsigned char *last)
{
    return ngx_webtorch_fnv(NGX_WEBTORCH_FNV_BASIS, p, (size_t) (last - p));
}


/* returns 1 for usual names of parameters; others are part of the value */

static int
ngx_webtorch_tokens_is_plain(const unsigned char *p, const unsigned char *last)
{
    uint32_t  class;

    for ( /* void */ ; p < last; p++) {
        class = ngx_webtorch_tokens_class(*p);

        if (class != NGX_WEBTORCH_LETTERS && class != NGX_WEBTORCH_DIGITS
            && class != '.' && class != '-' && class != '[' && class != ']')
        {
            return 0;
        }
    }

    return 1;
}
