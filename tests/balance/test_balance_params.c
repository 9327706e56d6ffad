
/* Parameters that correct costs, samples, and approximations. */

#include "test_balance.h"

#include <math.h>


static void
params_correct_costs(void)
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
        end(&req, NGX_WEBTORCH_BALANCE_CLIENT_CLOSED);
    }
}


static void
params_not_finite_are_refused(void)
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

    /* the oldest are lost for a reader that is late */

    for (i = 0; i < 50; i++) {
        warm_up(2, 0.02f);
    }

    next = 1;
    check(ngx_webtorch_balance_samples(b, &next, samples,
                                       NGX_WEBTORCH_BALANCE_SAMPLES)
          == NGX_WEBTORCH_BALANCE_SAMPLES);
    check(next == b->nsamples);

    /* a reader that has read more than there is */

    next = 1000000;
    check(ngx_webtorch_balance_samples(b, &next, samples, 10) == 0);
    check(next == b->nsamples);
}


static void
approximations(void)
{
    float  x;

    for (x = 1e-6f; x < 1e6f; x *= 1.01f) {
        check(fabsf(ngx_webtorch_balance_log2(x) - log2f(x)) < 0.0003f);
    }

    for (x = -20; x < 20; x += 0.01f) {
        check(fabsf(ngx_webtorch_balance_exp2(x) / exp2f(x) - 1) < 0.0003f);
    }
}


const test_case_t  test_params_cases[] = {
    test_case(params_correct_costs),
    test_case(params_not_finite_are_refused),
    test_case(samples_are_read_once),
    test_case(approximations),
    { NULL, NULL }
};
