
/*
 * The choices of webtorch_split: what each of them has earned, in memory of
 * nginx's own that all workers share, and the pick.  Reloads keep it, and what
 * is known of choices that the configuration still has.
 */


#ifndef _NGX_WEBTORCH_SPLIT_H_INCLUDED_
#define _NGX_WEBTORCH_SPLIT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch.h"


/* choices of a split */
#define NGX_WEBTORCH_SPLIT_CHOICES  16

/* bytes of a choice */
#define NGX_WEBTORCH_SPLIT_NAME     64


typedef struct ngx_webtorch_split_shared_s  ngx_webtorch_split_shared_t;


typedef struct {
    ngx_str_t                     name;
    ngx_uint_t                    place;     /* in shared memory */
    uint32_t                      number;    /* the place's, while it has it */

    /* counters of this worker, NULL: not counted */
    uint64_t                     *requests;
    uint64_t                     *rewards;
} ngx_webtorch_split_choice_t;


typedef struct {
    ngx_str_t                     name;      /* of the variable */
    ngx_webtorch_split_choice_t   choices[NGX_WEBTORCH_SPLIT_CHOICES];
    ngx_uint_t                    nchoices;
    double                        minimum;   /* share of each choice, 0 to 1 */
    ngx_msec_t                    half_life; /* 0: rewards are kept for ever */

    ngx_webtorch_split_shared_t  *shared;
    ngx_slab_pool_t              *shpool;
} ngx_webtorch_split_t;


/* init of the shared memory, whose data is a split */
ngx_int_t ngx_webtorch_split_init_zone(ngx_shm_zone_t *zone, void *data);

/* in a worker, which has a slot of metrics then */
void ngx_webtorch_splits_init_process(ngx_webtorch_conf_t *conf);

/* equal numbers get the same choice, as long as rewards change little */
ngx_webtorch_split_choice_t *ngx_webtorch_split_pick(
    ngx_webtorch_split_t *split, uint64_t number);

/* value: from 0 to 1; in any thread */
void ngx_webtorch_split_add(ngx_webtorch_split_t *split,
    ngx_webtorch_split_choice_t *choice, double value);

/* NULL: there is none of this name */
ngx_webtorch_split_choice_t *ngx_webtorch_split_find(
    ngx_webtorch_split_t *split, const u_char *name, size_t len);


#endif /* _NGX_WEBTORCH_SPLIT_H_INCLUDED_ */
