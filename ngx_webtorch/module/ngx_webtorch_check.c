
/*
 * A child, forked from the process that has preloaded torch, imports the
 * handlers like a worker and reports their schemas through a pipe.  The parent
 * imports none of the user's code, so that a reload finds the code that is on
 * disk by then.  What of torch all workers will need is imported by the parent,
 * once.
 */

#include "ngx_webtorch_check.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_fork.h"
#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_tensor.h"
#include "ngx_webtorch_block.h"
#include "ngx_webtorch_plan.h"
#include "ngx_webtorch_zone.h"

#include <poll.h>
#include <sys/wait.h>


/* ms for all handlers; the master waits meanwhile */
#define NGX_WEBTORCH_CHECK_TIMEOUT  60000


typedef struct {
    ngx_int_t          rc;
    webtorch_schema_t  schema;
    ngx_uint_t         dynamo;        /* all handlers have been imported */
    char               error[NGX_WEBTORCH_MESSAGE_LEN];
} ngx_webtorch_report_t;


static ngx_int_t ngx_webtorch_check_child(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf, ngx_fd_t fd);
static void ngx_webtorch_check_zone(ngx_webtorch_conf_t *conf,
    ngx_webtorch_report_t *report);
static ngx_int_t ngx_webtorch_check_dynamo(ngx_cycle_t *cycle,
    ngx_webtorch_report_t *report);
static ngx_int_t ngx_webtorch_check_user(ngx_cycle_t *cycle, char *error);
static void ngx_webtorch_check_directory(ngx_cycle_t *cycle);
static void ngx_webtorch_check_signals(void);
static ngx_int_t ngx_webtorch_check_write(ngx_fd_t fd,
    ngx_webtorch_report_t *report);
static ngx_int_t ngx_webtorch_check_parent(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf, ngx_fd_t fd, ngx_pid_t pid);
static ngx_int_t ngx_webtorch_check_handler(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler, ngx_webtorch_report_t *report);
static ngx_int_t ngx_webtorch_check_threads(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);
static ngx_int_t ngx_webtorch_check_device(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler, ngx_uint_t threads);
static ngx_int_t ngx_webtorch_check_coroutine(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);
static ngx_int_t ngx_webtorch_check_read(ngx_fd_t fd, ngx_msec_t end,
    ngx_webtorch_report_t *report);
static void ngx_webtorch_check_log_exit(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler, ngx_int_t rc, int status);


ngx_int_t
ngx_webtorch_check(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_fd_t   fd[2];
    ngx_int_t  rc;
    ngx_pid_t  pid;

    if (pipe(fd) == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno, "pipe() failed");
        return NGX_ERROR;
    }

    pid = fork();

    switch (pid) {

    case -1:
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno, "fork() failed");
        (void) close(fd[0]);
        (void) close(fd[1]);
        return NGX_ERROR;

    case 0:
        (void) close(fd[0]);
        _exit(ngx_webtorch_check_child(cycle, conf, fd[1]) == NGX_OK ? 0 : 1);

    default:
        break;
    }

    (void) close(fd[1]);

    rc = ngx_webtorch_check_parent(cycle, conf, fd[0], pid);

    (void) close(fd[0]);

    return rc;
}


static ngx_int_t
ngx_webtorch_check_child(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf,
    ngx_fd_t fd)
{
    ngx_uint_t                i;
    ngx_webtorch_report_t     report;
    ngx_webtorch_handler_t  **handler;

    ngx_webtorch_check_signals();

    if (ngx_webtorch_fork_init(cycle->log) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_memzero(&report, sizeof(ngx_webtorch_report_t));

    report.rc = ngx_webtorch_check_user(cycle, report.error);

    /* as workers have them */

    ngx_webtorch_check_directory(cycle);

    /* bytecode of the user's modules */
    (void) ngx_webtorch_python_restrict(S_IWGRP|S_IWOTH);

    if (ngx_set_environment(cycle, NULL) == NULL) {
        return NGX_ERROR;
    }

    if (report.rc == NGX_OK) {
        report.rc = ngx_webtorch_python_child(conf, report.error);
    }

    if (report.rc != NGX_OK) {
        return ngx_webtorch_check_write(fd, &report);
    }

    ngx_webtorch_zone_use(conf, cycle->log);
    ngx_webtorch_block_init();

    if (ngx_webtorch_plan_init(cycle->log) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_webtorch_python_begin(conf, 1, NULL, ngx_webtorch_block_replaced);

    handler = conf->handlers.elts;

    for (i = 0; i < conf->handlers.nelts; i++) {
        report.rc = ngx_webtorch_python_load(handler[i], &report.schema,
                                             report.error);

        if (ngx_webtorch_check_write(fd, &report) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    report.dynamo = ngx_webtorch_python_has_dynamo();

    ngx_webtorch_check_zone(conf, &report);

    return ngx_webtorch_check_write(fd, &report);
}


/* reports an error if the zone has no room for the models */

static void
ngx_webtorch_check_zone(ngx_webtorch_conf_t *conf,
    ngx_webtorch_report_t *report)
{
    size_t   needed;
    u_char  *last;

    needed = ngx_webtorch_plan_needed();

    if (needed == 0) {
        return;
    }

    report->rc = NGX_ERROR;

    last = ngx_snprintf((u_char *) report->error, NGX_WEBTORCH_MESSAGE_LEN - 1,
                        "\"webtorch_zone\" %V of %uz bytes is too small, "
                        "the models need %uzk at least",
                        &conf->zone_name, conf->zone_size,
                        (needed + 1023) / 1024);
    *last = '\0';
}


/*
 * Becomes the workers' user, like ngx_worker_process_init(): a file that they
 * may not read is an error of the check, too.
 */

static ngx_int_t
ngx_webtorch_check_user(ngx_cycle_t *cycle, char *error)
{
    u_char           *last;
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (geteuid() != 0) {
        return NGX_OK;
    }

    if (setgid(ccf->group) == -1
        || initgroups(ccf->username, ccf->group) == -1
        || setuid(ccf->user) == -1)
    {
        last = ngx_snprintf((u_char *) error, NGX_WEBTORCH_MESSAGE_LEN - 1,
                            "could not become user \"%s\"", ccf->username);
        *last = '\0';

        return NGX_ERROR;
    }

    return NGX_OK;
}


/* a directory that does not exist is reported by the workers, which stay */

static void
ngx_webtorch_check_directory(ngx_cycle_t *cycle)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ccf->working_directory.len) {
        (void) !chdir((char *) ccf->working_directory.data);
    }
}


/* the user's code runs without nginx's signal handlers and mask */

static void
ngx_webtorch_check_signals(void)
{
    int       signo;
    sigset_t  set;

    for (signo = 1; signo < NSIG; signo++) {
        if (signo != SIGPIPE) {
            (void) signal(signo, SIG_DFL);
        }
    }

    sigemptyset(&set);
    (void) sigprocmask(SIG_SETMASK, &set, NULL);
}


static ngx_int_t
ngx_webtorch_check_write(ngx_fd_t fd, ngx_webtorch_report_t *report)
{
    char     *p;
    size_t    left;
    ssize_t   n;

    p = (char *) report;

    for (left = sizeof(ngx_webtorch_report_t); left; left -= (size_t) n) {
        n = write(fd, p, left);

        if (n == -1) {
            return NGX_ERROR;
        }

        p += n;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_check_parent(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf,
    ngx_fd_t fd, ngx_pid_t pid)
{
    int                       status;
    ngx_int_t                 rc;
    ngx_msec_t                end;
    ngx_uint_t                i;
    ngx_webtorch_report_t    *report;
    ngx_webtorch_handler_t  **handler;

    report = ngx_palloc(cycle->pool, sizeof(ngx_webtorch_report_t));
    if (report == NULL) {
        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, &status, 0);
        return NGX_ERROR;
    }

    rc = NGX_OK;
    handler = conf->handlers.elts;

    /* ngx_current_msec only advances with ngx_time_update() here */

    end = (ngx_msec_t) (ngx_webtorch_clock_usec() / 1000)
          + NGX_WEBTORCH_CHECK_TIMEOUT;

    /* a report for each handler, and one for the memory of all models */

    for (i = 0; i <= conf->handlers.nelts; i++) {

        rc = ngx_webtorch_check_read(fd, end, report);

        ngx_time_update();

        if (rc != NGX_OK) {
            break;
        }

        if (i < conf->handlers.nelts) {
            rc = ngx_webtorch_check_handler(cycle, handler[i], report);

        } else if (report->rc != NGX_OK) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "%s", report->error);
            rc = NGX_ERROR;
        }

        if (rc != NGX_OK) {
            break;
        }
    }

    (void) kill(pid, SIGKILL);

    while (waitpid(pid, &status, 0) == -1 && ngx_errno == NGX_EINTR) {
        /* void */
    }

    if (rc == NGX_DECLINED || rc == NGX_AGAIN) {
        i = ngx_min(i, conf->handlers.nelts - 1);
        ngx_webtorch_check_log_exit(cycle, handler[i], rc, status);
    }

    return rc == NGX_OK ? ngx_webtorch_check_dynamo(cycle, report) : NGX_ERROR;
}


/* no worker follows "nginx -t" */

static ngx_int_t
ngx_webtorch_check_dynamo(ngx_cycle_t *cycle, ngx_webtorch_report_t *report)
{
    if (ngx_test_config || !report->dynamo) {
        return NGX_OK;
    }

    if (ngx_webtorch_python_import_dynamo(report->error) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "webtorch: %s",
                      report->error);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_check_handler(ngx_cycle_t *cycle, ngx_webtorch_handler_t *handler,
    ngx_webtorch_report_t *report)
{
    if (report->rc != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": %s in %V:%ui",
                      &handler->name, report->error,
                      &handler->file, handler->line);
        return NGX_ERROR;
    }

    if (ngx_webtorch_schema_valid(&report->schema) != 0) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\" has too large a row in %V:%ui",
                      &handler->name, &handler->file, handler->line);
        return NGX_ERROR;
    }

    handler->schema = report->schema;

    if (ngx_webtorch_check_threads(cycle, handler) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_webtorch_handler_adapt(handler);

    return handler->check ? handler->check(cycle, handler) : NGX_OK;
}


/* the directive's number is used before the decorator's, unless that is 1 */

static ngx_int_t
ngx_webtorch_check_threads(ngx_cycle_t *cycle, ngx_webtorch_handler_t *handler)
{
    ngx_uint_t  n, own;

    if (handler->schema.coroutine) {
        return ngx_webtorch_check_coroutine(cycle, handler);
    }

    own = handler->schema.threads;
    n = handler->threads ? handler->threads : own;

    if (n > 1 && own == 1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": \"threads=%ui\" conflicts "
                      "with \"threads=1\" of its decorator in %V:%ui",
                      &handler->name, n, &handler->file, handler->line);
        return NGX_ERROR;
    }

    if (ngx_webtorch_check_device(cycle, handler, n) != NGX_OK) {
        return NGX_ERROR;
    }

    if (n > 1
        && handler->schema.kind != WEBTORCH_HANDLER
        && !ngx_webtorch_handler_on_device(handler))
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\" takes the rows of many requests "
                      "in one call: \"threads=%ui\" is for functions under "
                      "@webtorch.handler in %V:%ui",
                      &handler->name, n, &handler->file, handler->line);
        return NGX_ERROR;
    }

    if (n && handler->mode == NGX_WEBTORCH_MODE_INLINE) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": \"mode=inline\" conflicts "
                      "with \"threads=%ui\" in %V:%ui",
                      &handler->name, n, &handler->file, handler->line);
        return NGX_ERROR;
    }

    /* the items of a generator that were fast say nothing about the next */

    if (n == 1
        || ((handler->schema.stream & WEBTORCH_STREAM_ITEMS)
            && handler->mode == NGX_WEBTORCH_MODE_AUTO))
    {
        handler->mode = NGX_WEBTORCH_MODE_THREAD;
    }

    /* a stream's own functions of requests */
    handler->life_threads = n ? n : NGX_WEBTORCH_THREADS;

    handler->threads = n ? n : ngx_webtorch_handler_threads(handler);

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_check_device(ngx_cycle_t *cycle, ngx_webtorch_handler_t *handler,
    ngx_uint_t threads)
{
    ngx_uint_t  max;

    if (handler->owner
        && handler->mode == NGX_WEBTORCH_MODE_INLINE
        && (handler->schema.kind == WEBTORCH_INFER
            || handler->schema.kind == WEBTORCH_TRAIN))
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": \"mode=inline\" conflicts "
                      "with \"owner\" of \"webtorch_device\", for which the "
                      "event loop would wait, in %V:%ui",
                      &handler->name, &handler->file, handler->line);
        return NGX_ERROR;
    }

    if (!ngx_webtorch_handler_on_device(handler)) {
        return NGX_OK;
    }

    if (handler->mode == NGX_WEBTORCH_MODE_INLINE) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": \"mode=inline\" conflicts "
                      "with device \"%s\", for which the event loop would "
                      "wait, in %V:%ui",
                      &handler->name, handler->schema.device,
                      &handler->file, handler->line);
        return NGX_ERROR;
    }

    max = (handler->schema.kind == WEBTORCH_INFER)
              ? NGX_WEBTORCH_DEVICE_MAX_THREADS : 1;

    if (threads > max) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": \"threads=%ui\" is more "
                      "than the %ui that a function on device \"%s\" may "
                      "have in %V:%ui",
                      &handler->name, threads, max, handler->schema.device,
                      &handler->file, handler->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_check_coroutine(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler)
{
    if (handler->threads || handler->mode != NGX_WEBTORCH_MODE_AUTO) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\" is a coroutine (\"async def\"), "
                      "which runs in asyncio's loop: \"threads=\" and "
                      "\"mode=\" cannot be set in %V:%ui",
                      &handler->name, &handler->file, handler->line);
        return NGX_ERROR;
    }

    handler->mode = NGX_WEBTORCH_MODE_THREAD;
    handler->threads = 1;

    return NGX_OK;
}


/* NGX_DECLINED: the child exited, NGX_AGAIN: no time is left */

static ngx_int_t
ngx_webtorch_check_read(ngx_fd_t fd, ngx_msec_t end,
    ngx_webtorch_report_t *report)
{
    int             ready;
    char           *p;
    size_t          left;
    ssize_t         n;
    ngx_msec_int_t  timeout;
    struct pollfd   pfd;

    p = (char *) report;
    left = sizeof(ngx_webtorch_report_t);

    pfd.fd = fd;
    pfd.events = POLLIN;

    while (left) {
        timeout = (ngx_msec_int_t) (end - (ngx_msec_t)
                                          (ngx_webtorch_clock_usec() / 1000));

        ready = poll(&pfd, 1, timeout > 0 ? (int) timeout : 0);

        if (ready == -1 && ngx_errno == NGX_EINTR) {
            continue;
        }

        if (ready == 0) {
            return NGX_AGAIN;
        }

        n = read(fd, p, left);

        if (n <= 0) {
            return NGX_DECLINED;
        }

        p += n;
        left -= (size_t) n;
    }

    return NGX_OK;
}


static void
ngx_webtorch_check_log_exit(ngx_cycle_t *cycle, ngx_webtorch_handler_t *handler,
    ngx_int_t rc, int status)
{
    if (rc == NGX_AGAIN) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\" did not load within %ui s "
                      "in %V:%ui",
                      &handler->name,
                      (ngx_uint_t) NGX_WEBTORCH_CHECK_TIMEOUT / 1000,
                      &handler->file, handler->line);

    } else if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\" crashed on signal %d while "
                      "it was loaded in %V:%ui",
                      &handler->name, WTERMSIG(status),
                      &handler->file, handler->line);

    } else {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\" ended the process while it was "
                      "loaded in %V:%ui",
                      &handler->name, &handler->file, handler->line);
    }
}
