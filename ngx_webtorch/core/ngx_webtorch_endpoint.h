
/*
 * Tensor functions by name, for protocols that have names: "output" of
 * "app:output", or the whole where several functions share a name.
 */


#ifndef _NGX_WEBTORCH_ENDPOINT_H_INCLUDED_
#define _NGX_WEBTORCH_ENDPOINT_H_INCLUDED_


#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"


typedef struct {
    ngx_str_t                name;
    ngx_str_t                json;        /* the name, escaped for JSON */
    ngx_webtorch_handler_t  *handler;
} ngx_webtorch_endpoint_t;


/* when the schemas of all handlers are known */
ngx_int_t ngx_webtorch_endpoints_init(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* by its own name or as "module:function"; NULL: none */
ngx_webtorch_endpoint_t *ngx_webtorch_endpoint_find(ngx_webtorch_conf_t *conf,
    ngx_str_t *name);

/* whether this worker can run it */
ngx_uint_t ngx_webtorch_endpoint_loaded(ngx_webtorch_endpoint_t *endpoint);


#endif /* _NGX_WEBTORCH_ENDPOINT_H_INCLUDED_ */
