
#include "ngx_webtorch_done.h"


ngx_webtorch_done_t  ngx_webtorch_done = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .fd = -1
};


void
ngx_webtorch_done_add(ngx_webtorch_batch_t *batch)
{
    ngx_uint_t  notify;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    notify = (ngx_webtorch_done.batches.head == NULL);
    ngx_webtorch_fifo_add(&ngx_webtorch_done.batches, batch);

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (notify) {
        ngx_webtorch_done_notify();
    }
}


void
ngx_webtorch_done_add_all(ngx_webtorch_fifo_t *fifo)
{
    ngx_uint_t            notify;
    ngx_webtorch_fifo_t  *batches;

    batches = &ngx_webtorch_done.batches;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    notify = (batches->head == NULL);

    *batches->tail = fifo->head;
    batches->tail = fifo->tail;
    ngx_webtorch_fifo_init(fifo);

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (notify) {
        ngx_webtorch_done_notify();
    }
}


void
ngx_webtorch_done_notify(void)
{
    uint64_t  one;

    one = 1;
    (void) !write(ngx_webtorch_done.fd, &one, sizeof(uint64_t));
}
