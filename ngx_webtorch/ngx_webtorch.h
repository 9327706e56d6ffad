
/*
 * What the rooms of the module share: settings and handlers.
 */


#ifndef _NGX_WEBTORCH_H_INCLUDED_
#define _NGX_WEBTORCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"


#define NGX_WEBTORCH_MODE_AUTO     0
#define NGX_WEBTORCH_MODE_INLINE   1
#define NGX_WEBTORCH_MODE_THREAD   2


typedef struct ngx_webtorch_runner_s  ngx_webtorch_runner_t;


/* one "module:function" with its options, as one directive names it */

typedef struct {
    ngx_str_t               name;
    ngx_uint_t              index;        /* among the handlers */

    ngx_uint_t              mode;
    ngx_uint_t              max_batch;    /* rows */
    ngx_msec_t              max_delay;
    ngx_uint_t              queue;        /* requests */
    ngx_msec_t              timeout;

    ngx_str_t               file;         /* of the directive */
    ngx_uint_t              line;

    webtorch_schema_t       schema;

    ngx_webtorch_runner_t  *runner;       /* in a worker; NULL: not loaded */
} ngx_webtorch_handler_t;


typedef struct {
    ngx_str_t               python;       /* interpreter */
    ngx_array_t            *path;         /* of ngx_str_t: directories */
    ngx_array_t            *preload;      /* of ngx_str_t: modules */
    ngx_int_t               threads;      /* of a torch operator */
    ngx_array_t             handlers;     /* of ngx_webtorch_handler_t * */
} ngx_webtorch_conf_t;


/* imports the handlers in a child, which tells their schemas */
ngx_int_t ngx_webtorch_check(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf);


extern ngx_module_t  ngx_webtorch_module;


#endif /* _NGX_WEBTORCH_H_INCLUDED_ */
