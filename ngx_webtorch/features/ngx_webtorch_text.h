
#ifndef _NGX_WEBTORCH_TEXT_H_INCLUDED_
#define _NGX_WEBTORCH_TEXT_H_INCLUDED_


#include "ngx_webtorch_api.h"


/* bytes of the text, and of each part that are decoded */
#define NGX_WEBTORCH_TEXT_SIZE   16384

#define NGX_WEBTORCH_NGRAM       4        /* bytes of the longest n-gram */
#define NGX_WEBTORCH_MAX_NGRAMS  (NGX_WEBTORCH_NGRAM * NGX_WEBTORCH_TEXT_SIZE)

/* separators of parameters, names and values; the rest is not split */
#define NGX_WEBTORCH_MARKS       256


typedef struct {
    const char          *data;            /* may be NULL if len is 0 */
    size_t               len;
} ngx_webtorch_part_t;


/* the parts of a request as received, and the text that they are decoded to */

typedef struct {
    ngx_webtorch_part_t  path;
    ngx_webtorch_part_t  query;
    ngx_webtorch_part_t  body;

    uint32_t             escapes;         /* "%XX" that were decoded */
    uint32_t             double_escapes;

    /* offsets in the text: of query and body, and of unescaped "&" and "=" */
    size_t               query_offset;
    size_t               body_offset;
    uint32_t             nmarks;
    uint16_t             marks[NGX_WEBTORCH_MARKS];

    size_t               len;
    unsigned char        text[NGX_WEBTORCH_TEXT_SIZE];
} ngx_webtorch_text_features_t;


/* decodes the parts to the text */
void ngx_webtorch_features_text(ngx_webtorch_text_features_t *text);

/* rows of n elements; n-grams are int32 or int64 */
void ngx_webtorch_features_ngrams(void *row, int32_t dtype, uint32_t n,
    const ngx_webtorch_text_features_t *text);
void ngx_webtorch_features_bytes(void *row, uint32_t n,
    const ngx_webtorch_text_features_t *text);

/* the value of a hexadecimal digit; -1: it is not one */

static inline int
ngx_webtorch_hex(int c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }

    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }

    return -1;
}


#endif /* _NGX_WEBTORCH_TEXT_H_INCLUDED_ */
