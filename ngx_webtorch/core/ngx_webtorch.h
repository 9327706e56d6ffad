
/*
 * What the rooms of the module share: settings and handlers.
 */


#ifndef _NGX_WEBTORCH_H_INCLUDED_
#define _NGX_WEBTORCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"


#define NGX_WEBTORCH_VERSION       "0.1.0"


#define NGX_WEBTORCH_MODE_AUTO     0
#define NGX_WEBTORCH_MODE_INLINE   1
#define NGX_WEBTORCH_MODE_THREAD   2


typedef struct ngx_webtorch_runner_s    ngx_webtorch_runner_t;
typedef struct ngx_webtorch_zone_s      ngx_webtorch_zone_t;
typedef struct ngx_webtorch_balancer_s  ngx_webtorch_balancer_t;


/* what a handler has done in a worker, since that was started */

typedef struct {
    uint64_t                batches;
    uint64_t                rows;         /* of requests that were served */
    uint64_t                served;       /* requests */
    uint64_t                failed;
    uint64_t                refused;      /* in phases: not loaded or full */
    uint64_t                late;         /* in phases: not done in time */
    uint64_t                last;         /* batch: milliseconds since 1970 */
} ngx_webtorch_stats_t;


/* one "module:function" with its options, as one directive names it */

typedef struct ngx_webtorch_handler_s  ngx_webtorch_handler_t;

struct ngx_webtorch_handler_s {
    ngx_str_t               name;
    ngx_uint_t              index;        /* among the handlers */

    ngx_uint_t              mode;
    ngx_uint_t              max_batch;    /* rows */
    ngx_msec_t              max_delay;
    ngx_uint_t              queue;        /* requests */
    ngx_msec_t              timeout;

    ngx_str_t               file;         /* of the directive */
    ngx_uint_t              line;

    ngx_uint_t              gathers;      /* requests do more than wait for it */
    ngx_uint_t              policy;       /* of a balancer, not a handler */
    ngx_msec_t              interval;     /* of a policy's rounds */

    webtorch_schema_t       schema;

    ngx_webtorch_runner_t  *runner;       /* in a worker; NULL: not loaded */
    ngx_webtorch_stats_t    stats;

    /* NULL, or looks whether the schema is what the directive is for */
    ngx_int_t             (*check)(ngx_cycle_t *cycle,
                                   ngx_webtorch_handler_t *handler);
    void                   *data;
};


/* a handler of tensors by name, for protocols that have names */

typedef struct {
    ngx_str_t               name;
    ngx_str_t               json;         /* the name in a string of JSON */
    ngx_webtorch_handler_t *handler;
} ngx_webtorch_model_t;


typedef struct {
    ngx_str_t               python;       /* interpreter */
    ngx_array_t            *path;         /* of ngx_str_t: directories */
    ngx_array_t            *preload;      /* of ngx_str_t: modules */
    ngx_int_t               threads;      /* of a torch operator */
    ngx_array_t             handlers;     /* of ngx_webtorch_handler_t * */
    ngx_array_t             models;       /* of ngx_webtorch_model_t */
    ngx_array_t             balancers;    /* of ngx_webtorch_balancer_t * */

    ngx_str_t               zone_name;    /* len 0: workers share no models */
    size_t                  zone_size;
    ngx_webtorch_zone_t    *zone;
    uint64_t                generation;   /* of configurations, in the zone */

    size_t                  worker_memory;
    ngx_flag_t              reload;       /* code that changes is taken */

    ngx_path_t             *checkpoint;   /* directory; NULL: none */
    ngx_msec_t              interval;
    ngx_uint_t              keep;         /* files of a model */
} ngx_webtorch_conf_t;


/* imports the handlers in a child, which tells their schemas */
ngx_int_t ngx_webtorch_check(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf);

/* names the handlers, when their schemas are known */
ngx_int_t ngx_webtorch_models_init(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* by its own name or as "module:function"; NULL: none */
ngx_webtorch_model_t *ngx_webtorch_model_find(ngx_webtorch_conf_t *conf,
    ngx_str_t *name);


extern ngx_module_t  ngx_webtorch_module;


#endif /* _NGX_WEBTORCH_H_INCLUDED_ */
