
/* Requests that last for long: tunnels, streams, and long polls. */

#include "test_balance.h"

#include <math.h>


static void
watch(ngx_webtorch_balance_request_t *req, ngx_webtorch_balance_flight_e state)
{
    ngx_webtorch_balance_watch(b, 0, req, state, now);
}


static void
flight_idle_is_not_load(void)
{
    ngx_webtorch_balance_server_t  *s;
    ngx_webtorch_balance_request_t  req;

    setup(2);
    warm_up(2, 0.01f);

    (void) begin(2, 0, &req);
    s = &b->servers[req.server];
    check(s->inflight == 1 && s->backlog > 0);

    now += SECOND;
    watch(&req, NGX_WEBTORCH_BALANCE_IDLE);
    watch(&req, NGX_WEBTORCH_BALANCE_IDLE);
    check(s->inflight == 0 && s->backlog == 0);
    check(b->workers[0].inflight[req.server] == 0);

    watch(&req, NGX_WEBTORCH_BALANCE_RECEIVING);
    check(s->inflight == 1 && s->backlog > 0 && s->progress == now);
    check(b->workers[0].inflight[req.server] == 1);

    watch(&req, NGX_WEBTORCH_BALANCE_IDLE);
    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(s->inflight == 0);
    check(b->workers[0].inflight[req.server] == 0);
}


static void
flight_paused_while_place_is_reused(void)
{
    uint32_t                        i, place;
    ngx_webtorch_balance_request_t  req;

    setup(1);
    (void) begin(1, 0, &req);
    place = req.server;
    watch(&req, NGX_WEBTORCH_BALANCE_IDLE);

    for (i = 0; i < NGX_WEBTORCH_BALANCE_SERVERS; i++) {
        now += 1000;
        (void) ngx_webtorch_balance_find(b, 1000 + i, now);
    }

    check(b->records[place].id != req.id);
    watch(&req, NGX_WEBTORCH_BALANCE_RECEIVING);
    check(b->servers[place].inflight == 0);
    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(b->servers[place].inflight == 0);
}


/* the time until the answer counts, and the outcome counts once */

static void
flight_answer_counts_once(void)
{
    float                           count;
    ngx_webtorch_balance_record_t  *r;
    ngx_webtorch_balance_request_t  req;

    setup(1);
    warm_up(1, 0.01f);

    (void) begin(1, 0, &req);
    r = &b->records[req.server];
    count = r->count;

    now += 60 * SECOND;
    req.answered = req.start + 10000;
    ngx_webtorch_balance_answer(b, &req, NGX_WEBTORCH_BALANCE_OK, now);
    check(r->count == count + 1);
    check(fabsf(r->fast - 0.01f) < 0.001f && r->peak < 0.02f);

    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(r->count == count + 1);
    check(b->servers[req.server].inflight == 0);

    /* an answer that is cut short is a failure nevertheless */

    (void) begin(1, 0, &req);
    ngx_webtorch_balance_answer(b, &req, NGX_WEBTORCH_BALANCE_OK, now);
    check(b->servers[req.server].error < 0.05f);
    end(&req, NGX_WEBTORCH_BALANCE_FAILED);
    check(b->servers[req.server].error > 0.05f);
}


/* one server has a request that waits for an event, and is not left out */

static void
flight_long_poll_leaves_server_in_use(void)
{
    uint32_t                        i, j, polled, served[3];
    ngx_webtorch_balance_request_t  poll, req;

    setup(3);
    warm_up(3, 0.02f);

    polled = begin(3, 0, &poll);
    memset(served, 0, sizeof(served));

    for (j = 0; j < 1000; j++) {
        i = begin(3, 0, &req);
        now += 20000;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
        watch(&poll, NGX_WEBTORCH_BALANCE_WAITING);
        served[i]++;
    }

    check(served[polled] > 200);
    check(poll.paused);

    /* a client that leaves then says nothing */

    end(&poll, NGX_WEBTORCH_BALANCE_CLIENT_CLOSED);
    check(b->servers[polled].error < 0.01f);
    check(b->servers[polled].probe == 0);
}


/* a server that hangs gets few requests until their timeout */

static void
flight_hanging_server_is_tried_rarely(void)
{
    uint32_t                        j, hung;
    ngx_webtorch_balance_request_t  req, lost[100];

    setup(3);
    warm_up(3, 0.02f);

    for (hung = 0, j = 0; j < 3000; j++) {

        if (begin(3, 0, &req) == 1) {
            check(hung < 100);
            lost[hung++] = req;
            now += 20000;

        } else {
            now += 20000;
            end(&req, NGX_WEBTORCH_BALANCE_OK);
        }

        if (hung) {
            watch(&lost[j % hung], NGX_WEBTORCH_BALANCE_WAITING);
        }
    }

    check(hung <= 8);
}


const test_case_t  test_flight_cases[] = {
    test_case(flight_idle_is_not_load),
    test_case(flight_paused_while_place_is_reused),
    test_case(flight_answer_counts_once),
    test_case(flight_long_poll_leaves_server_in_use),
    test_case(flight_hanging_server_is_tried_rarely),
    { NULL, NULL }
};
