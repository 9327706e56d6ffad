
/*
 * A worker that has more requests than another one leaves new connections to
 * that one.
 */


#ifndef _NGX_WEBTORCH_ACCEPT_H_INCLUDED_
#define _NGX_WEBTORCH_ACCEPT_H_INCLUDED_


#include "ngx_webtorch.h"


/* in the master, for the workers of a configuration */
void ngx_webtorch_accept_init(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf);

/* in a worker, when it listens */
ngx_int_t ngx_webtorch_accept_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);

/*
 * A request of a handler begins, before its body is read, or ends.  first: it
 * is the first one of its connection.  Called in the event loop.
 */
void ngx_webtorch_accept_begin(ngx_uint_t first);
void ngx_webtorch_accept_end(void);


#endif /* _NGX_WEBTORCH_ACCEPT_H_INCLUDED_ */
