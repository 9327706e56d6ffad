
#include "ngx_http_webtorch_task.h"


#if (NGX_THREADS)

static void ngx_http_webtorch_task_event_handler(ngx_event_t *ev);


ngx_int_t
ngx_http_webtorch_task_post(ngx_http_webtorch_task_t *t,
    ngx_thread_pool_t *pool)
{
    ngx_thread_task_t  *task;

    t->ident.fd = (ngx_socket_t) -1;
    t->ident.data = t;

    task = &t->task;

    task->ctx = t->data;
    task->handler = t->run;
    task->event.data = &t->ident;
    task->event.handler = ngx_http_webtorch_task_event_handler;
    task->event.log = ngx_cycle->log;

    if (ngx_thread_task_post(pool, task) != NGX_OK) {
        return NGX_ERROR;
    }

    /* a worker that shuts down waits for timers */

    ngx_add_timer(&task->event, NGX_HTTP_WEBTORCH_TASK_TIMEOUT);

    return NGX_OK;
}


static void
ngx_http_webtorch_task_event_handler(ngx_event_t *ev)
{
    ngx_connection_t          *ident;
    ngx_http_webtorch_task_t  *t;

    ident = ev->data;
    t = ident->data;

    if (ngx_http_webtorch_task_complete(ev, t->name)) {
        t->done(t->data);
    }
}


ngx_uint_t
ngx_http_webtorch_task_complete(ngx_event_t *ev, const char *name)
{
    if (ev->timedout) {
        ngx_log_error(NGX_LOG_ALERT, ev->log, 0, "%s in a thread took too long",
                      name);
        ev->timedout = 0;
        return 0;
    }

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    return 1;
}

#endif
