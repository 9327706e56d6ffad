
/*
 * The stack is written by faulthandler in a signal, which neither needs the GIL
 * nor waits for the call.  A thread that has returned meanwhile writes an empty
 * stack.
 */

#include "ngx_webtorch_slow.h"
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_log.h"


/* microseconds between two messages of a handler */
#define NGX_WEBTORCH_SLOW_INTERVAL  1000000

/* bytes of the sizes of all axes */
#define NGX_WEBTORCH_SLOW_SIZES                                               \
    (WEBTORCH_MAX_AXES * (WEBTORCH_NAME_LEN + NGX_INT64_LEN + 4))


static u_char *ngx_webtorch_slow_sizes(ngx_webtorch_batch_t *batch, u_char *p,
    u_char *last);


ngx_msec_t
ngx_webtorch_slow_time(ngx_webtorch_handler_t *handler)
{
    if (handler->stuck && handler->slow) {
        return ngx_min(handler->stuck, handler->slow);
    }

    return handler->stuck ? handler->stuck : handler->slow;
}


void
ngx_webtorch_slow_watch(void)
{
    sigset_t  set;

    sigemptyset(&set);
    sigaddset(&set, NGX_WEBTORCH_SLOW_SIGNAL);
    (void) pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}


/*
 * The batch may have ended meanwhile: its memory is never freed, and numbers of
 * the next one do no harm.  The thread lives as long as the worker serves, and
 * the thread that calls this has exited before.
 */

void
ngx_webtorch_slow_report(ngx_webtorch_caller_t *caller, uint64_t elapsed)
{
    u_char                 *p, *last, text[NGX_WEBTORCH_SLOW_SIZES + 128];
    uint64_t                now;
    ngx_webtorch_batch_t   *batch;
    ngx_webtorch_runner_t  *runner;

    runner = caller->runner;
    batch = caller->batch;
    now = ngx_webtorch_clock_usec();

    if (runner->slow_logged
        && ngx_webtorch_elapsed_usec(now, runner->slow_logged)
           < NGX_WEBTORCH_SLOW_INTERVAL)
    {
        runner->nslow++;
        return;
    }

    p = text;
    last = text + sizeof(text);

    if (batch) {
        p = ngx_slprintf(p, last, " with %uD rows of %uD requests, %uz bytes",
                         batch->api.rows, batch->api.njobs, batch->held);
        p = ngx_webtorch_slow_sizes(batch, p, last);
    }

    if (runner->nslow) {
        p = ngx_slprintf(p, last, ", after %ui more that were slow",
                         runner->nslow);
    }

    ngx_webtorch_log_error(NGX_LOG_WARN, runner->log, 0,
                           "webtorch handler \"%V\" is slow: its call runs for "
                           "%uL ms%*s; the stack of its thread follows",
                           &runner->handler->name, elapsed / 1000,
                           (size_t) (p - text), text);

    runner->slow_logged = now;
    runner->nslow = 0;

    (void) pthread_kill(caller->thread, NGX_WEBTORCH_SLOW_SIGNAL);
}


static u_char *
ngx_webtorch_slow_sizes(ngx_webtorch_batch_t *batch, u_char *p, u_char *last)
{
    uint32_t            i;
    webtorch_schema_t  *schema;

    schema = &batch->runner->handler->schema;

    for (i = 0; i < schema->nbound; i++) {
        p = ngx_slprintf(p, last, ", %s %L", schema->axes[i],
                         batch->api.sizes[i]);
    }

    return p;
}
