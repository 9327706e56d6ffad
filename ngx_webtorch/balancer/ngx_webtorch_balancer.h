
/*
 * balancer: ngx_webtorch_balance.h's decision in nginx's processes.  Here are
 * the shared memory of a balancer, the places of the processes that use it, the
 * one worker that learns, and the load balancing method of http.  The files
 * include api/, balance/, core/ and nginx's core; ngx_http_webtorch_upstream*.c
 * include nginx's http, too.
 */


#ifndef _NGX_WEBTORCH_BALANCER_H_INCLUDED_
#define _NGX_WEBTORCH_BALANCER_H_INCLUDED_


#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_balance_cost.h"
#include "ngx_webtorch_balance_flight.h"
#include "ngx_webtorch_balance_outcome.h"
#include "ngx_webtorch_balance_pick.h"
#include "ngx_webtorch_balance_policy.h"

#include <pthread.h>


/* places that belong to one process; others share the last one */
#define NGX_WEBTORCH_BALANCER_PLACES  NGX_WEBTORCH_BALANCE_ALL_OTHERS


/* bytes of a server's address that are kept, and a zero byte */
#define NGX_WEBTORCH_BALANCER_SERVER_NAME  64


/*
 * In shared memory, under its mutex.  nginx keeps the memory over reloads, so
 * that workers of several configurations use it at once; a new binary starts
 * with new memory, while workers of the old one use theirs until they exit.
 */

typedef struct {
    uint64_t                         magic;    /* of this layout */
    ngx_webtorch_balance_t           balance;

    /* each is held by the process whose place it is, for its life */
    pthread_mutex_t                  alive[NGX_WEBTORCH_BALANCER_PLACES];

    /* addresses of servers, with a zero byte, for metrics */
    u_char                           names[NGX_WEBTORCH_BALANCE_SERVERS]
                                          [NGX_WEBTORCH_BALANCER_SERVER_NAME];

    uint32_t                         learner;      /* its place */
    ngx_pid_t                        learner_pid;  /* 0: no process learns */
    uint64_t                         learned;  /* end of its last round, us */
} ngx_webtorch_balancer_memory_t;


typedef struct ngx_webtorch_balancer_s  ngx_webtorch_balancer_t;


struct ngx_webtorch_balancer_s {
    ngx_str_t                        name;     /* of the upstream */
    ngx_webtorch_handler_t          *policy;
    ngx_uint_t                       index;    /* in conf->balancers */

    ngx_shm_zone_t                  *zone;
    ngx_shmtx_t                     *mutex;    /* of the memory */
    ngx_webtorch_balancer_memory_t  *memory;

    uint32_t                         place;    /* of this process */

    /* this process's requests in flight, and the handler that updates them */
    ngx_queue_t                      requests;
    ngx_uint_t                       watches;  /* calls of the handler */
    void                           (*watch)(ngx_webtorch_balancer_t *balancer);
    void                            *data;     /* of the watch */

    /* of each server, under the mutex of the memory: the groups that have it,
       see ngx_webtorch_balancer_order.c */
    u_char                           groups[NGX_WEBTORCH_BALANCE_SERVERS];

    /* under the mutex of the learner's thread */
    ngx_uint_t                       elected;  /* this process learns */
    uint64_t                         due;      /* next round, us */
};


/* while the configuration is read; NULL: an error, which is logged */
ngx_webtorch_balancer_t *ngx_webtorch_balancer_add(ngx_conf_t *cf,
    ngx_str_t *name);

/* in a worker: takes its places, and gives them up */
void ngx_webtorch_balancers_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);
void ngx_webtorch_balancers_exit_process(ngx_webtorch_conf_t *conf);

/* by its index in conf->balancers, in a worker */
ngx_webtorch_balancer_t *ngx_webtorch_balancer_get(uint32_t index);


#endif /* _NGX_WEBTORCH_BALANCER_H_INCLUDED_ */
