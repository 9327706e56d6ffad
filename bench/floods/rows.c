
/* The features client and site of simulated requests, by nginx's own code. */

#include "ngx_webtorch_columns.h"

#include <stdlib.h>
#include <string.h>


ngx_webtorch_client_t *
flood_client_create(void)
{
    return calloc(1, sizeof(ngx_webtorch_client_t));
}


ngx_webtorch_site_t *
flood_site_create(void)
{
    return calloc(1, sizeof(ngx_webtorch_site_t));
}


/* bits of flags: the request has a query, is for an asset, has a cookie */

void
flood_target(const char *path, const char *query, uint32_t *url, uint32_t *kind,
    uint32_t *flags)
{
    ngx_webtorch_arrival_t         arrival;
    ngx_webtorch_text_features_t  *text;

    text = calloc(1, sizeof(ngx_webtorch_text_features_t));
    if (text == NULL) {
        abort();
    }

    text->path.data = path;
    text->path.len = strlen(path);
    text->query.data = query;
    text->query.len = strlen(query);

    ngx_webtorch_arrival_target(&arrival, text);

    *url = arrival.url;
    *kind = arrival.kind;
    *flags = (uint32_t) (arrival.query | arrival.asset << 1);

    free(text);
}


/* now: milliseconds; rows of all columns */

void
flood_arrive(ngx_webtorch_client_t *client, ngx_webtorch_site_t *site,
    uint64_t now, uint32_t url, uint32_t kind, uint32_t flags,
    float *client_row, float *site_row)
{
    ngx_webtorch_arrival_t  arrival;

    arrival.url = url;
    arrival.kind = kind;
    arrival.query = flags & 1;
    arrival.asset = flags >> 1 & 1;
    arrival.cookie = flags >> 2 & 1;
    arrival.body = 0;

    ngx_webtorch_client_arrive(client, now, &arrival);
    ngx_webtorch_site_arrive(site, now, client);

    ngx_webtorch_features_client(client_row, NGX_WEBTORCH_CLIENT_COLUMNS,
                                 client);
    ngx_webtorch_features_site(site_row, NGX_WEBTORCH_SITE_COLUMNS, site);
}


/* time: milliseconds */

void
flood_finish(ngx_webtorch_client_t *client, ngx_webtorch_site_t *site,
    uint32_t status, uint64_t time, uint32_t denied)
{
    ngx_webtorch_outcome_t  outcome;

    memset(&outcome, 0, sizeof(ngx_webtorch_outcome_t));

    outcome.status = status;
    outcome.time = time;
    outcome.upstream = 1;
    outcome.header_time = time;
    outcome.denied = denied;

    ngx_webtorch_client_finish(client, &outcome);
    ngx_webtorch_site_finish(site, &outcome);
}
