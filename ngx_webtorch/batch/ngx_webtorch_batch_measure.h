
/*
 * What is counted of a batch and its jobs, in the event loop.  Only files of
 * this folder include this header.
 */


#ifndef _NGX_WEBTORCH_BATCH_MEASURE_H_INCLUDED_
#define _NGX_WEBTORCH_BATCH_MEASURE_H_INCLUDED_


#include "ngx_webtorch_batch_private.h"


/* a batch that has run */
void ngx_webtorch_batch_count(ngx_webtorch_batch_t *batch);
void ngx_webtorch_batch_measure(ngx_webtorch_batch_t *batch);

/*
 * A job whose time is over; added: us of the clock, or 0 for rows that Python
 * has posted, which are no request; waited: its call has not begun.
 */
void ngx_webtorch_batch_measure_expired(ngx_webtorch_handler_t *handler,
    uint64_t added, ngx_uint_t waited);

/* a job that is refused, as calls do not return */
void ngx_webtorch_batch_measure_stuck(ngx_webtorch_handler_t *handler);


#endif /* _NGX_WEBTORCH_BATCH_MEASURE_H_INCLUDED_ */
