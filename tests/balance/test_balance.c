
/*
 * Tests of a balancer's decisions, without nginx.  The program lists its cases,
 * or runs the one that is named.
 */

#include "test_balance.h"


ngx_webtorch_balance_t            *b;
ngx_webtorch_balance_candidate_t   servers[300];
uint64_t                           now = 1000 * SECOND;


static const test_case_t *const  lists[] = {
    test_server_cases,
    test_pick_cases,
    test_draw_cases,
    test_flight_cases,
    test_outcome_cases,
    test_refusal_cases,
    test_key_cases,
    test_params_cases,
    test_clock_cases,
    test_random_cases
};


void
setup(uint32_t n)
{
    uint32_t           i;
    webtorch_params_t  params;

    free(b);
    b = aligned_alloc(64, sizeof(ngx_webtorch_balance_t));
    check(b != NULL);

    memset(b, 0, sizeof(ngx_webtorch_balance_t));
    memset(&params, 0, sizeof(webtorch_params_t));

    ngx_webtorch_balance_init(b, n);

    for (i = 0; i < n; i++) {
        servers[i].server = ngx_webtorch_balance_find(b, i + 1, now);
        servers[i].scale = 1.0f;
        servers[i].max_fails = 1;
        servers[i].fail_timeout = 10.0f;
    }

    check(ngx_webtorch_balance_publish(b, &params, now) == 0);
}


uint32_t
begin(uint32_t n, uint64_t key, ngx_webtorch_balance_request_t *req)
{
    uint32_t  i;

    memset(req, 0, sizeof(ngx_webtorch_balance_request_t));
    req->key = key;
    b->published = now;

    i = ngx_webtorch_balance_pick(b, servers, n, req, now);
    check(i < n);

    ngx_webtorch_balance_begin(b, 0, req, now);

    return i;
}


void
end(ngx_webtorch_balance_request_t *req, ngx_webtorch_balance_outcome_e how)
{
    ngx_webtorch_balance_end(b, 0, req, how, now);
}


void
serve(uint32_t n, uint32_t requests, const float *seconds, uint64_t key,
    uint32_t *served)
{
    uint32_t                        i;
    ngx_webtorch_balance_request_t  req;

    while (requests--) {
        i = begin(n, key, &req);
        now += (uint64_t) (seconds[i] * 1e6f);
        end(&req, NGX_WEBTORCH_BALANCE_OK);
        served[i]++;
    }
}


void
warm_up(uint32_t n, float seconds)
{
    float     all[300];
    uint32_t  i, served[300];

    for (i = 0; i < n; i++) {
        all[i] = seconds;
    }

    memset(served, 0, sizeof(served));
    serve(n, 50 * n, all, 0, served);
}


uint32_t
fail(uint32_t n, uint32_t server, ngx_webtorch_balance_outcome_e how)
{
    uint32_t                        i, j, failures;
    ngx_webtorch_balance_request_t  req;

    for (failures = 0, j = 0; j < 20000 && b->servers[server].probe == 0; j++) {
        i = begin(n, 0, &req);
        now += 10000;
        end(&req, i == server ? how : NGX_WEBTORCH_BALANCE_OK);
        failures += i == server;
    }

    return failures;
}


int
main(int argc, char **argv)
{
    size_t              i;
    const test_case_t  *c;

    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {

        for (c = lists[i]; c->name; c++) {

            if (argc < 2) {
                puts(c->name);

            } else if (strcmp(argv[1], c->name) == 0) {
                c->run();
                free(b);
                return 0;
            }
        }
    }

    return argc < 2 ? 0 : 2;
}
