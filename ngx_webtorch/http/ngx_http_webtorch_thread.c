
#include "ngx_http_webtorch_thread.h"
#include "ngx_http_webtorch.h"


/* ms; a worker that shuts down gracefully waits for timers */
#define NGX_HTTP_WEBTORCH_THREAD_TIMEOUT  60000


#if (NGX_THREADS)

/* a cleanup; also the context of its task, which outlives the request */

typedef struct {
    ngx_pool_cleanup_pt   handler;
    void                 *data;
    ngx_thread_pool_t    *thread_pool;
    ngx_log_t            *log;
} ngx_http_webtorch_deferred_t;


static void ngx_http_webtorch_thread_event_handler(ngx_event_t *ev);
static void ngx_http_webtorch_deferred_cleanup(void *data);
static void ngx_http_webtorch_deferred_post_handler(ngx_event_t *ev);
static void ngx_http_webtorch_deferred_thread(void *data, ngx_log_t *log);
static void ngx_http_webtorch_deferred_event_handler(ngx_event_t *ev);


/* nginx before 1.25.4 cannot terminate a subrequest that is blocked */

ngx_uint_t
ngx_http_webtorch_thread_allowed(ngx_http_request_t *r)
{
    return r == r->main;
}


ngx_int_t
ngx_http_webtorch_thread_post(ngx_http_request_t *r, ngx_thread_task_t *task,
    ngx_http_event_handler_pt resume)
{
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    task->event.data = r;
    task->event.handler = ngx_http_webtorch_thread_event_handler;
    task->event.log = r->connection->log;

    if (ngx_thread_task_post(wlcf->thread_pool, task) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_add_timer(&task->event, NGX_HTTP_WEBTORCH_THREAD_TIMEOUT);

    /* a blocked request, even if aborted, stays until the thread's event */

    r->main->blocked++;
    r->aio = 1;
    r->write_event_handler = resume;

    return NGX_OK;
}


static void
ngx_http_webtorch_thread_event_handler(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ev->data;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ev->timedout) {
        ngx_log_error(NGX_LOG_ALERT, c->log, 0,
                      "a body in a thread took too long");
        ev->timedout = 0;
        return;
    }

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    r->main->blocked--;
    r->aio = 0;

    /* the request's own handler, or nginx's, which ends an aborted request */

    r->write_event_handler(r);

    ngx_http_run_posted_requests(c);
}


void
ngx_http_webtorch_defer_cleanup(ngx_http_request_t *r, ngx_pool_cleanup_t *cln,
    size_t size)
{
    ngx_http_webtorch_deferred_t  *d;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    if (size < NGX_HTTP_WEBTORCH_LARGE_SIZE) {
        return;
    }

    d = ngx_palloc(r->pool, sizeof(ngx_http_webtorch_deferred_t));
    if (d == NULL) {
        return;
    }

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    d->handler = cln->handler;
    d->data = cln->data;
    d->thread_pool = wlcf->thread_pool;
    d->log = ngx_cycle->log;

    cln->handler = ngx_http_webtorch_deferred_cleanup;
    cln->data = d;
}


static void
ngx_http_webtorch_deferred_cleanup(void *data)
{
    ngx_http_webtorch_deferred_t *d = data;

    ngx_thread_task_t  *task;

    /* the pool of the request is destroyed after its cleanups */

    task = ngx_calloc(sizeof(ngx_thread_task_t)
                      + sizeof(ngx_http_webtorch_deferred_t), d->log);

    if (task == NULL) {
        d->handler(d->data);
        return;
    }

    task->ctx = &task[1];
    *(ngx_http_webtorch_deferred_t *) task->ctx = *d;

    task->handler = ngx_http_webtorch_deferred_thread;
    task->event.data = task;
    task->event.handler = ngx_http_webtorch_deferred_post_handler;
    task->event.log = d->log;

    /*
     * A mapping keeps its file until nginx has closed that, so that its pages
     * are freed in the thread, too.
     */

    ngx_post_event(&task->event, &ngx_posted_events);
}


static void
ngx_http_webtorch_deferred_post_handler(ngx_event_t *ev)
{
    ngx_thread_task_t             *task;
    ngx_http_webtorch_deferred_t  *d;

    task = ev->data;
    d = task->ctx;

    ev->handler = ngx_http_webtorch_deferred_event_handler;

    if (ngx_thread_task_post(d->thread_pool, task) != NGX_OK) {
        d->handler(d->data);
        ngx_free(task);
    }
}


static void
ngx_http_webtorch_deferred_thread(void *data, ngx_log_t *log)
{
    ngx_http_webtorch_deferred_t *d = data;

    d->handler(d->data);
}


static void
ngx_http_webtorch_deferred_event_handler(ngx_event_t *ev)
{
    ngx_free(ev->data);
}

#else

ngx_uint_t
ngx_http_webtorch_thread_allowed(ngx_http_request_t *r)
{
    return 0;
}


void
ngx_http_webtorch_defer_cleanup(ngx_http_request_t *r, ngx_pool_cleanup_t *cln,
    size_t size)
{
    /* void */
}

#endif
