
/* Servers and their places, and the workers whose requests are in flight. */

#include "test_balance.h"

#include <math.h>


static void
server_starts_as_its_peers(void)
{
    uint32_t  i;

    setup(4);
    warm_up(4, 0.05f);

    i = ngx_webtorch_balance_find(b, 99, now);

    check(i == 4);
    check(fabsf(b->servers[4].base - 0.05f) < 0.02f);
    check(b->servers[4].limit > 0);
}


static void
reserve_evicts_keys(void)
{
    uint64_t                        key;
    ngx_webtorch_balance_request_t  req;

    setup(200);
    check(b->columns == 256);

    for (key = 1; key <= 5000; key++) {
        now += 1000;
        (void) begin(200, key, &req);
        end(&req, NGX_WEBTORCH_BALANCE_OK);
    }
}


static void
reserve_columns(void)
{
    ngx_webtorch_balance_request_t  req;

    setup(4);
    check(b->columns == 8);

    (void) begin(4, 9, &req);
    ngx_webtorch_balance_reserve(b, 40);
    check(b->columns == 64);

    /* a request that was in flight then ends without harm */

    now += 10000;
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    ngx_webtorch_balance_reserve(b, 1000);
    check(b->columns == NGX_WEBTORCH_BALANCE_SERVERS);
}


static void
server_place_is_reused(void)
{
    uint32_t                        i, place;
    ngx_webtorch_balance_request_t  req;

    setup(2);
    (void) begin(2, 0, &req);
    place = req.server;

    for (i = 100; i < 100 + 2 * NGX_WEBTORCH_BALANCE_SERVERS; i++) {
        now += 1000;
        check(ngx_webtorch_balance_find(b, i, now)
              < NGX_WEBTORCH_BALANCE_SERVERS);
    }

    /* but not while requests are in flight */

    check(b->records[place].id == req.id);
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    for (i = 0; i < NGX_WEBTORCH_BALANCE_SERVERS; i++) {
        b->servers[i].inflight = 1;
    }

    check(ngx_webtorch_balance_find(b, 12345, now)
          == NGX_WEBTORCH_BALANCE_NONE);

    /* a request ends after its server's place was reused */

    b->records[place].id = 4711;
    b->servers[place].inflight = 0;
    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(b->servers[place].inflight == 0);
}


static void
server_place_keeps_an_order(void)
{
    uint32_t  i, place;

    setup(2);
    place = ngx_webtorch_balance_find(b, 50, now);
    ngx_webtorch_balance_order(b, place, 1, now);

    for (i = 100; i < 100 + 2 * NGX_WEBTORCH_BALANCE_SERVERS; i++) {
        now += 1000;
        (void) ngx_webtorch_balance_find(b, i, now);
    }

    check(b->records[place].id == 50 && b->records[place].out);

    /* its place is used when all others have requests */

    for (i = 0; i < NGX_WEBTORCH_BALANCE_SERVERS; i++) {
        b->servers[i].inflight = (i != place);
    }

    check(ngx_webtorch_balance_find(b, 4711, now) == place);
    check(b->records[place].out == 0);
}


static void
server_is_returned(void)
{
    setup(2);

    ngx_webtorch_balance_order(b, 0, 1, now);
    ngx_webtorch_balance_order(b, 0, 0, now);
    check(b->records[0].out == 0 && b->servers[0].limit == 2);

    /* one that failures have ejected as well is probed at once */

    b->servers[1].probe = now + 10 * SECOND;
    ngx_webtorch_balance_order(b, 1, 1, now);
    ngx_webtorch_balance_order(b, 1, 0, now);
    check(b->servers[1].probe == now && b->servers[1].limit == 0);

    /* one that is not out keeps what it has */

    b->servers[0].limit = 0;
    ngx_webtorch_balance_order(b, 0, 0, now);
    check(b->servers[0].limit == 0);
}


static void
server_place_loses_its_keys(void)
{
    float                           all[1] = { 0.5f };
    uint32_t                        i, place, served[1] = { 0 };
    ngx_webtorch_balance_request_t  req;

    setup(1);
    serve(1, 10, all, 7, served);
    (void) begin(1, 7, &req);
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    place = req.server;
    check(ngx_webtorch_balance_key_pair(b, req.row, place)->count > 0);

    for (i = 100; i < 100 + NGX_WEBTORCH_BALANCE_SERVERS; i++) {
        now += 1000;
        (void) ngx_webtorch_balance_find(b, i, now);
    }

    check(b->records[place].id != req.id);
    check(ngx_webtorch_balance_key_pair(b, req.row, place)->count == 0);
}


static void
worker_reap(void)
{
    uint32_t                        i, j;
    ngx_webtorch_balance_request_t  req;

    setup(3);

    b->workers[0].process = 100;
    b->workers[1].process = 101;

    for (j = 0; j < 30; j++) {
        memset(&req, 0, sizeof(req));
        (void) ngx_webtorch_balance_pick(b, servers, 3, &req, now);
        ngx_webtorch_balance_begin(b, j % 2, &req, now);
    }

    /* the worker exits while it begins a request, which is a probe */

    b->servers[2].inflight++;
    b->records[2].probing = now;

    ngx_webtorch_balance_reap(b, 1);

    for (i = 0, j = 0; i < 3; i++) {
        check(b->servers[i].inflight == b->workers[0].inflight[i]);
        j += b->servers[i].inflight;
    }

    check(j == 15);
    check(b->records[2].probing == 0);

    ngx_webtorch_balance_reap(b, 0);

    for (i = 0; i < 3; i++) {
        check(b->servers[i].inflight == 0 && b->servers[i].backlog == 0);
    }
}


const test_case_t  test_server_cases[] = {
    test_case(server_starts_as_its_peers),
    test_case(reserve_evicts_keys),
    test_case(reserve_columns),
    test_case(server_place_is_reused),
    test_case(server_place_keeps_an_order),
    test_case(server_is_returned),
    test_case(server_place_loses_its_keys),
    test_case(worker_reap),
    { NULL, NULL }
};
