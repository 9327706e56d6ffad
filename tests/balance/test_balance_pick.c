
/* The server that is picked: costs, weights, and what replaces them. */

#include "test_balance.h"


static void
pick_similar_servers(void)
{
    uint32_t  i, served[4] = { 0, 0, 0, 0 };
    float     seconds[4] = { 0.01f, 0.01f, 0.01f, 0.01f };

    setup(4);
    serve(4, 4000, seconds, 0, served);

    for (i = 0; i < 4; i++) {
        check(served[i] > 500 && served[i] < 1500);
    }
}


static void
pick_slow_servers_less(void)
{
    uint32_t                        i, j, n, served[2] = { 0, 0 };
    uint64_t                        due[64];
    static const uint64_t           takes[2] = { 10000, 80000 };
    ngx_webtorch_balance_request_t  req[64];

    setup(2);
    memset(due, 0, sizeof(due));
    n = 0;

    while (n < 5000) {
        now += 1000;

        for (j = 0; j < 64; j++) {
            if (due[j] && due[j] <= now) {
                end(&req[j], NGX_WEBTORCH_BALANCE_OK);
                due[j] = 0;
            }
        }

        for (j = 0; j < 64 && due[j]; j++) { /* void */ }

        if (j < 64 && n % 2 == 0) {
            i = begin(2, 0, &req[j]);
            due[j] = now + takes[i];
            served[i]++;
        }

        n++;
    }

    check(served[0] > 4 * served[1]);
    check(b->servers[1].base > 4 * b->servers[0].base);
}


static void
pick_by_weight(void)
{
    float                           w;
    uint32_t                        i, j, served[2] = { 0, 0 };
    ngx_webtorch_balance_request_t  req[64];

    setup(2);
    servers[0].scale = 1.0f / 3;

    for (j = 0; j < 64; j++) {
        i = begin(2, 0, &req[j]);
        served[i]++;
    }

    w = (float) served[0] / (float) served[1];
    check(w > 2 && w < 4);
}


static void
pick_avoids_silent_server(void)
{
    uint32_t                        i, j, hung;
    ngx_webtorch_balance_request_t  req;

    setup(4);
    warm_up(4, 0.01f);

    /* server 3 stops answering */

    for (hung = 0, j = 0; j < 1000; j++) {
        i = begin(4, 0, &req);
        now += 5000;

        if (i == 3) {
            hung++;
            continue;
        }

        end(&req, NGX_WEBTORCH_BALANCE_OK);
    }

    check(hung <= 8);
}


static void
pick_by_peak_without_parameters(void)
{
    uint32_t                        i, j, counts[4] = { 0, 0, 0, 0 };
    ngx_webtorch_balance_request_t  req;

    setup(4);
    warm_up(4, 0.01f);

    check(ngx_webtorch_balance_learned(b, now));
    now += 6 * SECOND;
    check(!ngx_webtorch_balance_learned(b, now));

    for (j = 0; j < 400; j++) {
        memset(&req, 0, sizeof(req));
        i = ngx_webtorch_balance_pick(b, servers, 4, &req, now);
        check(req.reason == NGX_WEBTORCH_BALANCE_PEAK);
        ngx_webtorch_balance_begin(b, 0, &req, now);
        now += 10000;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
        counts[i]++;
    }

    for (i = 0; i < 4; i++) {
        check(counts[i] > 20);
    }

    /* with one candidate, or two */

    memset(&req, 0, sizeof(req));
    check(ngx_webtorch_balance_pick(b, servers, 1, &req, now) == 0);
    check(req.reason == NGX_WEBTORCH_BALANCE_ONLY);
    check(ngx_webtorch_balance_pick(b, servers, 2, &req, now) < 2);
}


static void
pick_ignores_stale_scores(void)
{
    uint32_t                        first;
    ngx_webtorch_balance_request_t  req;

    setup(2);
    first = begin(2, 0, &req);
    end(&req, NGX_WEBTORCH_BALANCE_CLIENT_CLOSED);

    b->servers[1 - first].scale = 1e-3f;
    check(begin(2, 3, &req) == 1 - first);
    end(&req, NGX_WEBTORCH_BALANCE_CLIENT_CLOSED);

    b->servers[1 - first].scale = 1e3f;

    req.retry = 0;
    now += 6 * SECOND;
    (void) ngx_webtorch_balance_pick(b, servers + 1 - first, 1, &req, now);
    check(req.cost < 1.0f);
}


static void
report(uint32_t server, float waiting)
{
    ngx_webtorch_balance_request_t  req;

    req.server = server;
    req.id = b->records[server].id;

    ngx_webtorch_balance_report(b, &req, waiting, now);

    /* a request to a server that has lost its place does not count */

    req.id++;

    ngx_webtorch_balance_report(b, &req, 500.0f, now);
}


static void
pick_server_with_less_reported_load(void)
{
    uint32_t                        i;
    ngx_webtorch_balance_request_t  req, others[4];

    setup(2);
    warm_up(2, 0.01f);

    report(0, 20.0f);

    for (i = 0; i < 20; i++) {
        check(begin(2, 0, &req) == 1);
        now += 10000;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
    }

    /* it is forgotten, or replaced */

    check(ngx_webtorch_balance_others(b, 0, now) > 0);
    check(ngx_webtorch_balance_others(b, 0, now + SECOND) == 0);

    report(0, 0.0f);
    check(ngx_webtorch_balance_others(b, 0, now) == 0);

    /* those of this balancer are not others, and a lie counts a little */

    for (i = 0; i < 4; i++) {
        (void) begin(1, 0, &others[i]);
    }

    report(0, 4.0f);
    check(ngx_webtorch_balance_others(b, 0, now) == 0);

    report(0, 999999.0f);
    check(ngx_webtorch_balance_others(b, 0, now)
          <= 8.0f * b->servers[0].concurrency);

    for (i = 0; i < 4; i++) {
        end(&others[i], NGX_WEBTORCH_BALANCE_OK);
    }
}


const test_case_t  test_pick_cases[] = {
    test_case(pick_similar_servers),
    test_case(pick_slow_servers_less),
    test_case(pick_by_weight),
    test_case(pick_avoids_silent_server),
    test_case(pick_by_peak_without_parameters),
    test_case(pick_ignores_stale_scores),
    test_case(pick_server_with_less_reported_load),
    { NULL, NULL }
};
