
/* Fuzzes the features of requests: texts, n-grams, tokens, counts. */

#include "ngx_webtorch_columns.h"
#include "ngx_webtorch_features.h"
#include "ngx_webtorch_statistics.h"
#include "ngx_webtorch_text.h"
#include "ngx_webtorch_tokens.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define fuzz_check(condition, what)                                           \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what);             \
        abort();                                                              \
    }

#define FUZZ_NGRAMS  300
#define FUZZ_TOKENS  40


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


/* copies a part up to a newline to memory of exactly its size */

static const uint8_t *
fuzz_part(ngx_webtorch_part_t *part, const uint8_t *data, const uint8_t *last)
{
    char           *copy;
    const uint8_t  *end;

    end = (data < last) ? memchr(data, '\n', (size_t) (last - data)) : NULL;
    end = end ? end : last;

    part->len = (size_t) (end - data);
    part->data = NULL;

    if (part->len) {
        copy = malloc(part->len);
        memcpy(copy, data, part->len);
        part->data = copy;
    }

    return (end < last) ? end + 1 : last;
}


static void
fuzz_row(const float *row, uint32_t k)
{
    uint32_t  i;

    for (i = 0; i < k; i++) {
        fuzz_check(isfinite(row[i]), "a column is not finite");
    }
}


static void
fuzz_ngrams(const ngx_webtorch_text_features_t *text)
{
    size_t    n, i;
    int32_t  *row32;
    int64_t  *row64;

    row32 = malloc(FUZZ_NGRAMS * sizeof(int32_t));
    row64 = malloc(FUZZ_NGRAMS * sizeof(int64_t));

    ngx_webtorch_features_ngrams(row32, WEBTORCH_INT32, FUZZ_NGRAMS, text);
    ngx_webtorch_features_ngrams(row64, WEBTORCH_INT64, FUZZ_NGRAMS, text);

    /* the separators are always there */
    n = (text->len == 2) ? 3 : 4 * text->len - 6;

    for (i = 0; i < FUZZ_NGRAMS; i++) {
        fuzz_check(row32[i] == row64[i], "dtypes differ");
        fuzz_check((row32[i] >= 0) == (i < n), "another number of n-grams");
        fuzz_check(row32[i] >= -1, "a number is negative");
    }

    free(row32);
    free(row64);
}


static void
fuzz_tokens(const ngx_webtorch_text_features_t *text)
{
    int32_t                       *row, *parameters;
    int64_t                       *segments;
    uint32_t                       i, j, n;
    static ngx_webtorch_tokens_t   tokens;

    row = malloc(NGX_WEBTORCH_TOKEN * FUZZ_TOKENS * sizeof(int32_t));
    segments = malloc(FUZZ_TOKENS * sizeof(int64_t));
    parameters = malloc(sizeof(tokens.parameters));

    ngx_webtorch_tokens_cut(&tokens, text);
    ngx_webtorch_features_tokens(row, FUZZ_TOKENS, &tokens);
    ngx_webtorch_features_segments(segments, FUZZ_TOKENS, &tokens);
    ngx_webtorch_features_parameters(parameters, &tokens);

    n = tokens.count;
    i = ngx_webtorch_tokens_size(&tokens);

    fuzz_check(n > 0 && n <= i && i <= NGX_WEBTORCH_MAX_TOKENS,
               "another number of tokens");

    for (i = 0; i < FUZZ_TOKENS; i++) {
        for (j = 0; j < NGX_WEBTORCH_TOKEN; j++) {
            fuzz_check((row[j * FUZZ_TOKENS + i] > 0) == (i < n)
                       && row[j * FUZZ_TOKENS + i] <= 0xffff,
                       "an n-gram has no number");
        }

        fuzz_check(segments[i] >= (i ? segments[i - 1] : 0),
                   "segments are not in order");
        fuzz_check((segments[i] == NGX_WEBTORCH_SEGMENTS - 1) == (i >= n),
                   "a token is in no segment");
    }

    for (i = 0; i < NGX_WEBTORCH_PARAMETER * NGX_WEBTORCH_SEGMENTS; i++) {
        fuzz_check(parameters[i] >= 0, "a parameter is negative");
    }

    free(row);
    free(segments);
    free(parameters);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float                            row[NGX_WEBTORCH_REQUEST_COLUMNS];
    uint64_t                         now;
    uint32_t                         i;
    const uint8_t                   *last;
    unsigned char                    id[NGX_WEBTORCH_ID_LEN];
    ngx_webtorch_site_t              site;
    ngx_webtorch_client_t            client;
    ngx_webtorch_arrival_t           arrival;
    ngx_webtorch_outcome_t           outcome;
    ngx_webtorch_text_features_t     text;
    ngx_webtorch_request_features_t  request;

    last = data + size;

    memset(&request, 0, sizeof(request));
    memset(&arrival, 0, sizeof(arrival));
    memset(&client, 0, sizeof(client));
    memset(&outcome, 0, sizeof(outcome));
    memset(&site, 0, sizeof(site));

    if (size >= sizeof(uint32_t) + sizeof(uint64_t)) {
        memcpy(&request.flags, data, sizeof(uint32_t));
        memcpy(&outcome.time, data + sizeof(uint32_t), sizeof(uint64_t));
        request.headers = outcome.time;
        outcome.sent = outcome.time;
    }

    request.method = size % 6;
    request.http = NGX_WEBTORCH_REQUEST_HTTP + size % 3;
    outcome.status = size % 1000;

    data = fuzz_part(&text.path, data, last);
    data = fuzz_part(&text.query, data, last);
    (void) fuzz_part(&text.body, data, last);

    ngx_webtorch_features_text(&text);

    fuzz_check(text.len >= 2 && text.len <= text.path.len + text.query.len
                                            + text.body.len + 2,
               "the text has another length");

    fuzz_ngrams(&text);
    fuzz_tokens(&text);

    ngx_webtorch_features_request(row, NGX_WEBTORCH_REQUEST_COLUMNS, &request,
                                  &text);
    fuzz_row(row, NGX_WEBTORCH_REQUEST_COLUMNS);

    ngx_webtorch_features_id(id, text.path.data, text.path.len);
    fuzz_check(ngx_webtorch_features_key(text.path.data, text.path.len) >= 0,
               "a key is negative");

    ngx_webtorch_arrival_target(&arrival, &text);
    fuzz_check(arrival.kind < NGX_WEBTORCH_KINDS, "no such kind");

    /* the clock may go back between processes */
    now = outcome.time;

    for (i = 0; i < 100; i++) {
        now += (i % 7) * (i % 7) * 100 - (i % 3) * 150;
        arrival.url += i;

        ngx_webtorch_client_arrive(&client, now, &arrival);
        ngx_webtorch_site_arrive(&site, now, &client);
        ngx_webtorch_client_finish(&client, &outcome);
        ngx_webtorch_site_finish(&site, &outcome);
    }

    ngx_webtorch_features_client(row, NGX_WEBTORCH_CLIENT_COLUMNS, &client);
    fuzz_row(row, NGX_WEBTORCH_CLIENT_COLUMNS);

    ngx_webtorch_features_site(row, NGX_WEBTORCH_SITE_COLUMNS, &site);
    fuzz_row(row, NGX_WEBTORCH_SITE_COLUMNS);

    ngx_webtorch_features_outcome(row, NGX_WEBTORCH_OUTCOME_COLUMNS, &outcome);
    fuzz_row(row, NGX_WEBTORCH_OUTCOME_COLUMNS);

    free((void *) text.path.data);
    free((void *) text.query.data);
    free((void *) text.body.data);

    return 0;
}
