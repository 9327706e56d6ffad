
/*
 * Draws of a share that is not known exactly, for Thompson sampling: what has
 * the largest draw is chosen, so that each is chosen as often as it is likely
 * to be the best.
 *
 * W. R. Thompson: On the likelihood that one unknown probability exceeds
 * another in view of the evidence of two samples.  Biometrika 25, 1933.
 */


#ifndef _NGX_WEBTORCH_BALANCE_DRAW_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCE_DRAW_H_INCLUDED_


#include <stdint.h>


/* the state of a generator of random numbers; any value */
typedef uint64_t  ngx_webtorch_balance_draw_t;


/* uniform, above 0 and below 1 */
double ngx_webtorch_balance_draw(ngx_webtorch_balance_draw_t *state);

/*
 * A share after good and bad cases, which are sums of numbers from 0 to 1 and
 * at least 0: the beta distribution with a uniform prior.  The result is from
 * 0 to 1.  Draws of the same state change little if the numbers do.
 */
double ngx_webtorch_balance_draw_share(ngx_webtorch_balance_draw_t *state,
    double good, double bad);


#endif /* _NGX_WEBTORCH_BALANCE_DRAW_H_INCLUDED_ */
