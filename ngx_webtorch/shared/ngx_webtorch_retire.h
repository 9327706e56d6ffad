
/*
 * A worker that cannot serve any more, for example as the context of a device
 * is lost, is replaced.
 */


#ifndef _NGX_WEBTORCH_RETIRE_H_INCLUDED_
#define _NGX_WEBTORCH_RETIRE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Called in a worker, before its event loop.  notify() wakes the event loop, in
 * any thread, so that it calls the handler below.
 */
void ngx_webtorch_retire_init_process(void (*notify)(void), ngx_log_t *log);

/* whether a thread wants it, see ngx_webtorch_retire() */
ngx_uint_t ngx_webtorch_retire_wanted(void);

/* called in the event loop, once a thread wants it: exits when that is possible */
void ngx_webtorch_retire_handler(void);


#endif /* _NGX_WEBTORCH_RETIRE_H_INCLUDED_ */
