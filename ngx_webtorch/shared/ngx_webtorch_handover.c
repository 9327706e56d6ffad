
/*
 * A reload that nobody waits for: the master tells old workers to quit 100 ms
 * after it has started the new ones, but importing a model may take longer, and
 * meanwhile nobody would accept connections.  So an old worker that is told to
 * quit goes on until all new ones have reached their event loops.
 */

#include "ngx_webtorch_timer.h"
#include "ngx_webtorch_zone.h"

#include <ngx_event.h>
#include <ngx_channel.h>


/* between looks at whether the new workers are there, in milliseconds */
#define NGX_WEBTORCH_HANDOVER_POLL  5

/* how long they are waited for, and as long as there is none of them */
#define NGX_WEBTORCH_HANDOVER_TIME  60000
#define NGX_WEBTORCH_HANDOVER_NONE  2000


typedef struct {
    ngx_webtorch_timer_t         timer;
    ngx_msec_t                   begun;
    ngx_event_handler_pt         channel; /* nginx's handler of the master */
    ngx_webtorch_shared_zone_t  *shared;
    uint64_t                     generation;
} ngx_webtorch_handover_t;


static void ngx_webtorch_handover_begin(ngx_event_t *ev);
static void ngx_webtorch_handover_channel(ngx_event_t *ev);
static void ngx_webtorch_handover_poll(ngx_event_t *ev);
static ngx_uint_t ngx_webtorch_handover_count(
    ngx_webtorch_shared_zone_t *shared, ngx_uint_t *there);


static ngx_webtorch_handover_t  ngx_webtorch_handover;


void
ngx_webtorch_handover_announce(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
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
ngx_webtorch_handover_init(ngx_webtorch_conf_t *conf, ngx_log_t *log)
{
    ngx_webtorch_timer_t  *timer;

    if (ngx_process != NGX_PROCESS_WORKER) {
        return;
    }

    ngx_webtorch_handover.shared = conf->zone->shared;
    ngx_webtorch_handover.generation = conf->generation;

    /* the first event of the loop; the channel is opened before */

    timer = &ngx_webtorch_handover.timer;

    ngx_webtorch_timer_init(timer, ngx_webtorch_handover_begin, NULL, log);
    timer->event.cancelable = 1;

    ngx_add_timer(&timer->event, 0);
}


static void
ngx_webtorch_handover_begin(ngx_event_t *ev)
{
    ngx_uint_t         i;
    ngx_connection_t  *c;

    ngx_webtorch_worker_ready();

    for (i = 0; i < ngx_cycle->connection_n; i++) {
        c = &ngx_cycle->connections[i];

        if (c->fd == ngx_channel && c->read->channel) {
            ngx_webtorch_handover.channel = c->read->handler;
            c->read->handler = ngx_webtorch_handover_channel;
            return;
        }
    }
}


/* only a reload is waited for: then another configuration is in force */

static void
ngx_webtorch_handover_channel(ngx_event_t *ev)
{
    ngx_webtorch_handover.channel(ev);

    if (!ngx_quit
        || ngx_webtorch_handover.shared->in_force
           <= ngx_webtorch_handover.generation
        || ngx_webtorch_handover_ready(ngx_webtorch_handover.shared))
    {
        return;
    }

    ngx_quit = 0;

    ev = &ngx_webtorch_handover.timer.event;

    if (!ev->timer_set) {
        ev->handler = ngx_webtorch_handover_poll;
        ngx_webtorch_handover.begun = ngx_current_msec;
        ngx_add_timer(ev, NGX_WEBTORCH_HANDOVER_POLL);
    }
}


static void
ngx_webtorch_handover_poll(ngx_event_t *ev)
{
    ngx_uint_t  there, ready;
    ngx_msec_t  waited;

    waited = ngx_current_msec - ngx_webtorch_handover.begun;
    ready = ngx_webtorch_handover_count(ngx_webtorch_handover.shared, &there);

    if (ready >= ngx_webtorch_handover.shared->nworkers
        || waited > NGX_WEBTORCH_HANDOVER_TIME
        || (there == 0 && waited > NGX_WEBTORCH_HANDOVER_NONE))
    {
        ngx_quit = 1;
        return;
    }

    ngx_add_timer(ev, NGX_WEBTORCH_HANDOVER_POLL);
}


ngx_uint_t
ngx_webtorch_handover_ready(ngx_webtorch_shared_zone_t *shared)
{
    ngx_uint_t  there;

    return ngx_webtorch_handover_count(shared, &there) >= shared->nworkers;
}


/*
 * Workers of the configuration in force that are in their event loops, and all
 * of them.  Without the lock, which a worker may hold that fills a model.
 */

static ngx_uint_t
ngx_webtorch_handover_count(ngx_webtorch_shared_zone_t *shared,
    ngx_uint_t *there)
{
    ngx_uint_t            i, ready;
    ngx_webtorch_slot_t  *slot;

    ready = 0;
    *there = 0;

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS; i++) {
        slot = &shared->slots[i];

        if (slot->pid && slot->generation >= shared->in_force) {
            (*there)++;
            ready += slot->ready;
        }
    }

    return ready;
}
