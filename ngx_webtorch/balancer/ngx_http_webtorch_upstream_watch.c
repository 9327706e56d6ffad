
#include "ngx_http_webtorch_upstream_watch.h"
#include "ngx_http_webtorch_upstream_map.h"
#include "ngx_http_webtorch_upstream_outcome.h"
#include "ngx_webtorch_clock.h"


/* requests that are updated in one call */
#define NGX_HTTP_WEBTORCH_UPSTREAM_WATCHED  1000

/* microseconds: the age of requests that are updated */
#define NGX_HTTP_WEBTORCH_UPSTREAM_YOUNG    100000


static void ngx_http_webtorch_upstream_watch_request(
    ngx_http_webtorch_upstream_peer_t *wp, uint64_t now);
static ngx_uint_t ngx_http_webtorch_upstream_is_active(
    ngx_http_webtorch_upstream_peer_t *wp, ngx_http_upstream_t *u);


/* the requests that have waited longest for an update are at the head */

void
ngx_http_webtorch_upstream_watch(ngx_webtorch_balancer_t *balancer)
{
    uint64_t                            now;
    ngx_uint_t                          i;
    ngx_queue_t                        *q;
    ngx_http_webtorch_upstream_peer_t  *wp;

    now = ngx_webtorch_clock_usec();
    balancer->watches++;

    ngx_http_webtorch_upstream_map_all(balancer->data);

    for (i = 0;
         i < NGX_HTTP_WEBTORCH_UPSTREAM_WATCHED
         && !ngx_queue_empty(&balancer->requests);
         i++)
    {
        q = ngx_queue_head(&balancer->requests);
        wp = ngx_queue_data(q, ngx_http_webtorch_upstream_peer_t, queue);

        if (wp->watches == balancer->watches) {
            break;
        }

        wp->watches = balancer->watches;

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&balancer->requests, q);

        if (ngx_webtorch_elapsed_usec(now, wp->balance.start)
            > NGX_HTTP_WEBTORCH_UPSTREAM_YOUNG)
        {
            ngx_http_webtorch_upstream_watch_request(wp, now);
        }
    }
}


static void
ngx_http_webtorch_upstream_watch_request(ngx_http_webtorch_upstream_peer_t *wp,
    uint64_t now)
{
    ngx_http_upstream_t             *u;
    ngx_webtorch_balance_t          *b;
    ngx_webtorch_balancer_t         *balancer;
    ngx_webtorch_balance_flight_e    state;
    ngx_webtorch_balance_outcome_e   outcome;

    u = wp->request->upstream;
    balancer = wp->conf->balancer;
    b = &balancer->memory->balance;

    if (!ngx_http_webtorch_upstream_has_header(u)) {
        state = NGX_WEBTORCH_BALANCE_WAITING;

    } else if (ngx_http_webtorch_upstream_is_active(wp, u)) {
        state = NGX_WEBTORCH_BALANCE_RECEIVING;

    } else {
        state = NGX_WEBTORCH_BALANCE_IDLE;
    }

    if (wp->balance.paused && state != NGX_WEBTORCH_BALANCE_RECEIVING) {
        return;
    }

    outcome = NGX_WEBTORCH_BALANCE_OK;

    if (state != NGX_WEBTORCH_BALANCE_WAITING) {
        outcome = ngx_http_webtorch_upstream_header_outcome(wp);
        ngx_http_webtorch_upstream_set_answered(wp, now);
        wp->balance.refused = ngx_http_webtorch_upstream_is_refused(u);
    }

    ngx_shmtx_lock(balancer->mutex);

    if (state != NGX_WEBTORCH_BALANCE_WAITING
        && ngx_http_webtorch_upstream_is_stream(u))
    {
        ngx_webtorch_balance_answer(b, &wp->balance, outcome, now);
    }

    ngx_webtorch_balance_watch(b, balancer->place, &wp->balance, state, now);

    ngx_shmtx_unlock(balancer->mutex);
}


/* whether there was data in either direction since the last call */

static ngx_uint_t
ngx_http_webtorch_upstream_is_active(ngx_http_webtorch_upstream_peer_t *wp,
    ngx_http_upstream_t *u)
{
    off_t       bytes;
    ngx_uint_t  active;

    bytes = u->state->bytes_received;

    if (u->pipe) {
        bytes += u->pipe->read_length;
    }

    if (u->peer.connection) {
        bytes += u->peer.connection->sent;
    }

    active = (bytes != wp->bytes);
    wp->bytes = bytes;

    return active;
}
