
/* Columns of numbers: the request, its client, the site, and the outcome. */

#include "ngx_webtorch_columns.h"

#include <string.h>


/* classes of characters, in the order of their columns */

typedef enum {
    NGX_WEBTORCH_CLASS_DIGITS = 0,
    NGX_WEBTORCH_CLASS_LETTERS,
    NGX_WEBTORCH_CLASS_SPACES,
    NGX_WEBTORCH_CLASS_CONTROLS,
    NGX_WEBTORCH_CLASS_HIGH,
    NGX_WEBTORCH_CLASS_QUOTES,
    NGX_WEBTORCH_CLASS_ANGLES,
    NGX_WEBTORCH_CLASS_PARENTHESES,
    NGX_WEBTORCH_CLASS_BRACES,
    NGX_WEBTORCH_CLASS_SLASHES,
    NGX_WEBTORCH_CLASS_DOTS,
    NGX_WEBTORCH_CLASS_SEMICOLONS,
    NGX_WEBTORCH_CLASS_EQUALS,
    NGX_WEBTORCH_CLASS_PIPES,
    NGX_WEBTORCH_CLASS_DASHES,
    NGX_WEBTORCH_CLASS_OTHERS
} ngx_webtorch_class_e;


static uint32_t ngx_webtorch_count_separators(const ngx_webtorch_part_t *part);
static void ngx_webtorch_copy(float *row, uint32_t k, const float *columns);


/* upper case does not occur in the text */

static const unsigned char  ngx_webtorch_classes[256] = {
    [0x00 ... 0x1f] = NGX_WEBTORCH_CLASS_CONTROLS,
    [0x7f] = NGX_WEBTORCH_CLASS_CONTROLS,
    [0x80 ... 0xff] = NGX_WEBTORCH_CLASS_HIGH,
    ['0' ... '9'] = NGX_WEBTORCH_CLASS_DIGITS,
    ['a' ... 'z'] = NGX_WEBTORCH_CLASS_LETTERS,
    ['A' ... 'Z'] = NGX_WEBTORCH_CLASS_LETTERS,
    [' '] = NGX_WEBTORCH_CLASS_SPACES,

    ['\''] = NGX_WEBTORCH_CLASS_QUOTES,
    ['"'] = NGX_WEBTORCH_CLASS_QUOTES,
    ['`'] = NGX_WEBTORCH_CLASS_QUOTES,

    ['<'] = NGX_WEBTORCH_CLASS_ANGLES,
    ['>'] = NGX_WEBTORCH_CLASS_ANGLES,

    ['('] = NGX_WEBTORCH_CLASS_PARENTHESES,
    [')'] = NGX_WEBTORCH_CLASS_PARENTHESES,

    ['{'] = NGX_WEBTORCH_CLASS_BRACES,
    ['}'] = NGX_WEBTORCH_CLASS_BRACES,
    ['['] = NGX_WEBTORCH_CLASS_BRACES,
    [']'] = NGX_WEBTORCH_CLASS_BRACES,

    ['/'] = NGX_WEBTORCH_CLASS_SLASHES,
    ['\\'] = NGX_WEBTORCH_CLASS_SLASHES,

    ['.'] = NGX_WEBTORCH_CLASS_DOTS,

    [';'] = NGX_WEBTORCH_CLASS_SEMICOLONS,
    [':'] = NGX_WEBTORCH_CLASS_SEMICOLONS,

    ['='] = NGX_WEBTORCH_CLASS_EQUALS,
    ['&'] = NGX_WEBTORCH_CLASS_EQUALS,

    ['|'] = NGX_WEBTORCH_CLASS_PIPES,
    ['$'] = NGX_WEBTORCH_CLASS_PIPES,
    ['^'] = NGX_WEBTORCH_CLASS_PIPES,
    ['~'] = NGX_WEBTORCH_CLASS_PIPES,
    ['!'] = NGX_WEBTORCH_CLASS_PIPES,

    ['-'] = NGX_WEBTORCH_CLASS_DASHES,
    ['_'] = NGX_WEBTORCH_CLASS_DASHES,
    ['#'] = NGX_WEBTORCH_CLASS_DASHES,

    ['%'] = NGX_WEBTORCH_CLASS_OTHERS,
    ['*'] = NGX_WEBTORCH_CLASS_OTHERS,
    ['+'] = NGX_WEBTORCH_CLASS_OTHERS,
    [','] = NGX_WEBTORCH_CLASS_OTHERS,
    ['?'] = NGX_WEBTORCH_CLASS_OTHERS,
    ['@'] = NGX_WEBTORCH_CLASS_OTHERS
};


void
ngx_webtorch_features_request(float *row, uint32_t k,
    const ngx_webtorch_request_features_t *request,
    const ngx_webtorch_text_features_t *text)
{
    float     columns[NGX_WEBTORCH_REQUEST_COLUMNS], *p;
    size_t    j;
    uint32_t  i, counts[NGX_WEBTORCH_CLASSES];

    memset(columns, 0, sizeof(columns));

    columns[request->method] = 1;
    columns[request->http] = 1;

    for (i = NGX_WEBTORCH_REQUEST_TLS; i < NGX_WEBTORCH_REQUEST_LENGTHS; i++) {
        columns[i] = (request->flags >> i & 1) ? 1 : 0;
    }

    p = &columns[NGX_WEBTORCH_REQUEST_LENGTHS];

    *p++ = ngx_webtorch_ln((double) request->headers);
    *p++ = ngx_webtorch_ln((double) text->path.len);
    *p++ = ngx_webtorch_ln((double) text->query.len);
    *p++ = ngx_webtorch_ln((double) request->body);
    *p++ = ngx_webtorch_ln((double) request->user_agent);
    *p++ = ngx_webtorch_ln((double) request->cookie);
    *p++ = ngx_webtorch_ln(ngx_webtorch_count_separators(&text->query));
    *p++ = ngx_webtorch_ln((double) text->len);
    *p++ = ngx_webtorch_ln(text->escapes);
    *p++ = ngx_webtorch_ln(text->double_escapes);

    if (k > NGX_WEBTORCH_REQUEST_CLASSES) {
        memset(counts, 0, sizeof(counts));

        for (j = 0; j < text->len; j++) {
            counts[ngx_webtorch_classes[text->text[j]]]++;
        }

        for (i = 0; i < NGX_WEBTORCH_CLASSES; i++) {
            *p++ = ngx_webtorch_ln(counts[i]);
        }
    }

    ngx_webtorch_copy(row, k, columns);
}


static uint32_t
ngx_webtorch_count_separators(const ngx_webtorch_part_t *part)
{
    size_t    i;
    uint32_t  n;

    n = 0;

    for (i = 0; i < part->len; i++) {
        n += (part->data[i] == '&' || part->data[i] == '=');
    }

    return n;
}


void
ngx_webtorch_features_client(float *row, uint32_t k,
    const ngx_webtorch_client_t *client)
{
    float     columns[NGX_WEBTORCH_CLIENT_COLUMNS], *p;
    double    urls;
    uint32_t  n;

    p = columns;
    n = ngx_webtorch_client_url_requests(client);
    urls = ngx_webtorch_client_urls(client);

    *p++ = ngx_webtorch_ln(client->requests);
    *p++ = ngx_webtorch_ln((double) (client->last - client->first) / 1000);
    *p++ = ngx_webtorch_ln(client->rate_fast);
    *p++ = ngx_webtorch_ln(client->rate_slow);
    *p++ = client->gap;
    *p++ = client->gap_mean;
    *p++ = client->gap_deviation;
    *p++ = ngx_webtorch_ln(urls);
    *p++ = n ? (float) (urls / n) : 0;
    *p++ = client->queries;
    *p++ = client->assets;
    *p++ = client->errors;
    *p++ = client->failures;
    *p++ = client->bodies;
    *p++ = client->cookies;

    memcpy(p, client->kinds, sizeof(client->kinds));

    ngx_webtorch_copy(row, k, columns);
}


void
ngx_webtorch_features_site(float *row, uint32_t k,
    const ngx_webtorch_site_t *site)
{
    float  columns[NGX_WEBTORCH_SITE_COLUMNS];

    columns[0] = ngx_webtorch_ln(site->rate_fast);
    columns[1] = ngx_webtorch_ln(site->rate_slow);
    columns[2] = ngx_webtorch_ln(site->clients);
    columns[3] = site->news;
    columns[4] = site->errors;
    columns[5] = site->failures;
    columns[6] = site->time;
    columns[7] = site->denied;

    ngx_webtorch_copy(row, k, columns);
}


void
ngx_webtorch_features_outcome(float *row, uint32_t k,
    const ngx_webtorch_outcome_t *outcome)
{
    float     columns[NGX_WEBTORCH_OUTCOME_COLUMNS];
    uint32_t  class;

    memset(columns, 0, sizeof(columns));

    class = outcome->status / 100;

    if (class >= 2 && class <= 5) {
        columns[class - 2] = 1;
    }

    columns[4] = ngx_webtorch_ln((double) outcome->time);
    columns[5] = ngx_webtorch_ln((double) outcome->sent);
    columns[6] = outcome->upstream ? 1 : 0;
    columns[7] = ngx_webtorch_ln((double) outcome->upstream_time);
    columns[8] = (outcome->status == 499) ? 1 : 0;
    columns[9] = outcome->denied ? 1 : 0;
    columns[10] = outcome->scored ? outcome->score : 0;
    columns[11] = outcome->scored ? 1 : 0;
    columns[12] = outcome->dry_run ? 1 : 0;

    ngx_webtorch_copy(row, k, columns);
}


static void
ngx_webtorch_copy(float *row, uint32_t k, const float *columns)
{
    memcpy(row, columns, k * sizeof(float));
}
