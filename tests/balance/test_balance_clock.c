
/*
 * Calls with a time before the stamps: the clock was read before a lock, and
 * other processes had it meanwhile.
 */

#include "test_balance.h"

#include <math.h>


#define LATE  5000ull                   /* microseconds */


static void
clock_elapsed(void)
{
    check(ngx_webtorch_elapsed_usec(7, 5) == 2);
    check(ngx_webtorch_elapsed_usec(7, 7) == 0);
    check(ngx_webtorch_elapsed_usec(5, 7) == 0);
    check(ngx_webtorch_elapsed_usec(UINT64_MAX, 0) == UINT64_MAX);

    check(ngx_webtorch_elapsed_msec32(7, 5) == 2);
    check(ngx_webtorch_elapsed_msec32(5, 7) == 0);
    check(ngx_webtorch_elapsed_msec32(3, UINT32_MAX - 1) == 5);
    check(ngx_webtorch_elapsed_msec32(UINT32_MAX - 1, 3) == 0);
    check(ngx_webtorch_elapsed_msec32(0x80000000, 0) == 0x80000000);
    check(ngx_webtorch_elapsed_msec32(0, 59999) == 0);
    check(ngx_webtorch_elapsed_msec32(0, 70000) == UINT32_MAX - 69999);
}


/* the row of a new key in a set of 8 where only that of "hot" is later */

static void
clock_hot_key_is_not_evicted(void)
{
    uint32_t  n, row, hot;
    uint64_t  id;

    setup(1);

    hot = ngx_webtorch_balance_key_row(b, 1, now);

    for (id = 2, n = 1; n < 8; id++) {
        row = ngx_webtorch_balance_key_row(b, id, now - 60 * SECOND + n);
        n += row / 8 == hot / 8;
    }

    for (n = 0; n < 1; id++) {
        row = ngx_webtorch_balance_key_row(b, id, now - LATE);
        n += row / 8 == hot / 8;
    }

    check(b->keys[hot].id == 1);
}


static void
clock_warm_key_stays_warm(void)
{
    float                           sure;
    float                           seconds[1] = { 0.01f };
    uint32_t                        served[1] = { 0 };
    ngx_webtorch_balance_request_t  req;

    setup(1);
    serve(1, 50, seconds, 5, served);

    (void) begin(1, 5, &req);
    end(&req, NGX_WEBTORCH_BALANCE_OK);
    sure = req.sure;
    check(req.gap == 0);

    now -= LATE;
    (void) begin(1, 5, &req);

    check(req.gap == 0);
    check(fabsf(req.sure - sure) < 0.01f);
}


/* stamps of keys are 32 bits, those of servers are not */

static void
clock_warm_key_of_old_server(void)
{
    float                           seconds[1] = { 0.01f };
    uint32_t                        served[1] = { 0 };
    ngx_webtorch_balance_request_t  req;

    setup(1);
    now += 30 * 24 * 3600 * SECOND;
    serve(1, 50, seconds, 5, served);

    (void) begin(1, 5, &req);
    check(req.gap == 0);

    now += SECOND;
    (void) begin(1, 5, &req);
    check(req.gap == 0);
}


static void
clock_lost_time_is_kept(void)
{
    ngx_webtorch_balance_key_t       *key;
    ngx_webtorch_balance_key_pick_t   pick;
    ngx_webtorch_balance_key_cost_t   cost = { 0, 1.0f, 1.0f, 1.0f };

    setup(1);

    ngx_webtorch_balance_key_find(b, &pick, 5, now);
    key = &b->keys[pick.row];
    key->lost_time = 1.0f;

    pick.now = now - LATE;
    ngx_webtorch_balance_key_charge(b, &pick, &cost, 0.01f, 0.0f);
    check(fabsf(key->lost_time - 1.0f) < 0.01f);

    now += 10 * SECOND;
    key->charged = ngx_webtorch_balance_ms(now - 10 * SECOND);

    pick.now = now;
    ngx_webtorch_balance_key_charge(b, &pick, &cost, 0.01f, 0.0f);
    check(fabsf(key->lost_time - 0.5f) < 0.01f);
}


/* a request that may have waited for another one, which makes the key warm */

static void
clock_pending_is_not_lost(void)
{
    uint32_t                        count;
    ngx_webtorch_balance_pair_t    *pair;
    ngx_webtorch_balance_request_t  req;

    setup(1);
    now = 1001 * SECOND;
    (void) begin(1, 5, &req);
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    now = 1002 * SECOND - LATE;
    (void) begin(1, 5, &req);

    pair = ngx_webtorch_balance_key_pair(b, req.row, req.server);
    pair->pending = 1003;
    count = pair->count;

    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(pair->count == count);

    now += 30 * SECOND;
    (void) begin(1, 5, &req);
    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(pair->count == count);

    /* the pending request was lost with its worker */

    now += 33 * SECOND;
    (void) begin(1, 5, &req);
    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(pair->count == count + 1);
}


static void
clock_one_probe_at_a_time(void)
{
    ngx_webtorch_balance_request_t  req;

    setup(2);
    warm_up(2, 0.01f);
    fail(2, 1, NGX_WEBTORCH_BALANCE_ERROR);

    now += 11 * SECOND;
    check(begin(2, 0, &req) == 1);
    check(req.reason == NGX_WEBTORCH_BALANCE_PROBE);

    now -= LATE;
    check(begin(2, 0, &req) == 0);
}


static void
clock_parameters_are_not_stale(void)
{
    setup(1);

    check(ngx_webtorch_balance_learned(b, now - LATE));
}


static void
clock_refresh_counts_all_servers(void)
{
    uint32_t                        i, j;
    ngx_webtorch_balance_request_t  req;

    setup(3);

    for (j = 0; j < 300; j++) {
        i = begin(3, 0, &req);
        now += i ? 10000 : 500000;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
    }

    check(b->fleet < 0.1f);

    /* server 0 ends a request after the others, with a time before theirs */

    (void) begin(1, 0, &req);
    now += SECOND;
    b->servers[1].finished = now;
    b->servers[2].finished = now;
    now -= LATE;
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    check(b->refreshed == now);
    check(b->fleet < 0.1f);

    /* and not twice within a moment */

    (void) begin(1, 0, &req);
    now -= LATE;
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    check(b->refreshed == now + LATE);
}


static void
clock_server_is_not_silent(void)
{
    float                           peak;
    ngx_webtorch_balance_request_t  req;

    setup(1);
    warm_up(1, 0.01f);
    (void) begin(1, 0, &req);
    b->records[0].peak = peak = 1.0f;

    now -= LATE;
    (void) begin(1, 0, &req);
    check(req.features[5] == 0);

    b->servers[0].finished = now + LATE;
    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(b->records[0].peak > 0.99f * peak);
}


const test_case_t  test_clock_cases[] = {
    test_case(clock_elapsed),
    test_case(clock_hot_key_is_not_evicted),
    test_case(clock_warm_key_stays_warm),
    test_case(clock_warm_key_of_old_server),
    test_case(clock_lost_time_is_kept),
    test_case(clock_pending_is_not_lost),
    test_case(clock_one_probe_at_a_time),
    test_case(clock_parameters_are_not_stale),
    test_case(clock_refresh_counts_all_servers),
    test_case(clock_server_is_not_silent),
    { NULL, NULL }
};
