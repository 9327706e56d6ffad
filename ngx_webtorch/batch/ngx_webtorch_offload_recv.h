
/*
 * The owner receives batches that other workers offload, and adds their
 * requests to its own.  A thread, which touches neither Python nor the GIL,
 * waits for them and copies what is large.
 */


#ifndef _NGX_WEBTORCH_OFFLOAD_RECV_H_INCLUDED_
#define _NGX_WEBTORCH_OFFLOAD_RECV_H_INCLUDED_


#include "ngx_webtorch.h"


/* in a worker whose handlers are loaded; nothing in others than the owner */
ngx_int_t ngx_webtorch_offload_recv_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf);
void ngx_webtorch_offload_recv_exit_process(void);


#endif /* _NGX_WEBTORCH_OFFLOAD_RECV_H_INCLUDED_ */
