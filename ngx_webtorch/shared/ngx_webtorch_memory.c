
/*
 * webtorch_worker_memory: a worker that outgrows it, for example as a handler
 * leaks, exits gracefully, and the master starts another one.  Workers do so
 * one at a time.
 */

#include "ngx_webtorch_memory.h"
#include "ngx_webtorch_graceful.h"
#include "ngx_webtorch_leave.h"
#include "ngx_webtorch_resident.h"
#include "ngx_webtorch_timer.h"


/* poll interval, ms */
#define NGX_WEBTORCH_MEMORY_POLL  1000


static void ngx_webtorch_memory_handler(ngx_event_t *ev);


static size_t                ngx_webtorch_memory_limit;     /* bytes */
static ngx_webtorch_timer_t  ngx_webtorch_memory_timer;


void
ngx_webtorch_memory_init(ngx_webtorch_conf_t *conf, ngx_log_t *log)
{
    size_t                 resident;
    ngx_webtorch_timer_t  *timer;

    if (conf->worker_memory == NGX_CONF_UNSET_SIZE
        || ngx_process != NGX_PROCESS_WORKER)
    {
        return;
    }

    ngx_webtorch_memory_limit = conf->worker_memory;

    resident = ngx_webtorch_resident(log);

    if (resident > conf->worker_memory) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "\"webtorch_worker_memory\" is less than the %uzk that "
                      "a worker begins with, and is ignored",
                      resident / 1024);
        return;
    }

    timer = &ngx_webtorch_memory_timer;

    ngx_webtorch_timer_init(timer, ngx_webtorch_memory_handler, NULL, log);
    timer->event.cancelable = 1;

    ngx_add_timer(&timer->event, NGX_WEBTORCH_MEMORY_POLL);
}


static void
ngx_webtorch_memory_handler(ngx_event_t *ev)
{
    size_t  resident;

    if (ngx_exiting) {
        return;
    }

    resident = ngx_webtorch_resident(ev->log);

    if (resident > ngx_webtorch_memory_limit
        && ngx_webtorch_graceful_may_leave())
    {
        ngx_log_error(NGX_LOG_WARN, ev->log, 0,
                      "the worker has %uzk of memory, which is above "
                      "\"webtorch_worker_memory\", and is replaced",
                      resident / 1024);

        ngx_webtorch_leave(ev->log);
        return;
    }

    ngx_add_timer(ev, NGX_WEBTORCH_MEMORY_POLL);
}
