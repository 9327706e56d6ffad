
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_queue.h"

#include <ngx_event.h>

#if (NGX_THREADS)
#include <ngx_thread_pool.h>
#endif


#if (NGX_THREADS)

typedef struct {
    void               (*handler)(void *data);
    void                *data;
    size_t               size;            /* bytes */
    ngx_thread_pool_t   *thread_pool;
} ngx_webtorch_deferred_t;


static void ngx_webtorch_defer_post_handler(ngx_event_t *ev);
static void ngx_webtorch_defer_thread(void *data, ngx_log_t *log);
static void ngx_webtorch_defer_event_handler(ngx_event_t *ev);


static ngx_str_t  ngx_webtorch_defer_pool = ngx_string("default");

#endif


void
ngx_webtorch_defer(void (*handler)(void *data), void *data, size_t size)
{
#if (NGX_THREADS)
    ngx_thread_pool_t        *tp;
    ngx_thread_task_t        *task;
    ngx_webtorch_deferred_t  *d;

    tp = ngx_thread_pool_get((ngx_cycle_t *) ngx_cycle,
                             &ngx_webtorch_defer_pool);

    task = tp ? ngx_calloc(sizeof(ngx_thread_task_t)
                           + sizeof(ngx_webtorch_deferred_t), ngx_cycle->log)
              : NULL;

    if (task) {
        d = (ngx_webtorch_deferred_t *) &task[1];

        d->handler = handler;
        d->data = data;
        d->size = size;
        d->thread_pool = tp;

        task->ctx = d;
        task->handler = ngx_webtorch_defer_thread;
        task->event.data = task;
        task->event.handler = ngx_webtorch_defer_post_handler;
        task->event.log = ngx_cycle->log;

        ngx_webtorch_queue_leave(size);

        /*
         * A mapping keeps its file until nginx has closed that, so that its
         * pages are freed in the thread, too.
         */

        ngx_post_event(&task->event, &ngx_posted_events);

        return;
    }
#endif

    handler(data);
}


void
ngx_webtorch_defer_free(void *p, size_t size)
{
    if (size < NGX_WEBTORCH_LARGE_SIZE || p == NULL) {
        ngx_webtorch_buffer_free(p);
        return;
    }

    ngx_webtorch_defer(ngx_webtorch_buffer_free, p, size);
}


#if (NGX_THREADS)

static void
ngx_webtorch_defer_post_handler(ngx_event_t *ev)
{
    ngx_thread_task_t        *task;
    ngx_webtorch_deferred_t  *d;

    task = ev->data;
    d = task->ctx;

    ev->handler = ngx_webtorch_defer_event_handler;

    if (ngx_thread_task_post(d->thread_pool, task) != NGX_OK) {
        ngx_webtorch_defer_thread(d, ev->log);
        ngx_free(task);
    }
}


static void
ngx_webtorch_defer_thread(void *data, ngx_log_t *log)
{
    ngx_webtorch_deferred_t *d = data;

    d->handler(d->data);

    ngx_webtorch_queue_left(d->size);
}


static void
ngx_webtorch_defer_event_handler(ngx_event_t *ev)
{
    ngx_free(ev->data);
}

#endif
