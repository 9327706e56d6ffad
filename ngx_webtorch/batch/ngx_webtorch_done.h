
/*
 * What threads give back to the event loop: batches that have run.  They wake
 * it through an eventfd, once for all that it has not taken yet.
 */


#ifndef _NGX_WEBTORCH_DONE_H_INCLUDED_
#define _NGX_WEBTORCH_DONE_H_INCLUDED_


#include "ngx_webtorch_fifo.h"

#include <pthread.h>


/* shared by the threads of a worker */

typedef struct {
    pthread_mutex_t          mutex;       /* of all queues between threads */
    ngx_webtorch_fifo_t      batches;     /* mutex */
    ngx_fd_t                 fd;          /* eventfd */
    void                   (*posted)(void);   /* called in the event loop when
                                             it is woken */
    void                   (*received)(void); /* the same; or NULL */
} ngx_webtorch_done_t;


/* gives a batch back, in any thread */
void ngx_webtorch_done_add(ngx_webtorch_batch_t *batch);

/* gives all batches of a queue back, which is empty then; in any thread */
void ngx_webtorch_done_add_all(ngx_webtorch_fifo_t *fifo);

/* wakes the event loop, in any thread */
void ngx_webtorch_done_notify(void);


extern ngx_webtorch_done_t  ngx_webtorch_done;


#endif /* _NGX_WEBTORCH_DONE_H_INCLUDED_ */
