
#include "ngx_http_webtorch_thread.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_task.h"


typedef struct {
    ngx_pool_cleanup_pt       handler;
    void                     *data;
    size_t                    size;       /* bytes that are released */
    ngx_webtorch_account_t   *account;
} ngx_http_webtorch_deferred_t;


#if (NGX_THREADS)
static void ngx_http_webtorch_thread_event_handler(ngx_event_t *ev);
#endif

static void ngx_http_webtorch_deferred_cleanup(void *data);


#if (NGX_THREADS)

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

    ngx_add_timer(&task->event, NGX_HTTP_WEBTORCH_TASK_TIMEOUT);

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

    if (!ngx_http_webtorch_task_complete(ev, "a body")) {
        return;
    }

    r->main->blocked--;
    r->aio = 0;

    /* the request's own handler, or nginx's, which ends an aborted request */

    r->write_event_handler(r);

    ngx_http_run_posted_requests(c);
}


#else

ngx_uint_t
ngx_http_webtorch_thread_allowed(ngx_http_request_t *r)
{
    return 0;
}

#endif


void
ngx_http_webtorch_defer_cleanup(ngx_http_request_t *r, ngx_pool_cleanup_t *cln,
    size_t size)
{
    ngx_http_webtorch_ctx_t       *ctx;
    ngx_http_webtorch_deferred_t  *d;

    if (size < NGX_WEBTORCH_LARGE_SIZE) {
        return;
    }

    d = ngx_palloc(r->pool, sizeof(ngx_http_webtorch_deferred_t));
    if (d == NULL) {
        return;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);

    d->handler = cln->handler;
    d->data = cln->data;
    d->size = size;
    d->account = &ctx->account;

    cln->handler = ngx_http_webtorch_deferred_cleanup;
    cln->data = d;
}


/* the thread's count replaces that of the account, which may have less */

static void
ngx_http_webtorch_deferred_cleanup(void *data)
{
    ngx_http_webtorch_deferred_t *d = data;

    size_t  size;

    size = ngx_min(d->size, d->account->held);

    ngx_webtorch_defer(d->handler, d->data, size);
    ngx_webtorch_queue_release(d->account, size);
}
