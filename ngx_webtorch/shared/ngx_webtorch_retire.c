
#include "ngx_webtorch_retire.h"
#include "ngx_webtorch_api.h"
#include "ngx_webtorch_graceful.h"
#include "ngx_webtorch_leave.h"
#include "ngx_webtorch_timer.h"

#include <ngx_event.h>


/* ms between two tries, as one worker leaves at a time */
#define NGX_WEBTORCH_RETIRE_POLL  100


static void ngx_webtorch_retire_timer_handler(ngx_event_t *ev);


static ngx_atomic_t          ngx_webtorch_retire_flag;
static void                (*ngx_webtorch_retire_notify)(void);
static ngx_webtorch_timer_t  ngx_webtorch_retire_timer;


void
ngx_webtorch_retire_init_process(void (*notify)(void), ngx_log_t *log)
{
    ngx_webtorch_retire_notify = notify;

    ngx_webtorch_timer_init(&ngx_webtorch_retire_timer,
                            ngx_webtorch_retire_timer_handler, NULL, log);

    /* a worker that exits for another reason does not wait for it */
    ngx_webtorch_retire_timer.event.cancelable = 1;
}


/* in any thread */

void
ngx_webtorch_retire(const char *text, size_t len)
{
    if (!ngx_atomic_cmp_set(&ngx_webtorch_retire_flag, 0, 1)) {
        return;
    }

    ngx_webtorch_log(WEBTORCH_LOG_ERROR, text, len);

    ngx_webtorch_retire_notify();
}


ngx_uint_t
ngx_webtorch_retire_wanted(void)
{
    return ngx_webtorch_retire_flag != 0;
}


/*
 * The worker quits gracefully: all requests that it has are answered, and new
 * ones are accepted by other workers, or by the next one.
 */

void
ngx_webtorch_retire_handler(void)
{
    if (ngx_process != NGX_PROCESS_WORKER || ngx_exiting || ngx_quit) {
        return;
    }

    if (ngx_webtorch_graceful_may_leave()) {
        ngx_webtorch_leave_now();
        return;
    }

    if (!ngx_webtorch_retire_timer.event.timer_set) {
        ngx_add_timer(&ngx_webtorch_retire_timer.event,
                      NGX_WEBTORCH_RETIRE_POLL);
    }
}


static void
ngx_webtorch_retire_timer_handler(ngx_event_t *ev)
{
    ngx_webtorch_retire_handler();
}
