
/* Windows of fields, and their numbers. */

#include "ngx_webtorch_window.h"
#include "ngx_webtorch_hash.h"

#include <string.h>


#define NGX_WEBTORCH_WINDOW_SHAPE_LETTERS   256
#define NGX_WEBTORCH_WINDOW_SHAPE_DIGITS    257
#define NGX_WEBTORCH_WINDOW_SHAPE_MIXED     258
#define NGX_WEBTORCH_WINDOW_SHAPE_HIGH      259
#define NGX_WEBTORCH_WINDOW_SHAPE_END       260

/* added to the byte for each repetition */
#define NGX_WEBTORCH_WINDOW_SHAPE_REPEATED  512
#define NGX_WEBTORCH_WINDOW_MAX_REPEATED    3

/* a word with more digits or letters is an identifier */
#define NGX_WEBTORCH_WORD_DIGITS     2
#define NGX_WEBTORCH_WORD_LEN        24

#define NGX_WEBTORCH_MAX_COUNT       4
#define NGX_WEBTORCH_REQUEST_PLACE   255


/* kinds of numbers */

typedef enum {
    NGX_WEBTORCH_NUMBER_WORD = 1,
    NGX_WEBTORCH_NUMBER_WORDS,
    NGX_WEBTORCH_NUMBER_SHAPE_WORD,
    NGX_WEBTORCH_NUMBER_SHAPES3,
    NGX_WEBTORCH_NUMBER_SHAPES4,
    NGX_WEBTORCH_NUMBER_PREFIX,
    NGX_WEBTORCH_NUMBER_WORD_SHAPE,
    NGX_WEBTORCH_NUMBER_PLACE,
    NGX_WEBTORCH_NUMBER_NAME,
    NGX_WEBTORCH_NUMBER_PLACE_NAME,
    NGX_WEBTORCH_NUMBER_DECODED,
    NGX_WEBTORCH_NUMBER_FLAG,
    NGX_WEBTORCH_NUMBER_LEN,
    NGX_WEBTORCH_NUMBER_COUNT,
    NGX_WEBTORCH_NUMBER_UNPAIRED,
    NGX_WEBTORCH_NUMBER_SHARE,
    NGX_WEBTORCH_NUMBER_FLAW,
    NGX_WEBTORCH_NUMBER_UNREAD,
    NGX_WEBTORCH_NUMBER_METHOD
} ngx_webtorch_number_e;


static void ngx_webtorch_window_token(ngx_webtorch_windows_t *windows,
    const ngx_webtorch_field_t *field,
    const ngx_webtorch_window_token_t *found);
static void ngx_webtorch_window_close(ngx_webtorch_windows_t *windows,
    const ngx_webtorch_field_t *field);
static void ngx_webtorch_window_end(ngx_webtorch_windows_t *windows);
static int ngx_webtorch_window_repeats(ngx_webtorch_windows_t *windows);
static int ngx_webtorch_window_is_at(const ngx_webtorch_windows_t *windows,
    uint32_t place);
static uint32_t ngx_webtorch_window_context(
    const ngx_webtorch_windows_t *windows, const ngx_webtorch_field_t *field,
    int32_t *numbers);
static uint32_t ngx_webtorch_window_counts(
    const ngx_webtorch_windows_t *windows, int32_t *numbers);
static uint32_t ngx_webtorch_window_bits(uint32_t kind, uint32_t bits,
    int32_t *numbers);
static void ngx_webtorch_window_append(ngx_webtorch_windows_t *windows,
    const int32_t *numbers, uint32_t n,
    const ngx_webtorch_window_token_t *token);
static const unsigned char *ngx_webtorch_window_word(const unsigned char *p,
    const unsigned char *last, uint32_t *shape, uint32_t *word,
    uint32_t *prefix);
static const unsigned char *ngx_webtorch_window_sign(const unsigned char *p,
    const unsigned char *last, uint32_t *shape);
static uint32_t ngx_webtorch_window_name(const ngx_webtorch_field_t *field);
static uint32_t ngx_webtorch_window_log(size_t n);


static inline int32_t
ngx_webtorch_window_number(uint32_t h)
{
    h = (h ^ h >> 12) & NGX_WEBTORCH_WINDOW_NUMBERS;

    return h ? (int32_t) h : 1;
}


static inline int32_t
ngx_webtorch_window_pair(uint32_t kind, uint32_t a, uint32_t b)
{
    return ngx_webtorch_window_number(
                   ngx_webtorch_mix(ngx_webtorch_mix(kind * 0x9e3779b1U, a), b));
}


void
ngx_webtorch_windows_init(ngx_webtorch_windows_t *windows, int32_t *numbers,
    int32_t *rows, uint32_t size)
{
    windows->numbers = numbers;
    windows->windows = rows;
    windows->size = size;
    windows->count = 0;
    windows->nwindows = 0;
    windows->nfields = 0;
    windows->fields = NULL;
    windows->fields_size = 0;
    windows->traits = NULL;
    windows->names = NULL;
    windows->spans = NULL;
    windows->full = 0;
    windows->nhashes = 0;
    windows->ntokens = 0;
}


void
ngx_webtorch_windows_field(void *data, const ngx_webtorch_field_t *field)
{
    const unsigned char          *p, *last, *begin;
    ngx_webtorch_windows_t       *windows;
    ngx_webtorch_window_token_t   token;

    windows = data;
    windows->ntokens = 0;
    windows->nhashes = 0;

    /* the request is not scored, so the time for the others is saved */

    if (windows->full) {
        windows->nfields++;
        return;
    }

    if (windows->traits) {
        ngx_webtorch_traits_field(windows->traits, field);
    }

    if (windows->names) {
        ngx_webtorch_names_field(windows->names, windows->nwindows, field);
    }

    p = field->value;
    last = p + field->len;

    if (field->flags & NGX_WEBTORCH_FIELD_OPAQUE) {
        p = last;
    }

    while (p < last) {
        begin = p;
        token.prefix = 0;

        p = ngx_webtorch_window_word(p, last, &token.shape, &token.word,
                                     &token.prefix);

        if (p == begin) {
            p = ngx_webtorch_window_sign(p, last, &token.shape);
            token.word = token.shape;
        }

        token.begin = (uint32_t) (begin - field->value);
        token.run = (uint32_t) (p - begin);

        ngx_webtorch_window_token(windows, field, &token);
    }

    token.shape = NGX_WEBTORCH_WINDOW_SHAPE_END;
    token.word = NGX_WEBTORCH_WINDOW_SHAPE_END;
    token.prefix = 0;
    token.begin = (uint32_t) field->len;
    token.run = 0;

    ngx_webtorch_window_token(windows, field, &token);
    ngx_webtorch_window_close(windows, field);

    windows->nfields++;
}


/* the same byte, repeated; blanks are one */

static const unsigned char *
ngx_webtorch_window_sign(const unsigned char *p, const unsigned char *last,
    uint32_t *shape)
{
    uint32_t               run;
    const unsigned char   *begin;

    begin = p;

    *shape = *p++;
    *shape = (*shape == '\t') ? ' ' : *shape;

    while (p < last && (*p == *begin || (*shape == ' ' && *p == '\t'))) {
        p++;
    }

    run = (uint32_t) (p - begin);

    *shape += NGX_WEBTORCH_WINDOW_SHAPE_REPEATED
              * ((run < NGX_WEBTORCH_WINDOW_MAX_REPEATED)
                 ? run : NGX_WEBTORCH_WINDOW_MAX_REPEATED);

    return p;
}


/* letters, digits and "_"; returns p if there are none */

static const unsigned char *
ngx_webtorch_window_word(const unsigned char *p, const unsigned char *last,
    uint32_t *shape, uint32_t *word, uint32_t *prefix)
{
    uint32_t               digits, high, len;
    unsigned char          c, lower[NGX_WEBTORCH_WORD_LEN];
    const unsigned char   *begin;

    begin = p;

    if (*p >= '0' && *p <= '9') {

        while (p < last && *p >= '0' && *p <= '9') {
            p++;
        }

        /* small numbers are words, as of "1=1" */

        *shape = NGX_WEBTORCH_WINDOW_SHAPE_DIGITS;
        *word = NGX_WEBTORCH_WINDOW_SHAPE_DIGITS;

        return p;
    }

    digits = 0;
    high = 0;
    len = 0;

    for ( /* void */ ; p < last; p++) {
        c = *p;

        if (c >= 'A' && c <= 'Z') {
            c |= 0x20;

        } else if (c >= '0' && c <= '9') {
            digits++;

        } else if (c >= 0x80) {
            high++;

        } else if (!((c >= 'a' && c <= 'z') || c == '_')) {
            break;
        }

        if (len < NGX_WEBTORCH_WORD_LEN) {
            lower[len++] = c;
        }
    }

    if (p == begin) {
        return p;
    }

    if (high) {
        *shape = NGX_WEBTORCH_WINDOW_SHAPE_HIGH;
        *word = NGX_WEBTORCH_WINDOW_SHAPE_HIGH;

    } else if (digits > NGX_WEBTORCH_WORD_DIGITS
               || (size_t) (p - begin) > NGX_WEBTORCH_WORD_LEN)
    {
        *shape = NGX_WEBTORCH_WINDOW_SHAPE_MIXED;
        *word = NGX_WEBTORCH_WINDOW_SHAPE_MIXED
                + (ngx_webtorch_window_log((size_t) (p - begin)) << 10);

    } else {
        *shape = NGX_WEBTORCH_WINDOW_SHAPE_LETTERS;
        *word = ngx_webtorch_fnv(NGX_WEBTORCH_FNV_BASIS, lower, len);

        if (len > 2) {
            *prefix = (uint32_t) lower[0] << 8 | lower[1];
        }
    }

    return p;
}


static void
ngx_webtorch_window_token(ngx_webtorch_windows_t *windows,
    const ngx_webtorch_field_t *field,
    const ngx_webtorch_window_token_t *found)
{
    int32_t                            *p;
    uint32_t                            n, h, shape, word, shapes[3];
    ngx_webtorch_window_token_t        *token;
    const ngx_webtorch_window_token_t  *before;

    static const ngx_webtorch_window_token_t  none;

    n = windows->ntokens;

    if (n == NGX_WEBTORCH_WINDOW_TOKENS) {
        ngx_webtorch_window_close(windows, field);

        n = NGX_WEBTORCH_WINDOW_REPEAT;
        memmove(windows->tokens,
                windows->tokens + NGX_WEBTORCH_WINDOW_TOKENS - n,
                n * sizeof(ngx_webtorch_window_token_t));
    }

    before = n ? &windows->tokens[n - 1] : &none;

    shapes[2] = before->shape;
    shapes[1] = (n > 1) ? windows->tokens[n - 2].shape : 0;
    shapes[0] = (n > 2) ? windows->tokens[n - 3].shape : 0;

    token = &windows->tokens[n];
    *token = *found;

    shape = found->shape;
    word = found->word;

    p = token->numbers;

    *p++ = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_WORD, word, 0);
    *p++ = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_WORDS, before->word,
                                    word);

    h = ngx_webtorch_mix(NGX_WEBTORCH_NUMBER_SHAPES3, shapes[1]);
    h = ngx_webtorch_mix(h, shapes[2]);
    *p++ = ngx_webtorch_window_number(ngx_webtorch_mix(h, shape));

    h = ngx_webtorch_mix(NGX_WEBTORCH_NUMBER_SHAPES4, shapes[0]);
    h = ngx_webtorch_mix(h, shapes[1]);
    h = ngx_webtorch_mix(h, shapes[2]);
    *p++ = ngx_webtorch_window_number(ngx_webtorch_mix(h, shape));

    if (shape == NGX_WEBTORCH_WINDOW_SHAPE_LETTERS) {
        h = ngx_webtorch_mix(NGX_WEBTORCH_NUMBER_SHAPE_WORD, shapes[1]);
        h = ngx_webtorch_mix(h, shapes[2]);
        *p++ = ngx_webtorch_window_number(ngx_webtorch_mix(h, word));

    } else if (before->prefix) {
        *p++ = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_PREFIX,
                                        before->prefix, shape);
        h = ngx_webtorch_mix(NGX_WEBTORCH_NUMBER_WORD_SHAPE, shapes[1]);
        h = ngx_webtorch_mix(h, before->word);
        *p++ = ngx_webtorch_window_number(ngx_webtorch_mix(h, shape));
    }

    token->nnumbers = (uint32_t) (p - token->numbers);
    windows->ntokens = n + 1;
}


static void
ngx_webtorch_window_close(ngx_webtorch_windows_t *windows,
    const ngx_webtorch_field_t *field)
{
    int32_t   numbers[NGX_WEBTORCH_WINDOW_CONTEXT];
    uint32_t  i, n;

    /* text that repeats itself leaves half of the room to what follows */

    if (ngx_webtorch_window_repeats(windows)
        && windows->count > windows->size / 2)
    {
        return;
    }

    for (i = 0; i < windows->ntokens; i++) {
        ngx_webtorch_window_append(windows, windows->tokens[i].numbers,
                                   windows->tokens[i].nnumbers,
                                   &windows->tokens[i]);
    }

    n = ngx_webtorch_window_context(windows, field, numbers);
    n += ngx_webtorch_window_counts(windows, numbers + n);

    ngx_webtorch_window_append(windows, numbers, n, NULL);
    ngx_webtorch_window_end(windows);
}


/* a window without traits would not be compared with those before */

static void
ngx_webtorch_window_end(ngx_webtorch_windows_t *windows)
{
    if (windows->fields && windows->nwindows < windows->fields_size) {
        windows->fields[windows->nwindows] = (int32_t) windows->nfields;
    }

    if (windows->traits) {

        if (windows->nwindows >= NGX_WEBTORCH_MAX_TRAITS) {
            windows->full = 1;
        }

        ngx_webtorch_traits_window(windows->traits, windows->nwindows);
    }

    windows->nwindows++;
}


static int
ngx_webtorch_window_repeats(ngx_webtorch_windows_t *windows)
{
    uint32_t  i, j, n, hash;

    hash = NGX_WEBTORCH_FNV_BASIS;

    for (i = 0; i < windows->ntokens; i++) {
        for (j = 0; j < windows->tokens[i].nnumbers; j++) {
            hash = ngx_webtorch_mix(hash,
                                    (uint32_t) windows->tokens[i].numbers[j]);
        }
    }

    n = windows->nhashes;
    n = (n < NGX_WEBTORCH_WINDOW_HASHES) ? n : NGX_WEBTORCH_WINDOW_HASHES;

    for (i = 0; i < n; i++) {
        if (windows->hashes[i] == hash
            && ngx_webtorch_window_is_at(windows, windows->places[i]))
        {
            return 1;
        }
    }

    i = windows->nhashes++ % NGX_WEBTORCH_WINDOW_HASHES;

    windows->hashes[i] = hash;
    windows->places[i] = windows->count;

    return 0;
}


/* a client can find windows with the same hash */

static int
ngx_webtorch_window_is_at(const ngx_webtorch_windows_t *windows,
    uint32_t place)
{
    uint32_t                            i;
    const ngx_webtorch_window_token_t  *token;

    for (i = 0; i < windows->ntokens; i++) {
        token = &windows->tokens[i];

        if (token->nnumbers > windows->count - place
            || memcmp(windows->numbers + place, token->numbers,
                      token->nnumbers * sizeof(int32_t))
               != 0)
        {
            return 0;
        }

        place += token->nnumbers;
    }

    return 1;
}


static uint32_t
ngx_webtorch_window_context(const ngx_webtorch_windows_t *windows,
    const ngx_webtorch_field_t *field, int32_t *numbers)
{
    int32_t   *p;
    uint32_t   name;

    p = numbers;
    name = ngx_webtorch_window_name(field);

    *p++ = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_PLACE, field->place,
                                    field->flags
                                    & (NGX_WEBTORCH_FIELD_KEY
                                       | NGX_WEBTORCH_FIELD_FILENAME
                                       | NGX_WEBTORCH_FIELD_MARKUP
                                       | NGX_WEBTORCH_FIELD_SYNTAX));
    *p++ = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_NAME, name, 0);
    *p++ = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_PLACE_NAME,
                                    field->place, name);
    *p++ = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_LEN,
                                    ngx_webtorch_window_log(field->len), 0);

    p += ngx_webtorch_window_bits(NGX_WEBTORCH_NUMBER_DECODED, field->decoded,
                                  p);
    p += ngx_webtorch_window_bits(NGX_WEBTORCH_NUMBER_FLAG, field->flags, p);

    return (uint32_t) (p - numbers);
}


static uint32_t
ngx_webtorch_window_bits(uint32_t kind, uint32_t bits, int32_t *numbers)
{
    uint32_t  i, n;

    n = 0;

    for (i = 0; bits; i++, bits >>= 1) {
        if (bits & 1) {
            numbers[n++] = ngx_webtorch_window_pair(kind, i, 0);
        }
    }

    return n;
}


/* how often each sign of punctuation is there, and shares of letters */

static uint32_t
ngx_webtorch_window_counts(const ngx_webtorch_windows_t *windows,
    int32_t *numbers)
{
    uint32_t              i, c, n, run, total, letters, digits, signs;
    uint32_t              counts[128];
    const char           *p;

    static const char  counted[] = "'\"`()<>;%\\/.$={}[]|&#*-,@!:?";

    n = 0;
    total = 0;
    letters = 0;
    digits = 0;
    signs = 0;

    memset(counts, 0, sizeof(counts));

    for (i = 0; i < windows->ntokens; i++) {
        c = windows->tokens[i].shape;
        total += windows->tokens[i].run;

        if (c >= NGX_WEBTORCH_WINDOW_SHAPE_REPEATED) {
            c %= NGX_WEBTORCH_WINDOW_SHAPE_REPEATED;

            if (c != ' ' && c < 128) {
                run = windows->tokens[i].run;
                signs += run;

                counts[c] += (run < NGX_WEBTORCH_MAX_COUNT)
                             ? run : NGX_WEBTORCH_MAX_COUNT;
            }

        } else if (c == NGX_WEBTORCH_WINDOW_SHAPE_DIGITS) {
            digits += windows->tokens[i].run;

        } else {
            letters += windows->tokens[i].run;
        }
    }

    for (p = counted; *p; p++) {
        c = counts[(unsigned char) *p];

        if (c) {
            c = (c < NGX_WEBTORCH_MAX_COUNT) ? c : NGX_WEBTORCH_MAX_COUNT;
            numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_COUNT,
                                                (unsigned char) *p, c);
        }
    }

    if (counts['\''] & 1) {
        numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_UNPAIRED,
                                                '\'', 0);
    }

    if (counts['"'] & 1) {
        numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_UNPAIRED,
                                                '"', 0);
    }

    if (counts['('] != counts[')']) {
        numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_UNPAIRED,
                                                '(', counts['('] > counts[')']);
    }

    if (total) {
        numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_SHARE, 0,
                                                8 * letters / total);
        numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_SHARE, 1,
                                                8 * digits / total);
        numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_SHARE, 2,
                                                8 * signs / total);
    }

    return n;
}


/* the last part of the name, without digits, in lower case */

static uint32_t
ngx_webtorch_window_name(const ngx_webtorch_field_t *field)
{
    char         c;
    uint32_t     h;
    const char  *p, *last;

    h = NGX_WEBTORCH_FNV_BASIS;
    last = field->name + field->name_len;

    for (p = last; p > field->name && p[-1] != '.'; p--) { /* void */ }

    for ( /* void */ ; p < last; p++) {
        c = *p;

        if (c >= 'A' && c <= 'Z') {
            c |= 0x20;
        }

        if (c >= 'a' && c <= 'z') {
            h = ngx_webtorch_fnv(h, &c, 1);
        }
    }

    return h;
}


static uint32_t
ngx_webtorch_window_log(size_t n)
{
    uint32_t  log;

    for (log = 0; n; n >>= 1) {
        log++;
    }

    return log;
}


static void
ngx_webtorch_window_append(ngx_webtorch_windows_t *windows,
    const int32_t *numbers, uint32_t n,
    const ngx_webtorch_window_token_t *token)
{
    uint32_t                     i;
    ngx_webtorch_window_span_t  *span;

    if (n > windows->size - windows->count) {
        n = windows->size - windows->count;
        windows->full = 1;
    }

    for (i = 0; i < n; i++) {

        if (windows->spans) {
            span = &windows->spans[windows->count];
            span->begin = token ? (int32_t) token->begin : 0;
            span->len = token ? (int32_t) token->run : 0;
        }

        windows->numbers[windows->count] = numbers[i];
        windows->windows[windows->count++] = (int32_t) windows->nwindows;
    }
}


void
ngx_webtorch_windows_request(ngx_webtorch_windows_t *windows,
    const ngx_webtorch_fields_t *fields, const ngx_webtorch_part_t *method)
{
    int32_t   numbers[NGX_WEBTORCH_WINDOW_CONTEXT];
    uint32_t  n;

    n = 0;

    numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_PLACE,
                                            NGX_WEBTORCH_REQUEST_PLACE, 0);
    numbers[n++] = ngx_webtorch_window_pair(NGX_WEBTORCH_NUMBER_METHOD,
                                  ngx_webtorch_fnv(NGX_WEBTORCH_FNV_BASIS,
                                                   method->data, method->len),
                                  0);

    n += ngx_webtorch_window_bits(NGX_WEBTORCH_NUMBER_FLAW, fields->flaws,
                                  numbers + n);
    n += ngx_webtorch_window_bits(NGX_WEBTORCH_NUMBER_UNREAD, fields->unread,
                                  numbers + n);

    ngx_webtorch_window_append(windows, numbers, n, NULL);

    if (windows->traits) {
        ngx_webtorch_traits_request(windows->traits);
    }

    ngx_webtorch_window_end(windows);
}
