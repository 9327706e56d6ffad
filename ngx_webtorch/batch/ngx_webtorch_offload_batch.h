
/* A batch that the owner has received, and its results. */


#ifndef _NGX_WEBTORCH_OFFLOAD_BATCH_H_INCLUDED_
#define _NGX_WEBTORCH_OFFLOAD_BATCH_H_INCLUDED_


#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_handoff.h"


typedef struct ngx_webtorch_offload_batch_s  ngx_webtorch_offload_batch_t;


/* a request of it */

typedef struct {
    ngx_webtorch_waiter_t         waiter;     /* data: the batch it is of */
    uint32_t                      at;     /* row in the slot */
    uint32_t                      first;  /* row in the batch of this worker */
    ngx_uint_t                    served;
} ngx_webtorch_offload_job_t;


struct ngx_webtorch_offload_batch_s {
    ngx_webtorch_handoff_slot_t   *slot;
    ngx_webtorch_offload_batch_t  *next;
    ngx_webtorch_sink_t            sink;  /* of rows that a thread has copied */
    ngx_uint_t                     adopted;   /* there are such rows */
    uint32_t                       nleft; /* requests */
    ngx_uint_t                     laid;  /* there is memory for outputs */
    ngx_webtorch_batch_t          *kept;  /* a thread copies its outputs; or
                                             NULL */
    ngx_webtorch_offload_job_t     jobs[1];
};


/* NULL: no memory; in any thread */
ngx_webtorch_offload_batch_t *ngx_webtorch_offload_batch_create(
    ngx_webtorch_handoff_slot_t *slot);
void ngx_webtorch_offload_batch_free(ngx_webtorch_offload_batch_t *received);

/* answers all of its requests with an error; a code with 503 may be retried */
void ngx_webtorch_offload_batch_fail(ngx_webtorch_handoff_slot_t *slot,
    int32_t status, const char *code, const char *message);

/*
 * A request's result is there.  If a thread is to copy the rows, the batch is
 * kept.
 */
void ngx_webtorch_offload_batch_result(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_offload_job_t *part, webtorch_job_t *job);

/* copies the outputs of a request from a batch that is done or kept */
void ngx_webtorch_offload_batch_copy(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_offload_job_t *part, ngx_webtorch_batch_t *batch);


#endif /* _NGX_WEBTORCH_OFFLOAD_BATCH_H_INCLUDED_ */
