
#ifndef _NGX_WEBTORCH_TOKENS_H_INCLUDED_
#define _NGX_WEBTORCH_TOKENS_H_INCLUDED_


#include "ngx_webtorch_text.h"


/* the path is a segment, each parameter is one, the last stands for no token */
#define NGX_WEBTORCH_SEGMENTS    64
#define NGX_WEBTORCH_MAX_TOKENS  NGX_WEBTORCH_TEXT_SIZE
#define NGX_WEBTORCH_MIN_TOKENS  128      /* of rows of variable length */
#define NGX_WEBTORCH_TOKEN       5        /* n-grams that end with a token */
#define NGX_WEBTORCH_PARAMETER   3        /* numbers for each parameter */


/* a text that is split into tokens */

typedef struct {
    uint32_t  count;
    int32_t   ngrams[NGX_WEBTORCH_TOKEN][NGX_WEBTORCH_MAX_TOKENS];
    uint8_t   segments[NGX_WEBTORCH_MAX_TOKENS];
    int32_t   parameters[NGX_WEBTORCH_PARAMETER][NGX_WEBTORCH_SEGMENTS];
} ngx_webtorch_tokens_t;


void ngx_webtorch_tokens_cut(ngx_webtorch_tokens_t *tokens,
    const ngx_webtorch_text_features_t *text);

/* length of a row with room for all; one of few, so that batches are large */
uint32_t ngx_webtorch_tokens_size(const ngx_webtorch_tokens_t *tokens);

void ngx_webtorch_features_tokens(int32_t *row, uint32_t n,
    const ngx_webtorch_tokens_t *tokens);
void ngx_webtorch_features_segments(int64_t *row, uint32_t n,
    const ngx_webtorch_tokens_t *tokens);
void ngx_webtorch_features_parameters(int32_t *row,
    const ngx_webtorch_tokens_t *tokens);


#endif /* _NGX_WEBTORCH_TOKENS_H_INCLUDED_ */
