
#include "ngx_webtorch_thread.h"


void
ngx_webtorch_thread_block_signals(sigset_t *before)
{
    sigset_t  set;

    sigfillset(&set);

    sigdelset(&set, SIGABRT);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGFPE);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGSEGV);

    (void) pthread_sigmask(SIG_BLOCK, &set, before);
}


void
ngx_webtorch_thread_restore_signals(const sigset_t *before)
{
    (void) pthread_sigmask(SIG_SETMASK, before, NULL);
}


ngx_int_t
ngx_webtorch_thread_create(pthread_t *thread, void *(*start)(void *data),
    void *data, ngx_log_t *log)
{
    int       err;
    sigset_t  before;

    ngx_webtorch_thread_block_signals(&before);

    err = pthread_create(thread, NULL, start, data);

    ngx_webtorch_thread_restore_signals(&before);

    if (err) {
        ngx_log_error(NGX_LOG_ALERT, log, err, "pthread_create() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_webtorch_thread_join(pthread_t thread, time_t timeout)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    ts.tv_sec += timeout;

    return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &ts) == 0
               ? NGX_OK : NGX_BUSY;
}
