
/* What outcomes change: ejection, probes, and estimates. */

#include "test_balance.h"


static void
eject_failing_server(void)
{
    setup(4);
    warm_up(4, 0.01f);

    check(fail(4, 2, NGX_WEBTORCH_BALANCE_ERROR) <= 5);
    check(b->servers[2].probe > 0);
}


static void
eject_not_after_one_failure(void)
{
    uint32_t                        i;
    ngx_webtorch_balance_request_t  req;

    setup(4);
    warm_up(4, 0.01f);

    i = begin(4, 0, &req);
    end(&req, NGX_WEBTORCH_BALANCE_FAILED);

    check(b->servers[servers[i].server].probe == 0);
}


static void
eject_after_max_fails(void)
{
    uint32_t                        i, j;
    ngx_webtorch_balance_request_t  req;

    setup(1);
    warm_up(1, 0.01f);
    servers[0].max_fails = 5;

    for (j = 1; j < 10 && b->servers[0].probe == 0; j++) {
        i = begin(1, 0, &req);
        end(&req, NGX_WEBTORCH_BALANCE_FAILED);
        check(i == 0);
    }

    check(j == 6 || j == 5);
}


static void
eject_never_with_max_fails_0(void)
{
    setup(4);
    warm_up(4, 0.01f);
    servers[2].max_fails = 0;

    check(fail(4, 2, NGX_WEBTORCH_BALANCE_FAILED) > 2);
    check(b->servers[2].probe == 0);
}


static void
probe_until_server_is_back(void)
{
    uint32_t                        i, probes;
    uint64_t                        stop;
    ngx_webtorch_balance_request_t  req, probe;

    setup(4);
    warm_up(4, 0.01f);
    fail(4, 1, NGX_WEBTORCH_BALANCE_ERROR);

    /* probes fail for a minute */

    for (probes = 0, stop = now + 60 * SECOND; now < stop; /* void */ ) {
        i = begin(4, 0, &req);
        now += 10000;

        if (i == 1) {
            check(req.reason == NGX_WEBTORCH_BALANCE_PROBE);
            probes++;
        }

        end(&req, i == 1 ? NGX_WEBTORCH_BALANCE_ERROR
                         : NGX_WEBTORCH_BALANCE_OK);
    }

    check(probes >= 4 && probes <= 12);

    /* one at a time, and never a request that has failed elsewhere */

    now += 11 * SECOND;

    memset(&req, 0, sizeof(req));
    req.retry = 1;
    check(ngx_webtorch_balance_pick(b, servers, 4, &req, now) != 1);

    check(begin(4, 0, &probe) == 1);

    for (i = 0; i < 20; i++) {
        check(begin(4, 0, &req) != 1);
        end(&req, NGX_WEBTORCH_BALANCE_OK);
    }

    now += 10000;
    end(&probe, NGX_WEBTORCH_BALANCE_OK);

    check(b->servers[1].probe == 0);
    check(b->servers[1].limit > 0);

    for (i = 0; i < 20; i++) {
        warm_up(4, 0.01f);
    }

    check(b->servers[1].limit == 0);
}


static void
eject_not_if_all_fail_alike(void)
{
    uint32_t                        i, j;
    ngx_webtorch_balance_request_t  req;

    setup(4);
    warm_up(4, 0.01f);

    /* every second request is bad, wherever it goes */

    for (j = 0; j < 4000; j++) {
        (void) begin(4, 0, &req);
        now += 10000;
        end(&req, j % 2 ? NGX_WEBTORCH_BALANCE_ERROR : NGX_WEBTORCH_BALANCE_OK);
    }

    for (i = 0; i < 4; i++) {
        check(b->servers[i].probe == 0);
    }
}


static void
eject_all_and_use_the_best(void)
{
    uint32_t                        j;
    ngx_webtorch_balance_request_t  req;

    setup(3);
    warm_up(3, 0.01f);

    for (j = 0; j < 500; j++) {
        (void) begin(3, 0, &req);
        now += 1000;
        end(&req, NGX_WEBTORCH_BALANCE_FAILED);
    }

    (void) begin(3, 0, &req);
    check(req.reason == NGX_WEBTORCH_BALANCE_WORST
          || req.reason == NGX_WEBTORCH_BALANCE_PROBE
          || req.reason == NGX_WEBTORCH_BALANCE_COST);
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    /* a server that succeeds nevertheless is back */

    warm_up(3, 0.01f);
    now += 20 * SECOND;
    warm_up(3, 0.01f);

    for (j = 0; j < 3; j++) {
        check(b->servers[j].probe == 0);
    }
}


static void
eject_one_of_two(void)
{
    uint32_t                        i, j, failures;
    ngx_webtorch_balance_request_t  req;

    setup(2);
    warm_up(2, 0.05f);

    /* one fails fast, and would be cheap */

    for (failures = 0, j = 0; j < 2000; j++) {
        i = begin(2, 0, &req);
        now += i ? 1000 : 50000;
        end(&req, i ? NGX_WEBTORCH_BALANCE_ERROR : NGX_WEBTORCH_BALANCE_OK);
        failures += i;
    }

    /* in 100 seconds, with 10 between probes */

    check(failures >= 5 && failures <= 20);
}


static void
client_close_counts_as_timeout(void)
{
    uint32_t                        j;
    ngx_webtorch_balance_request_t  req;

    setup(1);
    warm_up(1, 0.01f);

    for (j = 0; j < 3; j++) {
        (void) begin(1, 0, &req);
        now += 2 * SECOND;
        end(&req, NGX_WEBTORCH_BALANCE_CLIENT_CLOSED);
    }

    check(b->servers[0].probe > 0);

    setup(1);
    warm_up(1, 0.01f);

    for (j = 0; j < 10; j++) {
        (void) begin(1, 0, &req);
        now += 5000;
        end(&req, NGX_WEBTORCH_BALANCE_CLIENT_CLOSED);
    }

    check(b->servers[0].probe == 0);
    check(b->servers[0].error < 0.01f);
}


static void
refresh_without_removed_servers(void)
{
    uint32_t  served[4] = { 0, 0, 0, 0 };
    float     seconds[4] = { 0.01f, 0.5f, 0.5f, 0.5f };

    setup(4);
    serve(4, 200, seconds, 0, served);
    check(b->fleet > 0.1f);

    /* only the quick one is left */

    now += 300 * SECOND;
    serve(1, 50, seconds, 0, served);

    check(b->fleet < 0.02f);
}


const test_case_t  test_outcome_cases[] = {
    test_case(eject_failing_server),
    test_case(eject_not_after_one_failure),
    test_case(eject_after_max_fails),
    test_case(eject_never_with_max_fails_0),
    test_case(probe_until_server_is_back),
    test_case(eject_not_if_all_fail_alike),
    test_case(eject_all_and_use_the_best),
    test_case(eject_one_of_two),
    test_case(client_close_counts_as_timeout),
    test_case(refresh_without_removed_servers),
    { NULL, NULL }
};
