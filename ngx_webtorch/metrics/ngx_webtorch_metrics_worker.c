
#include "ngx_webtorch_metrics_worker.h"
#include "ngx_webtorch_clock.h"
#include "ngx_webtorch_resident.h"
#include "ngx_webtorch_timer.h"


/* ms between two measurements */
#define NGX_WEBTORCH_METRICS_TICK  500


static void ngx_webtorch_metrics_tick_handler(ngx_event_t *ev);


/* when the timer expires, us of the clock */
static uint64_t              ngx_webtorch_metrics_due;

static ngx_webtorch_timer_t  ngx_webtorch_metrics_timer;


void
ngx_webtorch_metrics_worker_init(ngx_log_t *log)
{
    ngx_webtorch_timer_t  *timer;

    if (ngx_webtorch_metrics_own == NULL) {
        return;
    }

    ngx_webtorch_metrics_set(&ngx_webtorch_metrics_own->worker.memory,
                             ngx_webtorch_resident(log));

    timer = &ngx_webtorch_metrics_timer;

    ngx_webtorch_timer_init(timer, ngx_webtorch_metrics_tick_handler, NULL,
                            log);
    timer->event.cancelable = 1;

    ngx_webtorch_metrics_due = 0;

    ngx_add_timer(&timer->event, NGX_WEBTORCH_METRICS_TICK);
}


/*
 * The timers of nginx have milliseconds, and a cached time from which they are
 * set; so a lag is known to about a millisecond.  The first tick is not judged,
 * as handlers are imported before the event loop begins.
 */

static void
ngx_webtorch_metrics_tick_handler(ngx_event_t *ev)
{
    uint64_t                        now, late;
    ngx_webtorch_metrics_worker_t  *worker;

    worker = &ngx_webtorch_metrics_own->worker;
    now = ngx_webtorch_clock_usec();

    if (ngx_webtorch_metrics_due) {
        late = ngx_webtorch_elapsed_usec(now, ngx_webtorch_metrics_due);

        ngx_webtorch_metrics_set(&worker->late, late);
        ngx_webtorch_metrics_observe(&worker->lag, late);
    }

    ngx_webtorch_metrics_set(&worker->memory, ngx_webtorch_resident(ev->log));

    ngx_webtorch_metrics_due = now + NGX_WEBTORCH_METRICS_TICK * 1000;

    ngx_add_timer(ev, NGX_WEBTORCH_METRICS_TICK);
}
