
/*
 * The end of a request: its outcome changes the health of the server, and is
 * added to the other estimates.
 */

#include "ngx_webtorch_balance_outcome.h"
#include "ngx_webtorch_balance_flight.h"
#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_math.h"
#include "ngx_webtorch_balance_policy.h"
#include "ngx_webtorch_balance_refusal.h"
#include "ngx_webtorch_balance_service.h"

#include <math.h>


/* evidence of a failure that ejects a server, log of odds */
#define NGX_WEBTORCH_BALANCE_EVIDENCE      3.0f

/* seconds to the first probe */
#define NGX_WEBTORCH_BALANCE_BACKOFF       0.5f

/* requests in flight after a probe that succeeded */
#define NGX_WEBTORCH_BALANCE_RETURN_LIMIT  2

/* outcomes before the ejection that count at most */
#define NGX_WEBTORCH_BALANCE_RETURN_COUNT  12.0f

/* microseconds between updates of the estimates */
#define NGX_WEBTORCH_BALANCE_REFRESH       20000


static void ngx_webtorch_balance_health(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now);
static void ngx_webtorch_balance_eject(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now);


void
ngx_webtorch_balance_end(ngx_webtorch_balance_t *b, uint32_t worker,
    ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, uint64_t now)
{
    float                           latency;
    ngx_webtorch_balance_server_t  *s;

    s = &b->servers[req->server];

    if (b->records[req->server].id != req->id) {
        /* another server has got its place */
        return;
    }

    ngx_webtorch_balance_pause(b, worker, req);

    latency = ngx_webtorch_balance_seconds(now, req->start);

    if (outcome == NGX_WEBTORCH_BALANCE_CLIENT_CLOSED
        && latency > ngx_webtorch_balance_late(req)
        && ngx_webtorch_balance_seconds(now, s->progress)
           > NGX_WEBTORCH_BALANCE_PATIENCE)
    {
        /* the server answers nothing: the client's timeout is as good */
        outcome = NGX_WEBTORCH_BALANCE_TIMEOUT;
    }

    ngx_webtorch_balance_answer(b, req, outcome, now);
}


void
ngx_webtorch_balance_answer(ngx_webtorch_balance_t *b,
    ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, uint64_t now)
{
    float                           latency;
    uint64_t                        answered;
    ngx_webtorch_balance_server_t  *s;

    if (b->records[req->server].id != req->id
        || (req->judged && (outcome == NGX_WEBTORCH_BALANCE_OK
                            || outcome == NGX_WEBTORCH_BALANCE_ERROR)))
    {
        return;
    }

    req->judged = 1;

    s = &b->servers[req->server];
    answered = req->answered ? req->answered : now;
    latency = ngx_webtorch_balance_seconds(answered, req->start);

    ngx_webtorch_balance_key_end(b, req, outcome, latency, now);

    if (outcome == NGX_WEBTORCH_BALANCE_CLIENT_CLOSED) {

        if (req->reason == NGX_WEBTORCH_BALANCE_PROBE) {
            b->records[req->server].probing = 0;
        }

        return;
    }

    if ((outcome == NGX_WEBTORCH_BALANCE_OK
         || outcome == NGX_WEBTORCH_BALANCE_ERROR)
        && s->progress < answered)
    {
        s->progress = answered;
    }

    if (outcome == NGX_WEBTORCH_BALANCE_OK
        && !ngx_webtorch_balance_refusal_add(b, req, now))
    {
        ngx_webtorch_balance_service_add(b, req, latency, now);
    }

    ngx_webtorch_balance_health(b, req, outcome, latency, now);
    ngx_webtorch_balance_sample_add(b, req, outcome, latency);

    if (ngx_webtorch_elapsed_usec(now, b->refreshed)
        > NGX_WEBTORCH_BALANCE_REFRESH)
    {
        b->refreshed = now;

        ngx_webtorch_balance_service_refresh(b);
        ngx_webtorch_balance_key_refresh(b);
    }
}


void
ngx_webtorch_balance_order(ngx_webtorch_balance_t *b, uint32_t server,
    uint32_t out, uint64_t now)
{
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    s = &b->servers[server];
    r = &b->records[server];

    if (out) {
        r->out = 1;
        return;
    }

    if (s->probe) {
        /* the next request shows whether it works again */
        s->probe = now;
        r->backoff = 0;

    } else if (r->out) {
        s->limit = NGX_WEBTORCH_BALANCE_RETURN_LIMIT;
    }

    r->out = 0;
    r->evidence = 0;
}


/*
 * A server is ejected when its failures are evidence that it is broken: they
 * are more frequent than those of all servers.
 */

static void
ngx_webtorch_balance_health(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now)
{
    float                           usual, bad, broken;
    uint32_t                        probe;
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    s = &b->servers[req->server];
    r = &b->records[req->server];

    bad = outcome == NGX_WEBTORCH_BALANCE_OK ? 0.0f : 1.0f;
    probe = req->reason == NGX_WEBTORCH_BALANCE_PROBE;
    usual = b->error < 0.9f ? b->error : 0.9f;

    s->error = ngx_webtorch_balance_forgive(s->error, now, s->finished);
    s->error += 0.1f * (bad - s->error);
    s->finished = now;

    if (probe) {
        r->probing = 0;
    }

    if (bad > 0) {
        /* a single failure may be the fault of the request */
        broken = NGX_WEBTORCH_BALANCE_EVIDENCE
                 * (float) (req->max_fails > 2 ? req->max_fails : 2);
        r->evidence += logf(0.95f / (usual + 0.02f));
        r->evidence = r->evidence < broken ? r->evidence : broken;

        if (req->max_fails
            && (probe
                || (s->probe == 0 && (s->limit || r->evidence >= broken))))
        {
            ngx_webtorch_balance_eject(b, req, outcome, latency, now);
        }

        return;
    }

    r->evidence += logf(0.05f / (1.0f - usual));
    r->evidence = r->evidence > 0 ? r->evidence : 0;

    if (s->probe) {

        if (probe || req->reason == NGX_WEBTORCH_BALANCE_WORST
            || req->reason == NGX_WEBTORCH_BALANCE_ONLY)
        {
            /* a request was sent despite the ejection, and succeeded */
            s->probe = 0;
            s->limit = NGX_WEBTORCH_BALANCE_RETURN_LIMIT;

            /* it may be another server than before */
            r->count = r->count < NGX_WEBTORCH_BALANCE_RETURN_COUNT
                       ? r->count : NGX_WEBTORCH_BALANCE_RETURN_COUNT;
        }

        return;
    }

    /* the limit rises if the server is as fast as before */

    if (s->limit && latency < 3.0f * req->expected
        && ++s->limit > 4 * NGX_WEBTORCH_BALANCE_RETURN_LIMIT
                      + s->concurrency)
    {
        s->limit = 0;
        r->backoff = 0;
    }
}


static void
ngx_webtorch_balance_eject(ngx_webtorch_balance_t *b,
    const ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e outcome, float latency, uint64_t now)
{
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_record_t  *r;

    s = &b->servers[req->server];
    r = &b->records[req->server];

    r->backoff = r->backoff > 0 ? 2.0f * r->backoff
                                : NGX_WEBTORCH_BALANCE_BACKOFF;

    /* probes that keep clients waiting are rare */

    r->backoff = r->backoff > 4.0f * latency ? r->backoff : 4.0f * latency;
    r->backoff = r->backoff < req->fail_timeout ? r->backoff
                                                : req->fail_timeout;

    if (s->probe == 0) {
        r->ejections++;
    }

    s->probe = now + (uint64_t) (r->backoff * 1e6f);
    s->limit = 0;

    if (outcome == NGX_WEBTORCH_BALANCE_FAILED) {
        /* its process may have exited, and lost the keys */
        r->cold = now;
    }
}
