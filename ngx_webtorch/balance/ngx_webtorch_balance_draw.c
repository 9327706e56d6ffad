
#include "ngx_webtorch_balance_draw.h"
#include "ngx_webtorch_balance_math.h"

#include <math.h>


static double ngx_webtorch_balance_draw_gamma(
    ngx_webtorch_balance_draw_t *state, double shape);
static double ngx_webtorch_balance_draw_normal(
    ngx_webtorch_balance_draw_t *state);


/* Weyl's sequence, mixed; the 53 bits of a double, and a half of the last one */

double
ngx_webtorch_balance_draw(ngx_webtorch_balance_draw_t *state)
{
    *state += 0x9e3779b97f4a7c15ULL;

    return ((double) (ngx_webtorch_balance_mix(*state) >> 11) + 0.5)
           * 0x1p-53;
}


double
ngx_webtorch_balance_draw_share(ngx_webtorch_balance_draw_t *state,
    double good, double bad)
{
    double                       x, y;
    ngx_webtorch_balance_draw_t  second;

    /* the first one may take any number of steps */

    second = ngx_webtorch_balance_mix(*state + 1);

    x = ngx_webtorch_balance_draw_gamma(state, good + 1);
    y = ngx_webtorch_balance_draw_gamma(&second, bad + 1);

    return x / (x + y);
}


/*
 * shape: at least 1.
 *
 * G. Marsaglia, W. W. Tsang: A simple method for generating gamma variables.
 * ACM Transactions on Mathematical Software 26, 2000.
 */

static double
ngx_webtorch_balance_draw_gamma(ngx_webtorch_balance_draw_t *state,
    double shape)
{
    double  c, d, u, v, x;

    d = shape - 1.0 / 3.0;
    c = 1.0 / sqrt(9.0 * d);

    for ( ;; ) {
        x = ngx_webtorch_balance_draw_normal(state);
        u = ngx_webtorch_balance_draw(state);
        v = 1.0 + c * x;

        if (v <= 0.0) {
            continue;
        }

        v = v * v * v;

        if (log(u) < 0.5 * x * x + d - d * v + d * log(v)) {
            return d * v;
        }
    }
}


/* Box and Muller's method, of which one number is used */

static double
ngx_webtorch_balance_draw_normal(ngx_webtorch_balance_draw_t *state)
{
    double  r;

    r = sqrt(-2.0 * log(ngx_webtorch_balance_draw(state)));

    return r * cos(2.0 * M_PI * ngx_webtorch_balance_draw(state));
}
