
#include "ngx_webtorch_features.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>


#define NGX_WEBTORCH_FNV_BASIS      2166136261U
#define NGX_WEBTORCH_FNV_PRIME      16777619U

#define NGX_WEBTORCH_FNV64_BASIS    14695981039346656037ULL
#define NGX_WEBTORCH_FNV64_PRIME    1099511628211ULL

/* between the parts of the text */
#define NGX_WEBTORCH_QUERY          0x1d
#define NGX_WEBTORCH_BODY           0x1e

/* what may follow the dot, in bytes */
#define NGX_WEBTORCH_EXTENSION      5

/* time constants of rates, in milliseconds */
#define NGX_WEBTORCH_RATE_FAST      5000.0
#define NGX_WEBTORCH_RATE_SLOW      60000.0

/* of averages: how many a new value is one of */
#define NGX_WEBTORCH_GAPS           8
#define NGX_WEBTORCH_CLIENT_SHARES  16
#define NGX_WEBTORCH_SITE_SHARES    256

/* requests that are looked at for distinct targets, and bits for them */
#define NGX_WEBTORCH_URL_WINDOW     32
#define NGX_WEBTORCH_URL_BITS       64

/* the highest 6 bits of the product are as good as random */
#define NGX_WEBTORCH_URL_MIX        2654435769U
#define NGX_WEBTORCH_URL_SHIFT      26


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


typedef struct {
    const char  *name;
    uint32_t     dtypes;                  /* a bit for each */
    int64_t      rows;                    /* of the axis before the last one,
                                             0: there is none */
    int64_t      max;                     /* of the last axis */
    int          exact;                   /* all of it, not the first ones */
    int          variable;                /* it may be as long as it needs */
    const char  *form;                    /* all of that, for users */
} ngx_webtorch_feature_t;


/* a part as it is decoded once: "%XX" and "+" */

typedef struct {
    const unsigned char  *p;
    const unsigned char  *last;
    uint32_t              escapes;
    int                   plus;           /* is a space */
} ngx_webtorch_reader_t;


static void ngx_webtorch_decode(ngx_webtorch_text_features_t *text,
    const ngx_webtorch_part_t *part, int form);
static void ngx_webtorch_decode_plain(ngx_webtorch_text_features_t *text,
    ngx_webtorch_reader_t *reader);
static void ngx_webtorch_mark(ngx_webtorch_text_features_t *text);
static void ngx_webtorch_append(ngx_webtorch_text_features_t *text,
    unsigned char c);
static int ngx_webtorch_read(ngx_webtorch_reader_t *reader);
static int ngx_webtorch_hex(int c);
static uint32_t ngx_webtorch_hash(uint32_t h, const char *data, size_t len);
static float ngx_webtorch_ln(double n);
static void ngx_webtorch_copy(float *row, uint32_t k, const float *columns);
static uint32_t ngx_webtorch_count_separators(const ngx_webtorch_part_t *part);
static int ngx_webtorch_is_asset(const char *extension, size_t len);
static void ngx_webtorch_average(float *average, float value, double weight);
static double ngx_webtorch_weight(uint64_t n, uint32_t max);
static void ngx_webtorch_rate(float *rate, double elapsed, double constant);
static double ngx_webtorch_urls(const ngx_webtorch_client_t *client);
static uint32_t ngx_webtorch_url_requests(const ngx_webtorch_client_t *client);


static const ngx_webtorch_feature_t  ngx_webtorch_features[] = {
    { "ngrams", 1 << WEBTORCH_INT32 | 1 << WEBTORCH_INT64,
      0, NGX_WEBTORCH_MAX_NGRAMS, 0, 0, "int32 or int64 [batch, 1 to 65536]" },
    { "bytes", 1 << WEBTORCH_UINT8,
      0, NGX_WEBTORCH_TEXT_SIZE, 0, 0, "uint8 [batch, 1 to 16384]" },
    { "tokens", 1 << WEBTORCH_INT32,
      NGX_WEBTORCH_TOKEN, NGX_WEBTORCH_MAX_TOKENS, 0, 1,
      "int32 [batch, 5, 1 to 16384, or an axis]" },
    { "segments", 1 << WEBTORCH_INT64,
      0, NGX_WEBTORCH_MAX_TOKENS, 0, 1,
      "int64 [batch, 1 to 16384, or an axis]" },
    { "parameters", 1 << WEBTORCH_INT32,
      NGX_WEBTORCH_PARAMETER, NGX_WEBTORCH_SEGMENTS, 1, 0,
      "int32 [batch, 3, 64]" },
    { "request", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_REQUEST_COLUMNS, 0, 0, "float32 [batch, 1 to 45]" },
    { "client", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_CLIENT_COLUMNS, 0, 0, "float32 [batch, 1 to 31]" },
    { "site", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_SITE_COLUMNS, 0, 0, "float32 [batch, 1 to 8]" },
    { "outcome", 1 << WEBTORCH_FLOAT32,
      0, NGX_WEBTORCH_OUTCOME_COLUMNS, 0, 0, "float32 [batch, 1 to 12]" },
    { "id", 1 << WEBTORCH_UINT8,
      0, NGX_WEBTORCH_ID_LEN, 1, 0, "uint8 [batch, 16]" },
    { "key", 1 << WEBTORCH_INT64, 0, 1, 1, 0, "int64 [batch, 1]" }
};


#define CT  NGX_WEBTORCH_CLASS_CONTROLS
#define SP  NGX_WEBTORCH_CLASS_SPACES
#define QU  NGX_WEBTORCH_CLASS_QUOTES
#define AN  NGX_WEBTORCH_CLASS_ANGLES
#define PA  NGX_WEBTORCH_CLASS_PARENTHESES
#define BR  NGX_WEBTORCH_CLASS_BRACES
#define SL  NGX_WEBTORCH_CLASS_SLASHES
#define DO  NGX_WEBTORCH_CLASS_DOTS
#define SE  NGX_WEBTORCH_CLASS_SEMICOLONS
#define EQ  NGX_WEBTORCH_CLASS_EQUALS
#define PI  NGX_WEBTORCH_CLASS_PIPES
#define DA  NGX_WEBTORCH_CLASS_DASHES
#define OT  NGX_WEBTORCH_CLASS_OTHERS
#define DI  NGX_WEBTORCH_CLASS_DIGITS
#define LE  NGX_WEBTORCH_CLASS_LETTERS

/* of ASCII; there are no capital letters in the text, but here they are */

static const unsigned char  ngx_webtorch_classes[128] = {
    CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT,
    CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT, CT,

    /*  !   "   #   $   %   &   '   (   )   *   +   ,   -   .   / */
    SP, PI, QU, DA, PI, OT, EQ, QU, PA, PA, OT, OT, OT, DA, DO, SL,

    /* 0 to 9                               :   ;   <   =   >   ? */
    DI, DI, DI, DI, DI, DI, DI, DI, DI, DI, SE, SE, AN, EQ, AN, OT,

    /* @ and letters */
    OT, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE,

    /*                                          [   \   ]   ^   _ */
    LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, BR, SL, BR, PI, DA,

    /* ` and letters */
    QU, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE,

    /*                                          {   |   }   ~     */
    LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, LE, BR, PI, BR, PI, CT
};


int
ngx_webtorch_feature_find(const webtorch_spec_t *spec, uint32_t mask,
    char *error, size_t len)
{
    int                            n;
    int64_t                        last;
    uint32_t                       i;
    const ngx_webtorch_feature_t  *feature;

    for (i = 0; i < NGX_WEBTORCH_NFEATURES; i++) {
        feature = &ngx_webtorch_features[i];

        if (!(mask & 1U << i)
            || strncmp(spec->name, feature->name, WEBTORCH_NAME_LEN) != 0)
        {
            continue;
        }

        last = spec->ndim ? spec->shape[spec->ndim - 1] : 0;

        if ((feature->dtypes & 1U << spec->dtype)
            && spec->ndim == (feature->rows ? 2 : 1)
            && (feature->rows == 0 || spec->shape[0] == feature->rows)
            && ((feature->variable && last == -1)
                || (last >= (feature->exact ? feature->max : 1)
                    && last <= feature->max)))
        {
            return (int) i;
        }

        (void) snprintf(error, len, "feature \"%s\" is %s",
                        feature->name, feature->form);

        return -1;
    }

    n = snprintf(error, len, "there is no feature \"%.*s\" here, known are",
                 WEBTORCH_NAME_LEN, spec->name);

    for (i = 0; i < NGX_WEBTORCH_NFEATURES; i++) {
        if ((mask & 1U << i) && n > 0 && (size_t) n < len) {
            n += snprintf(error + n, len - (size_t) n, " \"%s\"",
                          ngx_webtorch_features[i].name);
        }
    }

    return -1;
}


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


/* all of a part is read, for its escapes, even if there is no more room */

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


/* most bytes stand for themselves */

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


/* the next byte separates */

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


/* -1: the part is at its end */

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


static int
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
            i = text->text[j];
            counts[i < 128 ? ngx_webtorch_classes[i]
                           : NGX_WEBTORCH_CLASS_HIGH]++;
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
    n = ngx_webtorch_url_requests(client);
    urls = ngx_webtorch_urls(client);

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

    ngx_webtorch_copy(row, k, columns);
}


void
ngx_webtorch_features_id(unsigned char *row, const char *id, size_t len)
{
    int     high, low;
    size_t  i;

    memset(row, 0, NGX_WEBTORCH_ID_LEN);

    if (len != 2 * NGX_WEBTORCH_ID_LEN) {
        return;
    }

    for (i = 0; i < NGX_WEBTORCH_ID_LEN; i++) {
        high = ngx_webtorch_hex((unsigned char) id[2 * i]);
        low = ngx_webtorch_hex((unsigned char) id[2 * i + 1]);

        if (high < 0 || low < 0) {
            memset(row, 0, NGX_WEBTORCH_ID_LEN);
            return;
        }

        row[i] = (unsigned char) (high << 4 | low);
    }
}


int64_t
ngx_webtorch_features_key(const char *key, size_t len)
{
    size_t    i;
    uint64_t  h;

    h = NGX_WEBTORCH_FNV64_BASIS;

    for (i = 0; i < len; i++) {
        h = (h ^ (unsigned char) key[i]) * NGX_WEBTORCH_FNV64_PRIME;
    }

    return (int64_t) (h >> 1);
}


void
ngx_webtorch_arrival_target(ngx_webtorch_arrival_t *arrival,
    const ngx_webtorch_text_features_t *text)
{
    size_t       len, extension;
    uint32_t     h;
    const char  *path, *p, *last, *slash;

    len = text->path.len;
    path = len ? text->path.data : "";
    last = path + len;

    h = ngx_webtorch_hash(NGX_WEBTORCH_FNV_BASIS, path, len);
    h = ngx_webtorch_hash(h, "?", 1);
    arrival->url = ngx_webtorch_hash(h, text->query.data, text->query.len);
    arrival->query = (text->query.len != 0);

    /* from the last dot of the last part on */

    extension = 0;

    for (p = last; p > path && p[-1] != '/'; p--) {
        if (p[-1] == '.') {
            extension = (size_t) (last - p) + 1;
            break;
        }
    }

    if (extension > NGX_WEBTORCH_EXTENSION + 1) {
        extension = 0;
    }

    /* the first directory, between two slashes */

    h = NGX_WEBTORCH_FNV_BASIS;

    if (len > 1) {
        slash = memchr(path + 1, '/', len - 1);

        if (slash) {
            h = ngx_webtorch_hash(h, path + 1, (size_t) (slash - path) - 1);
        }
    }

    if (extension) {
        h = ngx_webtorch_hash(h, last - extension, extension);
    }

    arrival->kind = (h ^ h >> 16) % NGX_WEBTORCH_KINDS;

    arrival->asset = extension > 1
                     && ngx_webtorch_is_asset(last - extension + 1,
                                              extension - 1);
}


static int
ngx_webtorch_is_asset(const char *extension, size_t len)
{
    size_t  i;

    static const char *const  assets[] = {
        "css", "js", "mjs", "map", "png", "jpg", "jpeg", "gif", "webp", "avif",
        "svg", "ico", "bmp", "woff", "woff2", "ttf", "otf", "eot", "mp3",
        "mp4", "m4a", "m4s", "webm", "ogg", "wav", "ts", "m3u8"
    };

    for (i = 0; i < sizeof(assets) / sizeof(assets[0]); i++) {
        if (strlen(assets[i]) == len
            && strncasecmp(assets[i], extension, len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


void
ngx_webtorch_client_arrive(ngx_webtorch_client_t *client, uint64_t now,
    const ngx_webtorch_arrival_t *arrival)
{
    float     gap;
    double    elapsed, weight;
    uint32_t  i;

    /* clocks of processes may be behind by a turn of their event loops */

    if (client->requests == 0) {
        client->first = now;
        client->last = now;
    }

    elapsed = (now > client->last) ? (double) (now - client->last) : 0;

    ngx_webtorch_rate(&client->rate_fast, elapsed, NGX_WEBTORCH_RATE_FAST);
    ngx_webtorch_rate(&client->rate_slow, elapsed, NGX_WEBTORCH_RATE_SLOW);

    if (client->requests) {
        gap = ngx_webtorch_ln(elapsed);
        weight = ngx_webtorch_weight(client->requests, NGX_WEBTORCH_GAPS);

        client->gap = gap;
        ngx_webtorch_average(&client->gap_mean, gap, weight);
        ngx_webtorch_average(&client->gap_deviation,
                             fabsf(gap - client->gap_mean), weight);
    }

    if (now > client->last) {
        client->last = now;
    }

    if (client->requests != UINT32_MAX) {
        client->requests++;
    }

    if (client->window == NGX_WEBTORCH_URL_WINDOW) {
        client->old_window = client->window;
        client->old_urls = client->urls;
        client->window = 0;
        client->urls = 0;
    }

    client->window++;
    client->urls |= 1ULL << (arrival->url * NGX_WEBTORCH_URL_MIX
                             >> NGX_WEBTORCH_URL_SHIFT);

    weight = ngx_webtorch_weight(client->requests, NGX_WEBTORCH_CLIENT_SHARES);

    ngx_webtorch_average(&client->queries, (float) arrival->query, weight);
    ngx_webtorch_average(&client->assets, (float) arrival->asset, weight);
    ngx_webtorch_average(&client->bodies, (float) arrival->body, weight);
    ngx_webtorch_average(&client->cookies, (float) arrival->cookie, weight);

    for (i = 0; i < NGX_WEBTORCH_KINDS; i++) {
        ngx_webtorch_average(&client->kinds[i], i == arrival->kind ? 1 : 0,
                             weight);
    }
}


void
ngx_webtorch_client_finish(ngx_webtorch_client_t *client,
    const ngx_webtorch_outcome_t *outcome)
{
    double  weight;

    if (client->answers != UINT32_MAX) {
        client->answers++;
    }

    weight = ngx_webtorch_weight(client->answers, NGX_WEBTORCH_CLIENT_SHARES);

    ngx_webtorch_average(&client->errors,
                         outcome->status >= 400 && !outcome->denied, weight);
    ngx_webtorch_average(&client->failures,
                         outcome->status >= 500 && !outcome->denied, weight);
}


void
ngx_webtorch_site_arrive(ngx_webtorch_site_t *site, uint64_t now,
    const ngx_webtorch_client_t *client)
{
    double  elapsed;

    if (site->requests == 0) {
        site->last = now;
    }

    elapsed = (now > site->last) ? (double) (now - site->last) : 0;

    ngx_webtorch_rate(&site->rate_fast, elapsed, NGX_WEBTORCH_RATE_FAST);
    ngx_webtorch_rate(&site->rate_slow, elapsed, NGX_WEBTORCH_RATE_SLOW);

    if (now > site->last) {
        site->last = now;
    }

    site->requests++;

    ngx_webtorch_average(&site->news,
                         client->last - client->first
                         < NGX_WEBTORCH_CLIENT_ACTIVE,
                         ngx_webtorch_weight(site->requests,
                                             NGX_WEBTORCH_SITE_SHARES));
}


void
ngx_webtorch_site_finish(ngx_webtorch_site_t *site,
    const ngx_webtorch_outcome_t *outcome)
{
    double  weight;

    site->answers++;

    weight = ngx_webtorch_weight(site->answers, NGX_WEBTORCH_SITE_SHARES);

    ngx_webtorch_average(&site->errors,
                         outcome->status >= 400 && !outcome->denied, weight);
    ngx_webtorch_average(&site->failures,
                         outcome->status >= 500 && !outcome->denied, weight);
    ngx_webtorch_average(&site->denied, outcome->denied, weight);

    if (!outcome->denied) {
        ngx_webtorch_average(&site->time,
                             ngx_webtorch_ln((double) outcome->time), weight);
    }
}


static uint32_t
ngx_webtorch_hash(uint32_t h, const char *data, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        h = (h ^ (unsigned char) data[i]) * NGX_WEBTORCH_FNV_PRIME;
    }

    return h;
}


static float
ngx_webtorch_ln(double n)
{
    return (n > 0) ? (float) log1p(n) : 0;
}


static void
ngx_webtorch_copy(float *row, uint32_t k, const float *columns)
{
    memcpy(row, columns, k * sizeof(float));
}


static void
ngx_webtorch_average(float *average, float value, double weight)
{
    *average += (float) (weight * (value - *average));
}


/* of the n-th value */

static double
ngx_webtorch_weight(uint64_t n, uint32_t max)
{
    return 1.0 / (double) (n < max ? n : max);
}


/* one more request, after so many milliseconds */

static void
ngx_webtorch_rate(float *rate, double elapsed, double constant)
{
    *rate = (float) (*rate * exp(-elapsed / constant) + 1000 / constant);
}


/* linear counting: how many bits are unset tells how many were thrown */

static double
ngx_webtorch_urls(const ngx_webtorch_client_t *client)
{
    double    urls;
    uint32_t  n, unset;

    n = ngx_webtorch_url_requests(client);
    unset = NGX_WEBTORCH_URL_BITS
            - (uint32_t) __builtin_popcountll(client->urls | client->old_urls);

    if (unset == 0) {
        return n;
    }

    urls = NGX_WEBTORCH_URL_BITS
           * log((double) NGX_WEBTORCH_URL_BITS / unset);

    return (urls < n) ? urls : n;
}


static uint32_t
ngx_webtorch_url_requests(const ngx_webtorch_client_t *client)
{
    return client->window + client->old_window;
}
