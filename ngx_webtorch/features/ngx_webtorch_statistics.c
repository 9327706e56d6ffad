
/* Statistics of clients and of the site, updated by each request. */

#include "ngx_webtorch_statistics.h"
#include "ngx_webtorch_hash.h"

#include <string.h>
#include <strings.h>


/* bytes of an extension after the dot, at most */
#define NGX_WEBTORCH_EXTENSION      5

/* time constants of rates, milliseconds */
#define NGX_WEBTORCH_RATE_FAST      5000.0
#define NGX_WEBTORCH_RATE_SLOW      60000.0

/* numbers of values in averages */
#define NGX_WEBTORCH_GAPS           8
#define NGX_WEBTORCH_CLIENT_SHARES  16
#define NGX_WEBTORCH_SITE_SHARES    256

/* requests in a window of distinct targets, and its bits */
#define NGX_WEBTORCH_URL_WINDOW     32
#define NGX_WEBTORCH_URL_BITS       64

/* the highest 6 bits of the product are almost random */
#define NGX_WEBTORCH_URL_MIX        2654435769U
#define NGX_WEBTORCH_URL_SHIFT      26


static int ngx_webtorch_is_asset(const char *extension, size_t len);
static void ngx_webtorch_site_health(ngx_webtorch_site_t *site,
    const ngx_webtorch_outcome_t *outcome);
static void ngx_webtorch_average(float *average, float value, double weight);
static double ngx_webtorch_weight(uint64_t n, uint32_t max);
static void ngx_webtorch_rate(float *rate, double elapsed, double constant);


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

    h = ngx_webtorch_fnv(NGX_WEBTORCH_FNV_BASIS, path, len);
    h = ngx_webtorch_fnv(h, "?", 1);
    arrival->url = ngx_webtorch_fnv(h, text->query.data, text->query.len);
    arrival->query = (text->query.len != 0);

    /* the extension: from the last dot of the last segment on */

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
            h = ngx_webtorch_fnv(h, path + 1, (size_t) (slash - path) - 1);
        }
    }

    if (extension) {
        h = ngx_webtorch_fnv(h, last - extension, extension);
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

    /* the clock of a process may be behind by a cycle of its event loop */

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

    /* who does not wait for a site that suffers makes no error */

    ngx_webtorch_average(&client->errors,
                         outcome->status >= 400 && outcome->status != 499
                         && !outcome->denied, weight);
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
    ngx_webtorch_average(&site->denied, outcome->denied, weight);

    ngx_webtorch_site_health(site, outcome);
}


/*
 * How long the site takes, and how often it fails.  If upstreams answer, then
 * what nginx answers itself says nothing of that, nor do slow readers and
 * tunnels: it is the time of headers.  A client that leaves early could make a
 * site look fast.
 */

static void
ngx_webtorch_site_health(ngx_webtorch_site_t *site,
    const ngx_webtorch_outcome_t *outcome)
{
    float   elapsed;
    double  weight;

    site->upstream |= outcome->upstream;

    if (outcome->denied || outcome->upstream != site->upstream) {
        return;
    }

    elapsed = ngx_webtorch_ln((double) (outcome->upstream
                                        ? outcome->header_time
                                        : outcome->time));

    if (outcome->status == 499 && elapsed <= site->time) {
        return;
    }

    site->served++;

    weight = ngx_webtorch_weight(site->served, NGX_WEBTORCH_SITE_SHARES);

    ngx_webtorch_average(&site->time, elapsed, weight);
    ngx_webtorch_average(&site->failures, outcome->status >= 500, weight);
}


/* linear counting: an estimate by the number of unset bits */

double
ngx_webtorch_client_urls(const ngx_webtorch_client_t *client)
{
    double    urls;
    uint32_t  n, unset;

    n = ngx_webtorch_client_url_requests(client);
    unset = NGX_WEBTORCH_URL_BITS
            - (uint32_t) __builtin_popcountll(client->urls | client->old_urls);

    if (unset == 0) {
        return n;
    }

    urls = NGX_WEBTORCH_URL_BITS
           * log((double) NGX_WEBTORCH_URL_BITS / unset);

    return (urls < n) ? urls : n;
}


uint32_t
ngx_webtorch_client_url_requests(const ngx_webtorch_client_t *client)
{
    return client->window + client->old_window;
}


static void
ngx_webtorch_average(float *average, float value, double weight)
{
    *average += (float) (weight * (value - *average));
}


/* weight of the n-th value in an average of max values */

static double
ngx_webtorch_weight(uint64_t n, uint32_t max)
{
    return 1.0 / (double) (n < max ? n : max);
}


/* adds a request; elapsed, constant: milliseconds */

static void
ngx_webtorch_rate(float *rate, double elapsed, double constant)
{
    *rate = (float) (*rate * exp(-elapsed / constant) + 1000 / constant);
}
