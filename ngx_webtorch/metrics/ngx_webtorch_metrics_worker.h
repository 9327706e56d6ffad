
/*
 * What is measured of a worker, in a timer: its memory, and how late its event
 * loop runs events.
 */


#ifndef _NGX_WEBTORCH_METRICS_WORKER_H_INCLUDED_
#define _NGX_WEBTORCH_METRICS_WORKER_H_INCLUDED_


#include "ngx_webtorch_metrics.h"


/* in a worker that counts */
void ngx_webtorch_metrics_worker_init(ngx_log_t *log);


/* time that a thread of this worker has waited for the GIL; in any thread */

static ngx_inline void
ngx_webtorch_metrics_gil(uint64_t usec)
{
    if (usec && ngx_webtorch_metrics_own) {
        ngx_webtorch_metrics_fetch_add(&ngx_webtorch_metrics_own->worker.gil,
                                       usec);
    }
}


#endif /* _NGX_WEBTORCH_METRICS_WORKER_H_INCLUDED_ */
