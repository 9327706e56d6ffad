
#include "ngx_http_webtorch_outcome.h"


static void ngx_http_webtorch_outcome_upstream(ngx_http_request_t *r,
    ngx_webtorch_outcome_t *outcome);


void
ngx_http_webtorch_outcome(ngx_http_request_t *r,
    ngx_webtorch_outcome_t *outcome)
{
    ngx_time_t                      *tp;
    ngx_msec_int_t                   ms;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    ngx_memzero(outcome, sizeof(ngx_webtorch_outcome_t));

    outcome->status = (uint32_t) (r->err_status ? r->err_status
                                                : r->headers_out.status);

    /* as $request_time does */

    tp = ngx_timeofday();
    ms = (ngx_msec_int_t) ((tp->sec - r->start_sec) * 1000
                           + (tp->msec - r->start_msec));

    outcome->time = (uint64_t) ngx_max(ms, 0);
    outcome->sent = (uint64_t) r->connection->sent;

    ngx_http_webtorch_outcome_upstream(r, outcome);

    ctx = ngx_http_webtorch_phases_ctx(r, 0);

    if (ctx) {
        outcome->denied = ctx->denied;
        outcome->scored = ctx->scored;
        outcome->dry_run = ctx->dry_run;
        outcome->score = (float) ctx->score;
    }
}


static void
ngx_http_webtorch_outcome_upstream(ngx_http_request_t *r,
    ngx_webtorch_outcome_t *outcome)
{
    ngx_uint_t                  i;
    ngx_http_upstream_state_t  *state;

    if (r->upstream_states == NULL) {
        return;
    }

    outcome->upstream = (r->upstream_states->nelts != 0);
    state = r->upstream_states->elts;

    for (i = 0; i < r->upstream_states->nelts; i++) {

        /* an attempt that has not ended has no time */

        if (state[i].peer == NULL
            || state[i].response_time == (ngx_msec_t) -1)
        {
            continue;
        }

        outcome->upstream_time += state[i].response_time;

        outcome->header_time += (state[i].header_time != (ngx_msec_t) -1)
                                    ? state[i].header_time
                                    : state[i].response_time;
    }
}
