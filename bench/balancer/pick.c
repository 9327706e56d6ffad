
/*
 * The duration of a pick among 100 servers that have a few requests in flight
 * each, with parameters that correct costs.
 *
 *   cc -O2 -I ngx_webtorch/api -I ngx_webtorch/balance bench/balancer/pick.c \
 *      ngx_webtorch/balance/ngx_webtorch_balance*.c -lm -o build/pick
 *   build/pick [servers] [keys]
 */

#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_balance_flight.h"
#include "ngx_webtorch_balance_outcome.h"
#include "ngx_webtorch_balance_pick.h"
#include "ngx_webtorch_balance_policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


#define PICKS  200000


static ngx_webtorch_balance_candidate_t  candidates[256];
static uint64_t                          took[PICKS];


static uint64_t
nanoseconds(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


static int
compare(const void *one, const void *two)
{
    const uint64_t *a = one, *b = two;

    return *a < *b ? -1 : *a > *b;
}


int
main(int argc, char **argv)
{
    int                              n, keys, flying, i, k;
    uint64_t                         now, begin;
    webtorch_params_t                params;
    ngx_webtorch_balance_t          *b;
    ngx_webtorch_balance_request_t  *requests, *req;

    n = argc > 1 ? atoi(argv[1]) : 100;
    keys = argc > 2 ? atoi(argv[2]) : 0;
    flying = 3 * n;

    b = aligned_alloc(64, sizeof(ngx_webtorch_balance_t));
    requests = calloc((size_t) flying, sizeof(ngx_webtorch_balance_request_t));

    if (n < 1 || n > 256 || b == NULL || requests == NULL) {
        return 1;
    }

    memset(b, 0, sizeof(ngx_webtorch_balance_t));
    memset(&params, 0, sizeof(webtorch_params_t));

    ngx_webtorch_balance_init(b, (uint32_t) n);

    params.used = 1;
    params.linear[2] = 0.1f;
    now = 1000000;

    for (i = 0; i < n; i++) {
        candidates[i].server = ngx_webtorch_balance_find(b, (uint64_t) i + 1,
                                                         now);
        candidates[i].scale = 1.0f;
        candidates[i].max_fails = 1;
        candidates[i].fail_timeout = 10.0f;
    }

    for (i = 0; i < PICKS; i++) {
        now += 100;
        k = i % flying;
        req = &requests[k];

        if (i % 1000 == 0) {
            (void) ngx_webtorch_balance_publish(b, &params, now);
        }

        if (i >= flying) {
            ngx_webtorch_balance_end(b, 0, req, NGX_WEBTORCH_BALANCE_OK, now);
        }

        memset(req, 0, sizeof(ngx_webtorch_balance_request_t));
        req->key = keys ? 1 + (uint64_t) (rand() % keys) : 0;

        begin = nanoseconds();
        (void) ngx_webtorch_balance_pick(b, candidates, (uint32_t) n, req, now);
        took[i] = nanoseconds() - begin;

        ngx_webtorch_balance_begin(b, 0, req, now);
    }

    qsort(took, PICKS, sizeof(uint64_t), compare);

    printf("%d servers, %d keys: p50 %.2f, p99 %.2f, p99.9 %.2f us\n",
           n, keys, (double) took[PICKS / 2] / 1000,
           (double) took[PICKS / 100 * 99] / 1000,
           (double) took[PICKS / 1000 * 999] / 1000);

    return 0;
}
