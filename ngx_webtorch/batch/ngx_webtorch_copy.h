
/*
 * Rows of a job for another handler, which has the same inputs.
 */


#ifndef _NGX_WEBTORCH_COPY_H_INCLUDED_
#define _NGX_WEBTORCH_COPY_H_INCLUDED_


#include "ngx_webtorch_runner.h"


/*
 * Reserves the rows of a layout in a runner, and copies them from the job that
 * was added last to its batch, before it runs.  The layout is that of the job
 * but for its version set.
 */
ngx_int_t ngx_webtorch_copy_job(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_waiter_t *from, const ngx_webtorch_layout_t *layout);

/* bytes of the rows and strings of a job */
size_t ngx_webtorch_copy_size(const ngx_webtorch_waiter_t *from,
    const ngx_webtorch_layout_t *layout);

/* from within done(): microseconds of the call */
ngx_uint_t ngx_webtorch_copy_elapsed(const ngx_webtorch_waiter_t *waiter);


#endif /* _NGX_WEBTORCH_COPY_H_INCLUDED_ */
