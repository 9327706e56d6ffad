
/* The worker that runs the functions which others offload to it. */


#ifndef _NGX_WEBTORCH_OWNER_H_INCLUDED_
#define _NGX_WEBTORCH_OWNER_H_INCLUDED_


#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"


/*
 * Maps the memory of a configuration, in the master, when its handlers are
 * checked, if a handler has an owner.  NGX_ERROR is logged.
 */
ngx_int_t ngx_webtorch_owner_init(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* in a worker before it loads handlers: sets which of them others run */
void ngx_webtorch_owner_init_process(ngx_webtorch_conf_t *conf,
    ngx_log_t *log);


#endif /* _NGX_WEBTORCH_OWNER_H_INCLUDED_ */
