
/* What a request keeps of its calls, for logs. */


#ifndef _NGX_WEBTORCH_CALL_H_INCLUDED_
#define _NGX_WEBTORCH_CALL_H_INCLUDED_


#include "ngx_webtorch_batch.h"


typedef struct {
    ngx_uint_t  queued;                   /* it has waited for a call */
    ngx_uint_t  called;
    uint64_t    queue;                    /* us; of a stream, of all calls */
    uint64_t    run;

    /* of the last call */
    uint32_t    rows;
    ngx_uint_t  in_loop;
    char        steps[WEBTORCH_WATCH_LEN];
    char        versions[WEBTORCH_WATCH_LEN];
} ngx_webtorch_call_t;


/* from within done(): adds the call, or the time that a request has waited */
void ngx_webtorch_call_add(ngx_webtorch_call_t *call,
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job);


#endif /* _NGX_WEBTORCH_CALL_H_INCLUDED_ */
