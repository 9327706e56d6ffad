
/*
 * A reload without a pause: the master makes old workers quit 100 ms after it
 * has started the new ones, but to import a model may take longer, and
 * meanwhile no process would accept connections.  So an old worker that is to
 * quit continues to serve until all new ones have reached their event loops.
 */

#include "ngx_webtorch_graceful.h"
#include "ngx_webtorch_robust.h"
#include "ngx_webtorch_timer.h"
#include "ngx_webtorch_worker.h"

#include <ngx_event.h>
#include <ngx_channel.h>


/* poll interval, ms */
#define NGX_WEBTORCH_GRACEFUL_POLL  5

/* how long old workers wait for the new ones, and for the first of them, ms */
#define NGX_WEBTORCH_GRACEFUL_TIME  60000
#define NGX_WEBTORCH_GRACEFUL_NONE  2000


typedef struct {
    ngx_webtorch_timer_t         timer;
    ngx_msec_t                   begun;
    ngx_event_handler_pt         channel; /* nginx's handler of the master's
                                             commands */
    uint64_t                     generation;
} ngx_webtorch_graceful_t;


static void ngx_webtorch_graceful_begin(ngx_event_t *ev);
static void ngx_webtorch_graceful_channel(ngx_event_t *ev);
static void ngx_webtorch_graceful_poll(ngx_event_t *ev);
static ngx_uint_t ngx_webtorch_graceful_count(ngx_uint_t *started);


static ngx_webtorch_graceful_t  ngx_webtorch_graceful;


void
ngx_webtorch_graceful_announce(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_core_conf_t             *ccf;
    ngx_webtorch_shared_zone_t  *shared;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    shared = conf->zone->shared;

    shared->nworkers = (uint32_t) ccf->worker_processes;
    shared->previous = shared->in_force;
    shared->in_force = conf->generation;
}


void
ngx_webtorch_graceful_init(ngx_webtorch_conf_t *conf, ngx_log_t *log)
{
    ngx_webtorch_timer_t  *timer;

    if (ngx_process != NGX_PROCESS_WORKER) {
        return;
    }

    ngx_webtorch_graceful.generation = conf->generation;

    /*
     * It expires in the first turn of the event loop.  The channel is opened
     * before that, after modules are initialized.
     */

    timer = &ngx_webtorch_graceful.timer;

    ngx_webtorch_timer_init(timer, ngx_webtorch_graceful_begin, NULL, log);
    timer->event.cancelable = 1;

    ngx_add_timer(&timer->event, 0);
}


static void
ngx_webtorch_graceful_begin(ngx_event_t *ev)
{
    ngx_uint_t         i;
    ngx_connection_t  *c;

    ngx_webtorch_worker_ready();

    for (i = 0; i < ngx_cycle->connection_n; i++) {
        c = &ngx_cycle->connections[i];

        if (c->fd == ngx_channel && c->read->channel) {
            ngx_webtorch_graceful.channel = c->read->handler;
            c->read->handler = ngx_webtorch_graceful_channel;
            return;
        }
    }
}


/* a worker waits only in a reload: then a later configuration is in force */

static void
ngx_webtorch_graceful_channel(ngx_event_t *ev)
{
    ngx_webtorch_graceful.channel(ev);

    if (!ngx_quit
        || !ngx_webtorch_graceful_begun()
        || ngx_webtorch_graceful_ready())
    {
        return;
    }

    ngx_quit = 0;

    ev = &ngx_webtorch_graceful.timer.event;

    if (!ev->timer_set) {
        ev->handler = ngx_webtorch_graceful_poll;
        ngx_webtorch_graceful.begun = ngx_current_msec;
        ngx_add_timer(ev, NGX_WEBTORCH_GRACEFUL_POLL);
    }
}


static void
ngx_webtorch_graceful_poll(ngx_event_t *ev)
{
    ngx_uint_t  started, ready;
    ngx_msec_t  waited;

    waited = ngx_current_msec - ngx_webtorch_graceful.begun;
    ready = ngx_webtorch_graceful_count(&started);

    if (ready >= ngx_webtorch_zone.shared->nworkers
        || waited > NGX_WEBTORCH_GRACEFUL_TIME
        || (started == 0 && waited > NGX_WEBTORCH_GRACEFUL_NONE))
    {
        ngx_quit = 1;
        return;
    }

    ngx_add_timer(ev, NGX_WEBTORCH_GRACEFUL_POLL);
}


ngx_uint_t
ngx_webtorch_graceful_ready(void)
{
    ngx_uint_t  started;

    return ngx_webtorch_graceful_count(&started)
           >= ngx_webtorch_zone.shared->nworkers;
}


ngx_uint_t
ngx_webtorch_graceful_begun(void)
{
    return ngx_webtorch_zone.shared->in_force
           > ngx_webtorch_graceful.generation;
}


ngx_uint_t
ngx_webtorch_graceful_may_leave(void)
{
    return ngx_webtorch_graceful_ready()
           && ngx_webtorch_robust_trylock(&ngx_webtorch_zone.shared->leaving)
              != NGX_BUSY;
}


/*
 * Counts started and ready workers of the configuration in force; takes no
 * lock, as a worker may hold it while it loads a model.
 */

static ngx_uint_t
ngx_webtorch_graceful_count(ngx_uint_t *started)
{
    ngx_uint_t                   i, ready;
    ngx_webtorch_slot_t         *slot;
    ngx_webtorch_shared_zone_t  *shared;

    ready = 0;
    *started = 0;
    shared = ngx_webtorch_zone.shared;

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS; i++) {
        slot = &shared->slots[i];

        if (slot->pid && slot->generation >= shared->in_force) {
            (*started)++;
            ready += slot->ready;
        }
    }

    return ready;
}
