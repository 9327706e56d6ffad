
/*
 * webtorch_worker_memory: a worker that outgrows it, for example as a handler
 * leaks, exits gracefully, and the master starts another one.  Workers do so
 * one at a time.
 */

#include "ngx_webtorch_memory.h"
#include "ngx_webtorch_handover.h"
#include "ngx_webtorch_leave.h"
#include "ngx_webtorch_timer.h"


/* poll interval, ms */
#define NGX_WEBTORCH_MEMORY_POLL  1000


static void ngx_webtorch_memory_handler(ngx_event_t *ev);
static size_t ngx_webtorch_memory_resident(ngx_log_t *log);


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

    resident = ngx_webtorch_memory_resident(log);

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

    resident = ngx_webtorch_memory_resident(ev->log);

    if (resident > ngx_webtorch_memory_limit
        && ngx_webtorch_handover_may_leave())
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


/* bytes of resident memory, shared memory included; 0: unknown */

static size_t
ngx_webtorch_memory_resident(ngx_log_t *log)
{
    char      text[64], *p;
    ssize_t   n;
    ngx_fd_t  fd;

    fd = ngx_open_file("/proc/self/statm", NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_errno,
                      ngx_open_file_n " \"/proc/self/statm\" failed");
        return 0;
    }

    n = ngx_read_fd(fd, text, sizeof(text) - 1);

    (void) ngx_close_file(fd);

    if (n <= 0) {
        return 0;
    }

    text[n] = '\0';

    /* numbers of pages: all, resident, ... */

    p = ngx_strchr(text, ' ');

    return p ? (size_t) strtoul(p, NULL, 10) * ngx_pagesize : 0;
}
