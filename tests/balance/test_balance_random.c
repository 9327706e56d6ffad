
/* Random sequences of events: what always holds is checked. */

#include "test_balance.h"

#include <math.h>


static void
all_is_finite(uint32_t n)
{
    uint32_t                        i, j;
    ngx_webtorch_balance_server_t  *s;

    check(isfinite(b->fleet) && b->fleet >= 0);
    check(isfinite(b->error) && b->error >= 0 && b->error <= 1);
    check(isfinite(b->budget) && isfinite(b->scatter) && b->scatter > 0);

    for (i = 0; i < NGX_WEBTORCH_BALANCE_GAPS; i++) {
        check(isfinite(b->cold_costs[i]) && b->cold_costs[i] >= 1 - 1e-3f);
    }

    for (i = 0; i < n; i++) {
        s = &b->servers[i];
        check(isfinite(s->base) && s->base > 0);
        check(isfinite(s->backlog) && s->backlog >= 0);
        check(s->error >= 0 && s->error <= 1);
        check(s->suspicion >= 0 && s->suspicion <= 1);
        check(s->concurrency >= 1);

        for (j = 0; j < NGX_WEBTORCH_BALANCE_LEVELS; j++) {
            check(isfinite(b->records[i].levels[j].variance));
        }
    }
}


static void
random_events(void)
{
    uint32_t                               i, j, n, how, live;
    static ngx_webtorch_balance_request_t  req[500];
    static uint8_t                         used[500];

    srand(1);
    setup(20);

    for (j = 0; j < 300000; j++) {
        now += (uint64_t) (rand() % 1000)
               * (rand() % 1000 ? 1 : 1 + (uint64_t) rand() % 3600000);

        if (rand() % 20 == 0) {
            /* another process has waited for the lock */
            now -= (uint64_t) rand() % 5000;
        }

        i = (uint32_t) rand() % 500;

        if (used[i] && rand() % 4 == 0) {
            how = (uint32_t) rand() % 3;
            ngx_webtorch_balance_watch(b, 0, &req[i],
                                       (ngx_webtorch_balance_flight_e) how,
                                       now);
            continue;
        }

        if (used[i]) {
            how = (uint32_t) rand() % 20;
            req[i].refused = rand() % 3 == 0;
            end(&req[i], how < 5 ? (ngx_webtorch_balance_outcome_e) how
                                 : NGX_WEBTORCH_BALANCE_OK);
            used[i] = 0;
            continue;
        }

        n = 1 + (uint32_t) rand() % 20;
        (void) begin(n, (uint64_t) rand() % 100, &req[i]);
        check(isfinite(req[i].cost) && req[i].expected > 0);

        for (how = 0; how < WEBTORCH_FEATURES; how++) {
            check(isfinite(req[i].features[how]));
        }

        used[i] = 1;

        if (j % 1000 == 0) {
            all_is_finite(20);
        }
    }

    for (i = 0, n = 0; i < 20; i++) {
        n += b->servers[i].inflight;
    }

    for (i = 0, live = 0; i < 500; i++) {
        live += used[i] && !req[i].paused;
    }

    check(n == live);
}


const test_case_t  test_random_cases[] = {
    test_case(random_events),
    { NULL, NULL }
};
