
/* Rows that Python code posts join batches, in the event loop. */


#ifndef _NGX_WEBTORCH_POSTED_ROWS_H_INCLUDED_
#define _NGX_WEBTORCH_POSTED_ROWS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* the calling thread is that of the event loop */
void ngx_webtorch_posted_init_process(void);

/*
 * Ends all that wait, as the worker exits, and stops the threads of functions
 * that no directive names; NGX_BUSY: some are still running.
 */
ngx_int_t ngx_webtorch_posted_exit_process(void);


#endif /* _NGX_WEBTORCH_POSTED_ROWS_H_INCLUDED_ */
