
/* Answers that are no successes: a server that differs from its peers. */

#include "test_balance.h"


/* server i refuses a share of the requests, at once */

static void
refuse(uint32_t n, uint32_t requests, const float *share, uint64_t key,
    uint32_t *served)
{
    uint32_t                        i;
    ngx_webtorch_balance_request_t  req;

    memset(served, 0, n * sizeof(uint32_t));

    while (requests--) {
        i = begin(n, key, &req);
        req.refused = (float) (rand() % 1000) < 1000 * share[i];
        now += req.refused ? 1000 : 20000;
        end(&req, NGX_WEBTORCH_BALANCE_OK);
        served[i]++;
    }
}


static void
refusal_by_one_server_attracts_nobody(void)
{
    uint32_t  served[3];
    float     share[3] = { 0, 0, 1.0f };

    srand(1);
    setup(3);
    warm_up(3, 0.02f);

    refuse(3, 1000, share, 0, served);
    check(served[2] < 40);
    check(b->servers[2].probe == 0);

    /* it is used again when it serves */

    share[2] = 0;
    refuse(3, 1500, share, 0, served);
    refuse(3, 600, share, 0, served);
    check(served[2] > 60);
}


static void
refusal_by_all_servers_changes_nothing(void)
{
    uint32_t  i, n, served[3];
    float     share[3] = { 0.3f, 0.3f, 0.3f };

    srand(1);
    setup(3);
    warm_up(3, 0.02f);

    for (n = 0; n < 20; n++) {
        refuse(3, 300, share, 0, served);
    }

    for (i = 0; i < 3; i++) {
        check(served[i] > 30);
        check(b->servers[i].suspicion < 0.2f);
    }
}


/* a key that is refused everywhere leaves its server in use for others */

static void
refusal_of_a_key_is_not_the_servers(void)
{
    uint32_t  i, n, served[3];
    float     none[3] = { 0, 0, 0 };
    float     all[3] = { 1.0f, 1.0f, 1.0f };

    srand(1);
    setup(3);
    warm_up(3, 0.02f);

    for (n = 0; n < 100; n++) {
        refuse(3, 3, all, 7, served);
        refuse(3, 3, none, 1 + n % 5, served);
    }

    for (i = 0; i < 3; i++) {
        check(b->servers[i].suspicion == 0);
    }
}


const test_case_t  test_refusal_cases[] = {
    test_case(refusal_by_one_server_attracts_nobody),
    test_case(refusal_by_all_servers_changes_nothing),
    test_case(refusal_of_a_key_is_not_the_servers),
    { NULL, NULL }
};
