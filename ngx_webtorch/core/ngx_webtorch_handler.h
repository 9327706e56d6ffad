
/*
 * A handler: one "module:function" with its options, as one directive names
 * it.
 */


#ifndef _NGX_WEBTORCH_HANDLER_H_INCLUDED_
#define _NGX_WEBTORCH_HANDLER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"


/* threads of a function of requests in a worker, by default and at most */
#define NGX_WEBTORCH_THREADS       8
#define NGX_WEBTORCH_MAX_THREADS   1024

/* the same of a function of tensors on a device: one batch arrives there, one
   is computed and one leaves */
#define NGX_WEBTORCH_DEVICE_THREADS      3
#define NGX_WEBTORCH_DEVICE_MAX_THREADS  8

#define NGX_WEBTORCH_MODE_AUTO     0
#define NGX_WEBTORCH_MODE_INLINE   1
#define NGX_WEBTORCH_MODE_THREAD   2


typedef struct ngx_webtorch_handler_s  ngx_webtorch_handler_t;
typedef struct ngx_webtorch_runner_s   ngx_webtorch_runner_t;
typedef struct ngx_webtorch_series_s   ngx_webtorch_series_t;
typedef struct ngx_webtorch_handler_metrics_s  ngx_webtorch_handler_metrics_t;
typedef struct ngx_webtorch_shadow_metrics_s  ngx_webtorch_shadow_metrics_t;


/* counted in a worker since it was started */

typedef struct {
    uint64_t                batches;
    uint64_t                rows;         /* of requests that were served */
    uint64_t                served;       /* requests */
    uint64_t                failed;
    uint64_t                last;         /* batch, ms since 1970 */
} ngx_webtorch_stats_t;


struct ngx_webtorch_handler_s {
    ngx_str_t               name;
    ngx_uint_t              index;        /* in the configuration's handlers */

    ngx_uint_t              mode;
    ngx_uint_t              threads;      /* most of its own in a worker; 0:
                                             not set, until it is checked */
    ngx_uint_t              max_batch;    /* rows */
    ngx_msec_t              max_delay;
    ngx_uint_t              queue;        /* requests */
    size_t                  queue_size;   /* bytes, of all handlers */
    ngx_msec_t              timeout;
    ngx_msec_t              stuck;        /* a call that takes longer does not
                                             return, 0: off */

    ngx_msec_t              slow;         /* a call that takes longer is logged,
                                             0: off */

    ngx_str_t               file;         /* of the directive */
    ngx_uint_t              line;
    ngx_str_t               location;     /* of a directive of phases; empty:
                                             of a server, or it is counted for
                                             all locations */

    ngx_uint_t              keep_open;    /* its batches are kept open for
                                             requests of later iterations */
    ngx_uint_t              policy;       /* a balancer's, not a handler */
    ngx_uint_t              deferred;     /* of webtorch_log: no request waits
                                             for its rows */
    ngx_msec_t              interval;     /* between a policy's rounds */

    ngx_array_t            *captures;     /* of ngx_str_t, see the schema; or
                                             NULL */
    ngx_str_t               model;        /* see the schema; may be empty */
    ngx_str_t               device;       /* the same */
    size_t                  owner;        /* one worker runs it; bytes of a
                                             batch of another one; 0: all
                                             workers do */
    ngx_uint_t              offload_slot; /* the first of its slots by which a
                                             worker offloads batches */
    ngx_uint_t              offloaded;    /* in a worker: another one runs it */

    ngx_webtorch_handler_t *shadowed;     /* of which it gets copies; NULL: it
                                             is no shadow */

    /* streams only; their options are in data, see http/stream */
    ngx_uint_t              resume;       /* clients may come back: states are
                                             in the zone */
    ngx_webtorch_handler_t *life;         /* opens and closes; or NULL */
    ngx_uint_t              life_threads; /* of these calls */
    ngx_webtorch_handler_t *opener;       /* of a generate function; or NULL */
    ngx_uint_t              loaded;       /* its schema is known in a worker */
    void                   *streams;      /* in a worker, of http/stream */

    webtorch_schema_t       schema;

    ngx_webtorch_runner_t  *runner;       /* in a worker; NULL: not loaded */
    ngx_webtorch_stats_t    stats;

    /* in a worker; NULL: it is not counted */
    ngx_webtorch_series_t           *series;
    ngx_webtorch_handler_metrics_t  *metrics;
    ngx_webtorch_shadow_metrics_t   *shadow_metrics;
    ngx_uint_t              timed;        /* times of its requests are needed */
    uint32_t                watch;        /* of all of its batches, see api */
    ngx_uint_t              in_thread;    /* the last call was; the metrics may
                                             be those of several directives */
    ngx_uint_t              in_loop;

    /* checks that the schema fits the directive, logs if it does not; or NULL */
    ngx_int_t             (*check)(ngx_cycle_t *cycle,
                                   ngx_webtorch_handler_t *handler);
    /* called when a worker has loaded it; or NULL */
    ngx_int_t             (*start)(ngx_cycle_t *cycle,
                                   ngx_webtorch_handler_t *handler);
    /* sets the tensors on the wire; NULL: they are those of the schema */
    void                  (*describe)(ngx_webtorch_handler_t *handler,
                                      webtorch_schema_t *schema);
    void                   *data;
};


/* NGX_ERROR: not a "module:function" */
ngx_int_t ngx_webtorch_handler_name(ngx_str_t *name);

/* whether it is a function of tensors that runs on a device, not on the CPU */

static ngx_inline ngx_uint_t
ngx_webtorch_handler_on_device(ngx_webtorch_handler_t *handler)
{
    return handler->schema.device[0] != '\0';
}


/* with the defaults of all options; NULL: no memory */
ngx_webtorch_handler_t *ngx_webtorch_handler_add(ngx_conf_t *cf,
    ngx_str_t *name);

/* sets the defaults of all options */
void ngx_webtorch_handler_init(ngx_webtorch_handler_t *handler);

/* adds handlers that open and close streams, once the schemas are set */
ngx_int_t ngx_webtorch_handlers_add_lives(ngx_cycle_t *cycle,
    ngx_array_t *handlers);

/* the threads that it has in a worker if none are set */
ngx_uint_t ngx_webtorch_handler_threads(ngx_webtorch_handler_t *handler);

/* sets the options that follow from the schema */
void ngx_webtorch_handler_adapt(ngx_webtorch_handler_t *handler);

/* parses "name=value"; an error is logged */
char *ngx_webtorch_handler_option(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler, ngx_str_t *param);


#endif /* _NGX_WEBTORCH_HANDLER_H_INCLUDED_ */
