
/*
 * A timer in each worker.  It undoes the step that another worker was making
 * when it exited: nginx does not replace workers that were shutting down, and
 * requests must not be served from half of a step until a worker trains.
 *
 * It also takes models that were replaced: a worker without batches would keep
 * the block before in use, and the next one would have no space.
 */

#include "ngx_webtorch_upkeep.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_timer.h"
#include "ngx_webtorch_training.h"


/* poll interval, ms */
#define NGX_WEBTORCH_UPKEEP_POLL  200


static void ngx_webtorch_upkeep_handler(ngx_event_t *ev);
static void ngx_webtorch_upkeep_refresh(void);


/* shared->swaps when this worker took models last */
static uint64_t              ngx_webtorch_upkeep_swaps;

static ngx_webtorch_timer_t  ngx_webtorch_upkeep_timer;


void
ngx_webtorch_upkeep_init(ngx_log_t *log)
{
    ngx_webtorch_timer_t  *timer;

    if (ngx_webtorch_zone.size == 0) {
        return;
    }

    /* the worker that nginx starts for one that exited does it at once */
    ngx_webtorch_training_recover();

    ngx_webtorch_upkeep_swaps = ngx_webtorch_zone.shared->swaps;

    timer = &ngx_webtorch_upkeep_timer;

    ngx_webtorch_timer_init(timer, ngx_webtorch_upkeep_handler, NULL, log);
    timer->event.cancelable = 1;

    ngx_add_timer(&timer->event, NGX_WEBTORCH_UPKEEP_POLL);
}


static void
ngx_webtorch_upkeep_handler(ngx_event_t *ev)
{
    ngx_webtorch_training_recover();
    ngx_webtorch_upkeep_refresh();

    ngx_add_timer(ev, NGX_WEBTORCH_UPKEEP_POLL);
}


static void
ngx_webtorch_upkeep_refresh(void)
{
    uint64_t  swaps;

    swaps = ngx_webtorch_zone.shared->swaps;

    if (swaps != ngx_webtorch_upkeep_swaps
        && ngx_webtorch_python_refresh() == NGX_OK)
    {
        ngx_webtorch_upkeep_swaps = swaps;
    }
}
