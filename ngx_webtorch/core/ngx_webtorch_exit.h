
/* The end of a process in which threads of Python may still run. */


#ifndef _NGX_WEBTORCH_EXIT_H_INCLUDED_
#define _NGX_WEBTORCH_EXIT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Makes exit() flush what stdio has buffered, and no more: it would run the
 * destructors of libraries, such as libtorch's, which threads still use.
 * Called in a process that is about to exit, so that nginx continues its own
 * exit: other modules, pools, the log.
 */
ngx_int_t ngx_webtorch_exit_without_destructors(ngx_log_t *log);

/*
 * Exits at once, as a thread still uses memory of the cycle, which nginx would
 * free.
 */
void ngx_webtorch_exit_now(ngx_cycle_t *cycle);


#endif /* _NGX_WEBTORCH_EXIT_H_INCLUDED_ */
