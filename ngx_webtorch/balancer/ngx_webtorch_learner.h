
/*
 * The worker that learns for the others: workers elect one for each balancer,
 * a thread of it runs the rounds of the policy.
 */


#ifndef _NGX_WEBTORCH_LEARNER_H_INCLUDED_
#define _NGX_WEBTORCH_LEARNER_H_INCLUDED_


#include "ngx_webtorch.h"


/* in a worker that has its places */
void ngx_webtorch_learner_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* after its places were released; NGX_BUSY: a policy is still running */
ngx_int_t ngx_webtorch_learner_exit_process(ngx_cycle_t *cycle);


#endif /* _NGX_WEBTORCH_LEARNER_H_INCLUDED_ */
