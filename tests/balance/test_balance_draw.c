
/* Draws of shares: their moments, and how little they change. */

#include "test_balance.h"

#include <math.h>


#define DRAWS  200000


static void
draw_moments(uint32_t seed, double good, double bad)
{
    double                       x, n, mean, variance, a, c;
    uint32_t                     i;
    ngx_webtorch_balance_draw_t  state;

    for (i = 0, mean = 0, variance = 0; i < DRAWS; i++) {
        state = ngx_webtorch_balance_mix(seed + i);
        x = ngx_webtorch_balance_draw_share(&state, good, bad);
        check(x >= 0 && x <= 1);
        mean += x;
        variance += x * x;
    }

    mean /= DRAWS;
    variance = variance / DRAWS - mean * mean;

    /* those of the beta distribution */

    a = good + 1;
    c = bad + 1;
    n = a + c;

    check(fabs(mean - a / n) < 5 * sqrt(a * c / (n * n * (n + 1)) / DRAWS));
    check(fabs(variance / (a * c / (n * n * (n + 1))) - 1) < 0.05);
}


static void
draw_is_of_the_beta_distribution(void)
{
    setup(1);

    draw_moments(1, 0, 0);
    draw_moments(2, 0, 20);
    draw_moments(3, 2.5, 0.25);
    draw_moments(4, 1000, 10);
    draw_moments(5, 1e9, 1e9);
}


static void
draw_changes_little(void)
{
    double                       x, y;
    uint32_t                     i, far;
    ngx_webtorch_balance_draw_t  state, other;

    setup(1);

    for (i = 0, far = 0; i < DRAWS; i++) {
        state = other = ngx_webtorch_balance_mix(i);
        x = ngx_webtorch_balance_draw_share(&state, 100, 50);
        y = ngx_webtorch_balance_draw_share(&other, 101, 50);
        far += fabs(x - y) > 0.01;
    }

    /* some take another number of steps */

    check(far < DRAWS / 100);
}


static void
draw_picks_the_best(void)
{
    uint32_t                     i, n;
    ngx_webtorch_balance_draw_t  state, other;

    setup(1);

    for (i = 0, n = 0; i < DRAWS; i++) {
        state = ngx_webtorch_balance_mix(i);
        other = state ^ 12345;
        n += ngx_webtorch_balance_draw_share(&state, 30, 10)
             > ngx_webtorch_balance_draw_share(&other, 10, 30);
    }

    check(n > DRAWS * 0.999);
}


const test_case_t  test_draw_cases[] = {
    test_case(draw_is_of_the_beta_distribution),
    test_case(draw_changes_little),
    test_case(draw_picks_the_best),
    { NULL, NULL }
};
