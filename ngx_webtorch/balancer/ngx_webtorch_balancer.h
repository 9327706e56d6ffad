
/*
 * A balancer in nginx's processes: where its memory is, which of the workers
 * learns for it, and what becomes of workers that die.  Nothing here knows
 * HTTP.
 */


#ifndef _NGX_WEBTORCH_BALANCER_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCER_H_INCLUDED_


#include "ngx_webtorch.h"
#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_balance_cost.h"
#include "ngx_webtorch_balance_outcome.h"
#include "ngx_webtorch_balance_pick.h"
#include "ngx_webtorch_balance_policy.h"


/* in shared memory; it is kept over reloads */

typedef struct {
    ngx_webtorch_balance_t      balance;
    ngx_pid_t                   learner;  /* 0: none */
    uint64_t                    learned;  /* its last round, microseconds */
} ngx_webtorch_balancer_memory_t;


struct ngx_webtorch_balancer_s {
    ngx_str_t                        name;      /* of the upstream */
    ngx_webtorch_handler_t          *policy;
    ngx_uint_t                       index;     /* among the balancers */

    ngx_shm_zone_t                  *zone;
    ngx_shmtx_t                     *mutex;     /* of the memory */
    ngx_webtorch_balancer_memory_t  *memory;

    uint32_t                         worker;    /* this process's place */

    ngx_uint_t                       elected;   /* this process learns */
    uint64_t                         due;       /* the next round */
};


/* while the configuration is read; NULL: an error, which is logged */
ngx_webtorch_balancer_t *ngx_webtorch_balancer_add(ngx_conf_t *cf,
    ngx_webtorch_conf_t *conf, ngx_str_t *name);

ngx_int_t ngx_webtorch_balancers_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* NGX_BUSY: a policy runs still */
ngx_int_t ngx_webtorch_balancers_exit_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* of a clock that goes on, and is the same in all processes */
uint64_t ngx_webtorch_balancer_now(void);


#endif /* _NGX_WEBTORCH_BALANCER_H_INCLUDED_ */
