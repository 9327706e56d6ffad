
#include "ngx_webtorch_batch_private.h"
#include "ngx_webtorch_clock.h"


/* least time between two samples of a thread, microseconds */
#define NGX_WEBTORCH_CALLER_INTERVAL   200

/* it computes if it used more than this part of the time between them */
#define NGX_WEBTORCH_CALLER_SHARE      8


static ngx_uint_t ngx_webtorch_caller_computes(ngx_webtorch_caller_t *caller,
    uint64_t now);
static uint64_t ngx_webtorch_caller_used(ngx_webtorch_caller_t *caller);


static ngx_webtorch_caller_t  *ngx_webtorch_callers;


void
ngx_webtorch_caller_begin(ngx_webtorch_caller_t *caller,
    ngx_webtorch_batch_t *batch)
{
    caller->thread = pthread_self();
    caller->batch = batch;

    (void) __atomic_fetch_add(&caller->ncalls, 1, __ATOMIC_RELAXED);

    if (caller->runner->handler->stuck || caller->runner->handler->slow) {
        __atomic_store_n(&caller->since, ngx_webtorch_clock_usec(),
                         __ATOMIC_RELEASE);
    }
}


void
ngx_webtorch_caller_end(ngx_webtorch_caller_t *caller)
{
    __atomic_store_n(&caller->since, 0, __ATOMIC_RELEASE);

    (void) __atomic_fetch_add(&caller->ncalls, 1, __ATOMIC_RELAXED);
}


ngx_uint_t
ngx_webtorch_caller_is_stuck(ngx_webtorch_caller_t *caller)
{
    uint64_t  since;

    since = __atomic_load_n(&caller->since, __ATOMIC_ACQUIRE);

    return since
           && __atomic_load_n(&caller->reported, __ATOMIC_ACQUIRE) == since;
}


void
ngx_webtorch_caller_watch(ngx_webtorch_caller_t *caller)
{
    if (pthread_getcpuclockid(caller->thread, &caller->clock) != 0) {
        caller->unknown = 1;
    }

    caller->next = ngx_webtorch_callers;
    ngx_webtorch_callers = caller;
}


ngx_uint_t
ngx_webtorch_callers_compute(void)
{
    uint64_t                now;
    ngx_uint_t              computes;
    ngx_webtorch_caller_t  *caller;

    now = 0;
    computes = 0;

    /* all are sampled, so that samples are recent when the next call begins */

    for (caller = ngx_webtorch_callers; caller; caller = caller->next) {

        if (!(__atomic_load_n(&caller->ncalls, __ATOMIC_RELAXED) & 1)) {
            continue;
        }

        if (now == 0) {
            now = ngx_webtorch_clock_usec();
        }

        computes |= ngx_webtorch_caller_computes(caller, now);
    }

    return computes;
}


static ngx_uint_t
ngx_webtorch_caller_computes(ngx_webtorch_caller_t *caller, uint64_t now)
{
    uint64_t  call, used, passed;

    if (caller->unknown) {
        return 1;
    }

    call = __atomic_load_n(&caller->ncalls, __ATOMIC_RELAXED);
    passed = ngx_webtorch_elapsed_usec(now, caller->sampled);

    if (caller->sampled && call == caller->call
        && passed < NGX_WEBTORCH_CALLER_INTERVAL)
    {
        return caller->computes;
    }

    used = ngx_webtorch_caller_used(caller);

    caller->computes = (caller->sampled == 0
                        || call != caller->call
                        || (used - caller->used) * NGX_WEBTORCH_CALLER_SHARE
                           > passed);
    caller->call = call;
    caller->used = used;
    caller->sampled = now;

    return caller->computes;
}


static uint64_t
ngx_webtorch_caller_used(ngx_webtorch_caller_t *caller)
{
    struct timespec  ts;

    if (clock_gettime(caller->clock, &ts) == -1) {
        caller->unknown = 1;
        return caller->used;
    }

    return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}
