
#include "ngx_webtorch_balance_flight.h"
#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_math.h"

#include <string.h>


static void ngx_webtorch_balance_resume(ngx_webtorch_balance_t *b,
    uint32_t worker, ngx_webtorch_balance_request_t *req, uint64_t now);


void
ngx_webtorch_balance_begin(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req, uint64_t now)
{
    req->start = now;
    req->answered = 0;
    req->judged = 0;
    req->refused = 0;

    ngx_webtorch_balance_resume(b, worker, req, now);

    if (req->reason == NGX_WEBTORCH_BALANCE_PROBE) {
        b->records[req->server].probing = now;
    }

    ngx_webtorch_balance_key_begin(b, req, now);
}


static void
ngx_webtorch_balance_resume(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req, uint64_t now)
{
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_worker_t  *w;

    s = &b->servers[req->server];
    w = &b->workers[worker];

    req->paused = 0;

    if (s->inflight++ == 0) {
        s->progress = now;
        s->backlog = 0;
    }

    s->backlog += req->own;

    w->inflight[req->server]++;
    w->backlog[req->server] += req->own;
}


void
ngx_webtorch_balance_pause(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req)
{
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_worker_t  *w;

    if (req->paused) {
        return;
    }

    s = &b->servers[req->server];
    w = &b->workers[worker];

    req->paused = 1;

    if (w->inflight[req->server]) {
        w->inflight[req->server]--;
        w->backlog[req->server] -= req->own;

        if (w->inflight[req->server] == 0) {
            w->backlog[req->server] = 0;
        }
    }

    if (s->inflight) {
        s->inflight--;
        s->backlog -= req->own;

        if (s->inflight == 0 || s->backlog < 0) {
            s->backlog = 0;
        }
    }
}


/*
 * A request that waits is paused if it is late, and the server has answered
 * others since then: so the server does not hang.
 */

void
ngx_webtorch_balance_watch(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req, ngx_webtorch_balance_flight_e state,
    uint64_t now)
{
    ngx_webtorch_balance_server_t  *s;

    s = &b->servers[req->server];

    if (b->records[req->server].id != req->id) {
        /* another server has got its place */
        return;
    }

    switch (state) {

    case NGX_WEBTORCH_BALANCE_WAITING:

        if (ngx_webtorch_balance_seconds(s->progress, req->start)
            > ngx_webtorch_balance_late(req))
        {
            ngx_webtorch_balance_pause(b, worker, req);
        }

        break;

    case NGX_WEBTORCH_BALANCE_RECEIVING:

        if (req->paused) {
            ngx_webtorch_balance_resume(b, worker, req, now);
        }

        if (s->progress < now) {
            s->progress = now;
        }

        break;

    case NGX_WEBTORCH_BALANCE_IDLE:
        ngx_webtorch_balance_pause(b, worker, req);
        break;
    }
}


void
ngx_webtorch_balance_report(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req, float waiting, uint64_t now)
{
    float                           others;
    ngx_webtorch_balance_record_t  *record;

    record = &b->records[req->server];

    if (record->id != req->id) {
        /* another server has got its place */
        return;
    }

    others = waiting - (float) b->servers[req->server].inflight;

    record->others = others > 0 ? others : 0.0f;
    record->reported = now;

    b->reports = 1;
}


/*
 * The sums are computed again from all other workers, as the worker may have
 * exited between two updates that belong together.
 */

void
ngx_webtorch_balance_reap(ngx_webtorch_balance_t *b, uint32_t worker)
{
    uint32_t                        i, k;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_worker_t  *w;

    w = &b->workers[worker];

    for (i = 0; i < b->nservers; i++) {
        b->servers[i].inflight = 0;
        b->servers[i].backlog = 0;

        if (w->inflight[i]) {
            /* one of them may have been the probe */
            b->records[i].probing = 0;
        }
    }

    memset(w, 0, sizeof(ngx_webtorch_balance_worker_t));

    for (k = 0; k < NGX_WEBTORCH_BALANCE_WORKERS; k++) {
        w = &b->workers[k];

        if (w->process == 0 && k != NGX_WEBTORCH_BALANCE_ALL_OTHERS) {
            continue;
        }

        for (i = 0; i < b->nservers; i++) {
            s = &b->servers[i];
            s->inflight += w->inflight[i];
            s->backlog += w->backlog[i];
        }
    }
}
