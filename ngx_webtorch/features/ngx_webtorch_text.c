
/*
 * The text of a request: path, query and body, decoded twice and in lower case,
 * and its rows of n-grams and bytes.
 */

#include "ngx_webtorch_text.h"
#include "ngx_webtorch_hash.h"

#include <string.h>


/* separators of the parts of the text */
#define NGX_WEBTORCH_QUERY  0x1d
#define NGX_WEBTORCH_BODY   0x1e


/* a part that is decoded once: "%XX" and "+" */

typedef struct {
    const unsigned char  *p;
    const unsigned char  *last;
    uint32_t              escapes;
    int                   plus;           /* "+" is a space */
} ngx_webtorch_reader_t;


static void ngx_webtorch_decode(ngx_webtorch_text_features_t *text,
    const ngx_webtorch_part_t *part, int form);
static void ngx_webtorch_decode_plain(ngx_webtorch_text_features_t *text,
    ngx_webtorch_reader_t *reader);
static void ngx_webtorch_mark(ngx_webtorch_text_features_t *text);
static void ngx_webtorch_append(ngx_webtorch_text_features_t *text,
    unsigned char c);
static int ngx_webtorch_read(ngx_webtorch_reader_t *reader);


void
ngx_webtorch_features_text(ngx_webtorch_text_features_t *text)
{
    text->len = 0;
    text->escapes = 0;
    text->double_escapes = 0;
    text->nmarks = 0;

    ngx_webtorch_decode(text, &text->path, 0);

    text->query_offset = text->len;
    ngx_webtorch_append(text, NGX_WEBTORCH_QUERY);
    ngx_webtorch_decode(text, &text->query, 1);

    text->body_offset = text->len;
    ngx_webtorch_append(text, NGX_WEBTORCH_BODY);
    ngx_webtorch_decode(text, &text->body, 1);
}


/* decodes all of a part, to count escapes even if the text is full */

static void
ngx_webtorch_decode(ngx_webtorch_text_features_t *text,
    const ngx_webtorch_part_t *part, int form)
{
    int                     c, high, low, named;
    size_t                  len;
    uint32_t                escapes;
    ngx_webtorch_reader_t   reader, ahead;

    len = part->len;

    if (len > NGX_WEBTORCH_TEXT_SIZE) {
        len = NGX_WEBTORCH_TEXT_SIZE;
    }

    if (len == 0) {
        return;
    }

    reader.p = (const unsigned char *) part->data;
    reader.last = reader.p + len;
    reader.escapes = 0;
    reader.plus = form;

    named = 0;

    for ( ;; ) {
        ngx_webtorch_decode_plain(text, &reader);

        if (reader.p == reader.last) {
            break;
        }

        escapes = reader.escapes;
        c = ngx_webtorch_read(&reader);

        if (form && reader.escapes == escapes
            && (c == '&' || (c == '=' && !named)))
        {
            named = (c == '=');
            ngx_webtorch_mark(text);
        }

        if (c == '%') {
            ahead = reader;
            high = ngx_webtorch_hex(ngx_webtorch_read(&ahead));

            if (high >= 0) {
                low = ngx_webtorch_hex(ngx_webtorch_read(&ahead));

                if (low >= 0) {
                    c = high << 4 | low;
                    text->double_escapes++;
                    reader = ahead;
                }
            }
        }

        if (c >= 'A' && c <= 'Z') {
            c |= 0x20;
        }

        ngx_webtorch_append(text, (unsigned char) c);
    }

    text->escapes += reader.escapes;
}


/* copies a run of the bytes that are not changed by decoding */

static void
ngx_webtorch_decode_plain(ngx_webtorch_text_features_t *text,
    ngx_webtorch_reader_t *reader)
{
    size_t                len;
    unsigned char         c;
    const unsigned char  *p;

    len = text->len;

    for (p = reader->p; p < reader->last; p++) {
        c = *p;

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            || len == NGX_WEBTORCH_TEXT_SIZE)
        {
            break;
        }

        text->text[len++] = c;
    }

    text->len = len;
    reader->p = p;
}


/* marks the next byte as a separator */

static void
ngx_webtorch_mark(ngx_webtorch_text_features_t *text)
{
    if (text->len < NGX_WEBTORCH_TEXT_SIZE
        && text->nmarks < NGX_WEBTORCH_MARKS)
    {
        text->marks[text->nmarks++] = (uint16_t) text->len;
    }
}


static void
ngx_webtorch_append(ngx_webtorch_text_features_t *text, unsigned char c)
{
    if (text->len < NGX_WEBTORCH_TEXT_SIZE) {
        text->text[text->len++] = c;
    }
}


/* the next byte, decoded once; -1: end of the part */

static int
ngx_webtorch_read(ngx_webtorch_reader_t *reader)
{
    int  c, high, low;

    if (reader->p == reader->last) {
        return -1;
    }

    c = *reader->p++;

    if (c == '%' && reader->last - reader->p >= 2) {
        high = ngx_webtorch_hex(reader->p[0]);
        low = ngx_webtorch_hex(reader->p[1]);

        if (high >= 0 && low >= 0) {
            reader->p += 2;
            reader->escapes++;
            return high << 4 | low;
        }
    }

    return (c == '+' && reader->plus) ? ' ' : c;
}


void
ngx_webtorch_features_ngrams(void *row, int32_t dtype, uint32_t n,
    const ngx_webtorch_text_features_t *text)
{
    size_t     i, j;
    int32_t   *p32;
    int64_t   *p64;
    uint32_t   h, k;

    k = 0;
    p32 = row;
    p64 = row;

    for (i = 0; i < text->len && k < n; i++) {

        h = NGX_WEBTORCH_FNV_BASIS;

        for (j = i; j < text->len && j < i + NGX_WEBTORCH_NGRAM && k < n; j++) {

            h = (h ^ text->text[j]) * NGX_WEBTORCH_FNV_PRIME;

            if (dtype == WEBTORCH_INT32) {
                p32[k++] = (int32_t) (h & 0x7fffffff);

            } else {
                p64[k++] = (int64_t) (h & 0x7fffffff);
            }
        }
    }

    /* -1 in each element */

    if (dtype == WEBTORCH_INT32) {
        memset(p32 + k, 0xff, (n - k) * sizeof(int32_t));

    } else {
        memset(p64 + k, 0xff, (n - k) * sizeof(int64_t));
    }
}


void
ngx_webtorch_features_bytes(void *row, uint32_t n,
    const ngx_webtorch_text_features_t *text)
{
    size_t  len;

    len = (text->len < n) ? text->len : n;

    memcpy(row, text->text, len);
    memset((unsigned char *) row + len, 0, n - len);
}
