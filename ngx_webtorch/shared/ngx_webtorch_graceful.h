
/* A reload: old workers serve until the new ones do. */


#ifndef _NGX_WEBTORCH_GRACEFUL_H_INCLUDED_
#define _NGX_WEBTORCH_GRACEFUL_H_INCLUDED_


#include "ngx_webtorch_zone.h"


/* called in the master, before it starts the workers of a configuration */
void ngx_webtorch_graceful_announce(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/* called in a worker, before its event loop */
void ngx_webtorch_graceful_init(ngx_webtorch_conf_t *conf, ngx_log_t *log);

/* whether all workers of the configuration in force are in their event loops */
ngx_uint_t ngx_webtorch_graceful_ready(void);

/* whether a later configuration is in force: the master replaces no worker */
ngx_uint_t ngx_webtorch_graceful_begun(void);

/*
 * Whether this worker may exit, to be replaced by another one.  One worker at
 * a time leaves, and only if all others serve.  It keeps a mutex until it
 * exits, when the kernel passes it on.
 */
ngx_uint_t ngx_webtorch_graceful_may_leave(void);


#endif /* _NGX_WEBTORCH_GRACEFUL_H_INCLUDED_ */
