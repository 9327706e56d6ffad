
/*
 * What a balancer decides, without nginx: each case is a function, and the
 * program runs the one that it is told.
 */

#include "ngx_webtorch_balance_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>


#define SECOND   1000000ull

#define check(condition)                                                      \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
        exit(1);                                                              \
    }


static ngx_webtorch_balance_t            *b;
static ngx_webtorch_balance_candidate_t   servers[300];
static uint64_t                           now = 1000 * SECOND;


/* a balancer of n servers, with parameters that correct nothing */

static void
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


static uint32_t
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


static void
end(ngx_webtorch_balance_request_t *req, ngx_webtorch_balance_outcome_e how)
{
    ngx_webtorch_balance_end(b, 0, req, how, now);
}


/* requests one after the other, where each takes what its server does */

static void
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


static void
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


/* fails what is sent to one server, until that is left alone */

static uint32_t
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


static void
alike_servers_share(void)
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
slow_servers_get_less(void)
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
new_servers_start_from_their_peers(void)
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
failing_servers_are_ejected(void)
{
    setup(4);
    warm_up(4, 0.01f);

    check(fail(4, 2, NGX_WEBTORCH_BALANCE_ERROR) <= 5);
    check(b->servers[2].probe > 0);
}


static void
one_failure_is_none(void)
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
max_fails_is_how_many(void)
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
max_fails_0_is_never_ejected(void)
{
    setup(4);
    warm_up(4, 0.01f);
    servers[2].max_fails = 0;

    check(fail(4, 2, NGX_WEBTORCH_BALANCE_FAILED) > 2);
    check(b->servers[2].probe == 0);
}


static void
probes_are_few_and_bring_it_back(void)
{
    uint32_t                        i, probes;
    uint64_t                        stop;
    ngx_webtorch_balance_request_t  req, probe;

    setup(4);
    warm_up(4, 0.01f);
    fail(4, 1, NGX_WEBTORCH_BALANCE_ERROR);

    /* for a minute */

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
what_all_have_is_not_ones_fault(void)
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
all_bad_are_used_still(void)
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

    /* what serves in spite of that is back */

    warm_up(3, 0.01f);
    now += 20 * SECOND;
    warm_up(3, 0.01f);

    for (j = 0; j < 3; j++) {
        check(b->servers[j].probe == 0);
    }
}


static void
a_pair_with_a_bad_one_uses_the_good_one(void)
{
    uint32_t                        i, j, failures;
    ngx_webtorch_balance_request_t  req;

    setup(2);
    warm_up(2, 0.05f);

    /* it fails fast, and would be cheap */

    for (failures = 0, j = 0; j < 2000; j++) {
        i = begin(2, 0, &req);
        now += i ? 1000 : 50000;
        end(&req, i ? NGX_WEBTORCH_BALANCE_ERROR : NGX_WEBTORCH_BALANCE_OK);
        failures += i;
    }

    /* in 100 seconds, of which 10 are between probes */

    check(failures >= 5 && failures <= 20);
}


static void
silent_servers_are_left(void)
{
    uint32_t                        i, j, hung;
    ngx_webtorch_balance_request_t  req;

    setup(4);
    warm_up(4, 0.01f);

    /* server 3 answers no more */

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
clients_that_give_up_are_timeouts(void)
{
    uint32_t                        j;
    ngx_webtorch_balance_request_t  req;

    setup(1);
    warm_up(1, 0.01f);

    for (j = 0; j < 3; j++) {
        (void) begin(1, 0, &req);
        now += 2 * SECOND;
        end(&req, NGX_WEBTORCH_BALANCE_ABANDONED);
    }

    check(b->servers[0].probe > 0);

    setup(1);
    warm_up(1, 0.01f);

    for (j = 0; j < 10; j++) {
        (void) begin(1, 0, &req);
        now += 5000;
        end(&req, NGX_WEBTORCH_BALANCE_ABANDONED);
    }

    check(b->servers[0].probe == 0);
    check(b->servers[0].error < 0.01f);
}


static void
weights_are_heeded(void)
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
keys_stay_where_they_are_warm(void)
{
    uint64_t                        key;
    uint32_t                        i, home[20];
    ngx_webtorch_balance_request_t  req;

    setup(4);

    for (key = 1; key <= 20; key++) {
        home[key - 1] = begin(4, key, &req);
        check(req.reason == NGX_WEBTORCH_BALANCE_COPY);
        now += 100000;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
    }

    for (i = 0; i < 100; i++) {
        for (key = 1; key <= 20; key++) {
            check(begin(4, key, &req) == home[key - 1]);
            check(req.reason == NGX_WEBTORCH_BALANCE_WARM);
            now += 10000;
            end(&req, NGX_WEBTORCH_BALANCE_OK);
        }
    }
}


static void
hot_keys_are_copied(void)
{
    uint32_t                        i, j, used[4] = { 0, 0, 0, 0 };
    ngx_webtorch_balance_request_t  req[256];

    setup(4);

    for (j = 0; j < 256; j++) {
        i = begin(4, 7, &req[j]);
        used[i]++;
    }

    check(used[0] && used[1] && used[2] && used[3]);
}


static void
kinds_go_where_they_are_cheap(void)
{
    uint64_t                        kind;
    uint32_t                        i, j, wrong;
    ngx_webtorch_balance_request_t  req;

    setup(4);

    for (wrong = 0, j = 0; j < 4000; j++) {
        kind = 1 + j % 2;
        i = begin(4, kind, &req);
        now += kind == 2 && i >= 2 ? 100000 : 10000;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
        wrong += j > 1000 && kind == 2 && i >= 2;
    }

    /* of 1500, some to see whether it is so still */

    check(wrong < 150);
}


static void
a_server_that_has_gone_has_lost_its_keys(void)
{
    uint32_t                        home;
    ngx_webtorch_balance_request_t  req;

    setup(2);

    home = begin(2, 5, &req);
    now += 10000;
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    fail(2, home, NGX_WEBTORCH_BALANCE_FAILED);

    check(b->records[home].cold == now);

    /* it is as good as any other now, if it is back */

    b->servers[home].probe = 0;
    now += 100 * SECOND;

    servers[0].server = home;
    (void) begin(1, 5, &req);
    check(req.gap == NGX_WEBTORCH_BALANCE_NEVER);
}


/* the contact is over, but what it costs is not known */

static void
scores_that_are_old_are_not_used(void)
{
    uint32_t                        first;
    ngx_webtorch_balance_request_t  req;

    setup(2);
    first = begin(2, 0, &req);
    end(&req, NGX_WEBTORCH_BALANCE_ABANDONED);

    b->servers[1 - first].scale = 1e-3f;
    check(begin(2, 3, &req) == 1 - first);
    end(&req, NGX_WEBTORCH_BALANCE_ABANDONED);

    b->servers[1 - first].scale = 1e3f;

    req.retry = 0;
    now += 6 * SECOND;
    (void) ngx_webtorch_balance_pick(b, servers + 1 - first, 1, &req, now);
    check(req.cost < 1.0f);
}


static void
contacts_that_are_given_up_do_not_keep_from_learning(void)
{
    uint32_t                        i;
    ngx_webtorch_balance_request_t  req;

    setup(1);

    (void) begin(1, 5, &req);
    now += 10000;
    end(&req, NGX_WEBTORCH_BALANCE_ABANDONED);

    for (i = 0; i < 10; i++) {
        (void) begin(1, 5, &req);
        now += 10000;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
    }

    check(ngx_webtorch_balance_key_pair(b, req.row, req.server)->count >= 8);

    /* it has died with its worker, and traffic goes on */

    setup(1);

    (void) begin(1, 5, &req);

    for (i = 0; i < 100; i++) {
        (void) begin(1, 5, &req);
        now += SECOND;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
    }

    check(ngx_webtorch_balance_key_pair(b, req.row, req.server)->count >= 8);
}


static void
keys_make_room(void)
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
more_servers_make_room(void)
{
    ngx_webtorch_balance_request_t  req;

    setup(4);
    check(b->columns == 8);

    (void) begin(4, 9, &req);
    ngx_webtorch_balance_reserve(b, 40);
    check(b->columns == 64);

    /* what was in flight then ends without harm */

    now += 10000;
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    ngx_webtorch_balance_reserve(b, 1000);
    check(b->columns == NGX_WEBTORCH_BALANCE_SERVERS);
}


static void
places_of_servers_are_given_away(void)
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

    /* but not while they have something in flight */

    check(b->records[place].id == req.id);
    end(&req, NGX_WEBTORCH_BALANCE_OK);

    for (i = 0; i < NGX_WEBTORCH_BALANCE_SERVERS; i++) {
        b->servers[i].inflight = 1;
    }

    check(ngx_webtorch_balance_find(b, 12345, now)
          == NGX_WEBTORCH_BALANCE_NONE);

    /* the end of a request whose place is another's */

    b->records[place].id = 4711;
    b->servers[place].inflight = 0;
    end(&req, NGX_WEBTORCH_BALANCE_OK);
    check(b->servers[place].inflight == 0);
}


static void
a_place_is_given_without_its_keys(void)
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
servers_that_are_gone_are_no_measure(void)
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


static void
workers_are_forgotten(void)
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

    /* it dies within the beginning of a request, which is a probe */

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


static void
parameters_correct_costs(void)
{
    uint32_t                        j, served[2] = { 0, 0 };
    float                           seconds[2] = { 0.010f, 0.015f };
    webtorch_params_t               params;
    ngx_webtorch_balance_request_t  req;

    setup(2);
    serve(2, 500, seconds, 0, served);
    check(served[0] > served[1]);

    /* the longer the service, the cheaper */

    memset(&params, 0, sizeof(params));
    params.used = 1;
    params.hidden = 1;
    params.weights[0][0] = 4.0f;
    params.biases[0] = 10.0f;
    params.output[0] = -1.0f;
    params.bias = 10.0f;

    check(ngx_webtorch_balance_publish(b, &params, now) == 0);

    for (j = 0; j < 20; j++) {
        check(begin(2, 0, &req) == 1);
        end(&req, NGX_WEBTORCH_BALANCE_ABANDONED);
    }
}


static void
broken_parameters_are_refused(void)
{
    uint64_t           version;
    webtorch_params_t  params;

    setup(2);
    version = b->version;
    memset(&params, 0, sizeof(params));

    params.linear[3] = NAN;
    check(ngx_webtorch_balance_publish(b, &params, now) == -1);

    params.linear[3] = 0;
    params.hidden = WEBTORCH_HIDDEN + 1;
    check(ngx_webtorch_balance_publish(b, &params, now) == -1);

    params.hidden = WEBTORCH_HIDDEN;
    params.weights[WEBTORCH_HIDDEN - 1][0] = INFINITY;
    check(ngx_webtorch_balance_publish(b, &params, now) == -1);

    check(b->version == version);
}


static void
without_news_the_peak_decides(void)
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
samples_are_read_once(void)
{
    uint64_t                        next;
    uint32_t                        i;
    static webtorch_sample_t        samples[NGX_WEBTORCH_BALANCE_SAMPLES];

    setup(2);
    next = 0;

    check(ngx_webtorch_balance_samples(b, &next, samples, 10) == 0);

    warm_up(2, 0.02f);

    check(ngx_webtorch_balance_samples(b, &next, samples, 60) == 60);
    check(ngx_webtorch_balance_samples(b, &next, samples, 60) == 40);
    check(ngx_webtorch_balance_samples(b, &next, samples, 60) == 0);
    check(fabsf(samples[0].latency - 0.02f) < 0.001f);

    /* the oldest are lost to who comes late */

    for (i = 0; i < 50; i++) {
        warm_up(2, 0.02f);
    }

    next = 1;
    check(ngx_webtorch_balance_samples(b, &next, samples,
                                       NGX_WEBTORCH_BALANCE_SAMPLES)
          == NGX_WEBTORCH_BALANCE_SAMPLES);
    check(next == b->nsamples);

    /* who knows more than there is */

    next = 1000000;
    check(ngx_webtorch_balance_samples(b, &next, samples, 10) == 0);
    check(next == b->nsamples);
}


static void
approximations_are_close(void)
{
    float  x;

    for (x = 1e-6f; x < 1e6f; x *= 1.01f) {
        check(fabsf(ngx_webtorch_balance_log2(x) - log2f(x)) < 0.0003f);
    }

    for (x = -20; x < 20; x += 0.01f) {
        check(fabsf(ngx_webtorch_balance_exp2(x) / exp2f(x) - 1) < 0.0003f);
    }
}


static void
all_is_finite(uint32_t n)
{
    uint32_t                        i, j;
    ngx_webtorch_balance_server_t  *s;

    check(isfinite(b->fleet) && b->fleet >= 0);
    check(isfinite(b->error) && b->error >= 0 && b->error <= 1);
    check(isfinite(b->budget) && isfinite(b->scatter) && b->scatter > 0);

    for (i = 0; i < NGX_WEBTORCH_BALANCE_GAPS; i++) {
        check(isfinite(b->prices[i]) && b->prices[i] >= 1 - 1e-3f);
    }

    for (i = 0; i < n; i++) {
        s = &b->servers[i];
        check(isfinite(s->base) && s->base > 0);
        check(isfinite(s->backlog) && s->backlog >= 0);
        check(s->error >= 0 && s->error <= 1);
        check(s->concurrency >= 1);

        for (j = 0; j < NGX_WEBTORCH_BALANCE_LEVELS; j++) {
            check(isfinite(b->records[i].levels[j].variance));
        }
    }
}


/* anything may happen: what holds always is checked */

static void
any_course_of_things(void)
{
    uint32_t                         i, j, n, how, live;
    static ngx_webtorch_balance_request_t  req[500];
    static uint8_t                         used[500];

    srand(1);
    setup(20);
    live = 0;

    for (j = 0; j < 300000; j++) {
        now += (uint64_t) (rand() % 1000)
               * (rand() % 1000 ? 1 : 1 + (uint64_t) rand() % 3600000);

        i = (uint32_t) rand() % 500;

        if (used[i]) {
            how = (uint32_t) rand() % 20;
            end(&req[i], how < 6 ? (ngx_webtorch_balance_outcome_e) how
                                 : NGX_WEBTORCH_BALANCE_OK);
            used[i] = 0;
            live--;
            continue;
        }

        n = 1 + (uint32_t) rand() % 20;
        (void) begin(n, (uint64_t) rand() % 100, &req[i]);
        check(isfinite(req[i].cost) && req[i].expected > 0);

        for (how = 0; how < WEBTORCH_FEATURES; how++) {
            check(isfinite(req[i].features[how]));
        }

        used[i] = 1;
        live++;

        if (j % 1000 == 0) {
            all_is_finite(20);
        }
    }

    for (i = 0, n = 0; i < 20; i++) {
        n += b->servers[i].inflight;
    }

    check(n == live);
}


#define named(name)  { #name, name }

static const struct {
    const char  *name;
    void       (*run)(void);
} cases[] = {
    named(alike_servers_share),
    named(slow_servers_get_less),
    named(new_servers_start_from_their_peers),
    named(failing_servers_are_ejected),
    named(one_failure_is_none),
    named(max_fails_is_how_many),
    named(max_fails_0_is_never_ejected),
    named(probes_are_few_and_bring_it_back),
    named(what_all_have_is_not_ones_fault),
    named(all_bad_are_used_still),
    named(a_pair_with_a_bad_one_uses_the_good_one),
    named(silent_servers_are_left),
    named(clients_that_give_up_are_timeouts),
    named(weights_are_heeded),
    named(keys_stay_where_they_are_warm),
    named(hot_keys_are_copied),
    named(kinds_go_where_they_are_cheap),
    named(a_server_that_has_gone_has_lost_its_keys),
    named(scores_that_are_old_are_not_used),
    named(contacts_that_are_given_up_do_not_keep_from_learning),
    named(keys_make_room),
    named(more_servers_make_room),
    named(places_of_servers_are_given_away),
    named(a_place_is_given_without_its_keys),
    named(servers_that_are_gone_are_no_measure),
    named(workers_are_forgotten),
    named(parameters_correct_costs),
    named(broken_parameters_are_refused),
    named(without_news_the_peak_decides),
    named(samples_are_read_once),
    named(approximations_are_close),
    named(any_course_of_things),
};


int
main(int argc, char **argv)
{
    size_t  i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {

        if (argc < 2) {
            puts(cases[i].name);

        } else if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            free(b);
            return 0;
        }
    }

    return argc < 2 ? 0 : 2;
}
