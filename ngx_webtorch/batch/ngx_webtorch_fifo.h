
/* Queues of batches, which are linked by ngx_webtorch_batch_t.next. */


#ifndef _NGX_WEBTORCH_FIFO_H_INCLUDED_
#define _NGX_WEBTORCH_FIFO_H_INCLUDED_


#include "ngx_webtorch_batch.h"


typedef struct {
    ngx_webtorch_batch_t   *head;         /* the oldest; NULL: it is empty */
    ngx_webtorch_batch_t  **tail;
} ngx_webtorch_fifo_t;


void ngx_webtorch_fifo_init(ngx_webtorch_fifo_t *fifo);
void ngx_webtorch_fifo_add(ngx_webtorch_fifo_t *fifo,
    ngx_webtorch_batch_t *batch);

/* removes and returns the oldest batch; NULL: none */
ngx_webtorch_batch_t *ngx_webtorch_fifo_get(ngx_webtorch_fifo_t *fifo);

/* moves all batches of another queue to the front, which empties that queue */
void ngx_webtorch_fifo_prepend(ngx_webtorch_fifo_t *fifo,
    ngx_webtorch_fifo_t *first);

/* the batch must be in the queue */
void ngx_webtorch_fifo_remove(ngx_webtorch_fifo_t *fifo,
    ngx_webtorch_batch_t *batch);


#endif /* _NGX_WEBTORCH_FIFO_H_INCLUDED_ */
