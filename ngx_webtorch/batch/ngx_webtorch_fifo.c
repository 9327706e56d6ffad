
#include "ngx_webtorch_fifo.h"
#include "ngx_webtorch_batch_private.h"


void
ngx_webtorch_fifo_init(ngx_webtorch_fifo_t *fifo)
{
    fifo->head = NULL;
    fifo->tail = &fifo->head;
}


void
ngx_webtorch_fifo_add(ngx_webtorch_fifo_t *fifo, ngx_webtorch_batch_t *batch)
{
    batch->next = NULL;
    *fifo->tail = batch;
    fifo->tail = &batch->next;
}


ngx_webtorch_batch_t *
ngx_webtorch_fifo_get(ngx_webtorch_fifo_t *fifo)
{
    ngx_webtorch_batch_t  *batch;

    batch = fifo->head;

    if (batch) {
        ngx_webtorch_fifo_remove(fifo, batch);
    }

    return batch;
}


void
ngx_webtorch_fifo_prepend(ngx_webtorch_fifo_t *fifo, ngx_webtorch_fifo_t *first)
{
    if (first->head == NULL) {
        return;
    }

    *first->tail = fifo->head;

    if (fifo->head == NULL) {
        fifo->tail = first->tail;
    }

    fifo->head = first->head;

    ngx_webtorch_fifo_init(first);
}


void
ngx_webtorch_fifo_remove(ngx_webtorch_fifo_t *fifo, ngx_webtorch_batch_t *batch)
{
    ngx_webtorch_batch_t  **p;

    for (p = &fifo->head; *p != batch; p = &(*p)->next) { /* void */ }

    *p = batch->next;

    if (batch->next == NULL) {
        fifo->tail = p;
    }
}
