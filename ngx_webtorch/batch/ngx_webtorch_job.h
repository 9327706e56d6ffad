
/*
 * The memory of jobs.  ngx_webtorch_job.c also has the functions that Python
 * calls on a job, which ngx_webtorch_api.h declares.
 */


#ifndef _NGX_WEBTORCH_JOB_H_INCLUDED_
#define _NGX_WEBTORCH_JOB_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"


typedef struct ngx_webtorch_shared_s     ngx_webtorch_shared_t;
typedef struct ngx_webtorch_job_owner_s  ngx_webtorch_job_owner_t;


/* has rows that no other job may use before this one is over */

struct ngx_webtorch_job_owner_s {
    ngx_uint_t                 njobs;     /* that are not released */

    /*
     * Called once in the event loop when no call will use the job any more,
     * also long after its waiter has timed out or was cancelled.  It must only
     * post an event: the mutex of the threads may be held.  A job that did not
     * run has no reply.
     */
    void                     (*released)(ngx_webtorch_job_owner_t *owner,
                                         webtorch_job_t *job);
};


/*
 * Shares memory between a request of nginx and a job.  Each of the two calls
 * ngx_webtorch_shared_release(), in any order; the second call frees the
 * memory.  mapped: bytes to unmap, or 0 if free() frees the data.  NULL: no
 * memory.
 */
ngx_webtorch_shared_t *ngx_webtorch_shared_create(void *data, size_t mapped,
    void (*free)(void *p));

/* bytes of a request and, if it is shared, its body */
size_t ngx_webtorch_request_size(webtorch_request_t *request);

/* bytes of a failure with what it points to, and a copy of it there */
size_t ngx_webtorch_failure_size(const webtorch_failure_t *failure);
void ngx_webtorch_failure_write(webtorch_failure_t *copy,
    const webtorch_failure_t *failure);

/* texts with a zero byte, which must stay; retry: the client may, in a second */
void ngx_webtorch_failure_set(webtorch_failure_t *failure, const char *code,
    const char *message, ngx_uint_t retry);

/* free(), for replies and shared memory */
void ngx_webtorch_shared_free(void *p);

/* the owner is notified when the job is freed */
static ngx_inline void
ngx_webtorch_job_own(webtorch_job_t *job, ngx_webtorch_job_owner_t *owner)
{
    job->owner = owner;
    owner->njobs++;
}


/* frees what a job owns; the job itself is in an array of its batch */
void ngx_webtorch_job_free(webtorch_job_t *job);


#endif /* _NGX_WEBTORCH_JOB_H_INCLUDED_ */
