
/*
 * core: what all folders above it use.  The settings, handlers and endpoints by
 * name, helpers that nginx or libc lack (threads, timers, robust mutexes), and
 * the interpreter.  It includes api/, nginx's core and, in
 * ngx_webtorch_python.c and ngx_webtorch_python_start.c, Python.h; nothing of
 * HTTP.
 */


#ifndef _NGX_WEBTORCH_H_INCLUDED_
#define _NGX_WEBTORCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"


#define ngx_webtorch_get_conf(cycle)                                          \
    ((ngx_webtorch_conf_t *) ngx_get_conf((cycle)->conf_ctx,                  \
                                          ngx_webtorch_module))


typedef struct ngx_webtorch_zone_s      ngx_webtorch_zone_t;
typedef struct ngx_webtorch_accept_s    ngx_webtorch_accept_t;
typedef struct ngx_webtorch_handoff_s   ngx_webtorch_handoff_t;


/* where a directive is, for errors that are found later; line 0: nowhere */

typedef struct {
    u_char                 *file;         /* ends with a zero */
    ngx_uint_t              line;
} ngx_webtorch_directive_t;


/* checkpoints in object storage; strings end with a zero */

typedef struct {
    ngx_str_t                 url;        /* s3://bucket/path */
    ngx_str_t                 endpoint;   /* its URL; data NULL: that of AWS */
    ngx_msec_t                interval;   /* between checkpoints */
    ngx_uint_t                keep;       /* files of a model */
    ngx_webtorch_directive_t  directive;
} ngx_webtorch_store_t;


typedef struct {
    ngx_str_t                 python;     /* interpreter */
    ngx_webtorch_directive_t  python_directive;
    ngx_array_t              *path;       /* of ngx_str_t: directories */
    ngx_array_t              *preload;    /* of ngx_str_t: modules */
    ngx_webtorch_directive_t  preload_directive;
    ngx_int_t                 threads;    /* of a torch operator */
    ngx_array_t               handlers;   /* of ngx_webtorch_handler_t * */
    ngx_array_t               endpoints;  /* of ngx_webtorch_endpoint_t */
    ngx_array_t              *locations;  /* of handlers, see
                                             ngx_http_webtorch_openapi.c */
    ngx_array_t               balancers;  /* of ngx_webtorch_balancer_t * */
    ngx_array_t               splits;     /* of ngx_webtorch_split_t * */

    ngx_str_t                 zone_name;  /* len 0: workers share no models */
    size_t                    zone_size;
    ngx_webtorch_zone_t      *zone;
    uint64_t                  generation; /* number of this configuration */

    ngx_webtorch_accept_t    *accept;     /* NULL: a single worker */
    ngx_webtorch_handoff_t   *handoff;    /* NULL: all workers run all
                                             functions */

    ngx_flag_t                metrics;
    ngx_uint_t                logged;     /* variables of calls are used */
    ngx_uint_t                cors;       /* these two directives are used */
    ngx_uint_t                load_report;
    uint32_t                  watch;      /* of all batches, see api */
    size_t                    worker_memory;
    ngx_flag_t                reload;     /* modules that change on disk are
                                             imported again */

    ngx_path_t               *checkpoint; /* directory; NULL: none */
    ngx_msec_t                interval;   /* between checkpoints */
    ngx_uint_t                keep;       /* files of a model */

    ngx_webtorch_store_t     *store;      /* object storage; NULL: none */

    webtorch_cluster_t       *cluster;    /* NULL: the host is alone */
} ngx_webtorch_conf_t;


extern ngx_module_t  ngx_webtorch_module;


#endif /* _NGX_WEBTORCH_H_INCLUDED_ */
