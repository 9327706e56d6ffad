
/*
 * Workers that wait for connections are woken in the kernel's order, which is
 * not that of their load: of a few long requests most would be one worker's.
 * Each worker counts its requests in shared memory.  One that has more than
 * another worker does not accept: it wakes the other one by a pipe, and does
 * not listen itself for a few milliseconds.  If the other worker has not woken
 * then, as it runs a long call in its event loop, the connection is accepted.
 * After several times none is left to that worker until it has woken.
 *
 * With "reuseport" each worker has a socket of its own, which the others have
 * inherited: the worker that is woken accepts from all of them.
 *
 * With "accept_mutex on" nginx itself chooses the worker that accepts.
 */

#include "ngx_webtorch_accept.h"
#include "ngx_webtorch_accept_slots.h"
#include "ngx_webtorch_timer.h"

#include <ngx_event.h>


/* ms that a worker leaves connections to another one */
#define NGX_WEBTORCH_ACCEPT_PAUSE  20

/* ms after which a worker that was woken is taken for busy */
#define NGX_WEBTORCH_ACCEPT_LATE   100

/* ms in which the first request of a connection is expected */
#define NGX_WEBTORCH_ACCEPT_FRESH  200

/* connections that a worker that was woken accepts at most */
#define NGX_WEBTORCH_ACCEPT_BURST  64


/* state of this worker */

typedef struct {
    ngx_webtorch_accept_t  *shared;
    ngx_uint_t              multi;        /* "multi_accept on" */
    ngx_webtorch_timer_t    timer;
    ngx_int_t               target;       /* the worker that was woken */
    ngx_atomic_uint_t       naccepted;    /* of it, before that */
    ngx_uint_t              paused;
    ngx_uint_t              forced;       /* it has not answered */
    ngx_array_t             others;       /* connections: sockets of other
                                             workers */
} ngx_webtorch_accept_state_t;


static void ngx_webtorch_accept_cleanup(void *data);
static ngx_webtorch_accept_slot_t *ngx_webtorch_accept_slot(ngx_int_t i);
static ngx_int_t ngx_webtorch_accept_listen(ngx_cycle_t *cycle);
static ngx_int_t ngx_webtorch_accept_add_other(ngx_cycle_t *cycle,
    ngx_listening_t *ls);
static void ngx_webtorch_accept_other_handler(ngx_event_t *ev);
static void ngx_webtorch_accept_handler(ngx_event_t *ev);
static ngx_uint_t ngx_webtorch_accept_one(ngx_event_t *ev);
static ngx_uint_t ngx_webtorch_accept_load(ngx_webtorch_accept_slot_t *slot);
static ngx_int_t ngx_webtorch_accept_target(void);
static ngx_uint_t ngx_webtorch_accept_is_late(
    ngx_webtorch_accept_slot_t *slot);
static void ngx_webtorch_accept_offer(ngx_int_t target);
static void ngx_webtorch_accept_pause(ngx_uint_t pause);
static void ngx_webtorch_accept_timer_handler(ngx_event_t *ev);
static void ngx_webtorch_accept_woken_handler(ngx_event_t *ev);


static ngx_webtorch_accept_state_t  ngx_webtorch_accept_state;

/* NULL: the worker shares its connections with no other one */
static ngx_webtorch_accept_slot_t  *ngx_webtorch_accept_own;


void
ngx_webtorch_accept_init(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_core_conf_t  *ccf;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ngx_test_config || !ccf->master || ccf->worker_processes < 2
        || conf->handlers.nelts == 0)
    {
        return;
    }

    conf->accept = ngx_webtorch_accept_create(cycle, ccf->worker_processes,
                                              ngx_webtorch_accept_cleanup);

    /* an error here would end the master */

    if (conf->accept == NULL) {
        ngx_log_error(NGX_LOG_ERR, cycle->log, 0,
                      "workers do not leave connections to others");
    }
}


static void
ngx_webtorch_accept_cleanup(void *data)
{
    ngx_webtorch_accept_t *accept = data;

    ngx_int_t  i;

    if (ngx_webtorch_accept_state.shared == accept) {
        ngx_webtorch_accept_own = NULL;
    }

    for (i = 0; i < accept->n; i++) {
        if (accept->pipes[i][0] != -1) {
            (void) close(accept->pipes[i][0]);
            (void) close(accept->pipes[i][1]);
        }
    }

    accept->shm.log = ngx_cycle->log;
    ngx_shm_free(&accept->shm);
}


static ngx_webtorch_accept_slot_t *
ngx_webtorch_accept_slot(ngx_int_t i)
{
    return (ngx_webtorch_accept_slot_t *)
               (ngx_webtorch_accept_state.shared->shm.addr
                + (size_t) i * NGX_WEBTORCH_ACCEPT_SLOT_SIZE);
}


ngx_int_t
ngx_webtorch_accept_init_process(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_event_t                  *rev;
    ngx_connection_t             *c;
    ngx_webtorch_accept_slot_t   *slot;
    ngx_webtorch_accept_state_t  *state;

    if (conf->accept == NULL || ngx_use_accept_mutex
        || (ngx_int_t) ngx_worker >= conf->accept->n)
    {
        return NGX_OK;
    }

    state = &ngx_webtorch_accept_state;

    state->shared = conf->accept;

    c = ngx_get_connection(conf->accept->pipes[ngx_worker][0], cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    rev = c->read;
    rev->handler = ngx_webtorch_accept_woken_handler;
    rev->log = cycle->log;

    /* not of a client: it may be open when the worker exits */
    rev->channel = 1;
    c->write->channel = 1;

    if (ngx_add_event(rev, NGX_READ_EVENT, 0) != NGX_OK
        || ngx_webtorch_accept_listen(cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_webtorch_timer_init(&state->timer, ngx_webtorch_accept_timer_handler,
                            NULL, cycle->log);
    state->timer.event.cancelable = 1;

    /* another worker with this number may have crashed */

    slot = ngx_webtorch_accept_slot((ngx_int_t) ngx_worker);

    slot->busy = 0;
    slot->fresh = 0;
    slot->since = ngx_current_msec;
    slot->offered = 0;
    slot->alive = 1;

    ngx_webtorch_accept_own = slot;

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_accept_listen(ngx_cycle_t *cycle)
{
    ngx_uint_t                    i;
    ngx_listening_t              *ls;
    ngx_connection_t             *c;
    ngx_event_conf_t             *ecf;
    ngx_webtorch_accept_state_t  *state;

    state = &ngx_webtorch_accept_state;
    ls = cycle->listening.elts;

    /* the handler of ngx_event_accept() takes connections one by one */

    ecf = ngx_event_get_conf(cycle->conf_ctx, ngx_event_core_module);

    state->multi = ecf->multi_accept;
    ecf->multi_accept = 0;

    if (ngx_array_init(&state->others, cycle->pool, 4,
                       sizeof(ngx_connection_t *))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < cycle->listening.nelts; i++) {
        c = ls[i].connection;

        if (ls[i].type != SOCK_STREAM || ls[i].fd == (ngx_socket_t) -1) {
            continue;
        }

        if (c != NULL) {
            if (c->read->handler == ngx_event_accept) {
                c->read->handler = ngx_webtorch_accept_handler;
            }

            continue;
        }

        if (ngx_webtorch_accept_add_other(cycle, &ls[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * The connection is none of nginx's table, whose listening sockets would get an
 * event when the worker has free descriptors again.
 */

static ngx_int_t
ngx_webtorch_accept_add_other(ngx_cycle_t *cycle, ngx_listening_t *ls)
{
    ngx_connection_t  *c, **pc;

    pc = ngx_array_push(&ngx_webtorch_accept_state.others);
    c = ngx_pcalloc(cycle->pool, sizeof(ngx_connection_t));

    if (pc == NULL || c == NULL) {
        return NGX_ERROR;
    }

    c->read = ngx_pcalloc(cycle->pool, sizeof(ngx_event_t));
    if (c->read == NULL) {
        return NGX_ERROR;
    }

    c->fd = ls->fd;
    c->type = ls->type;
    c->log = &ls->log;
    c->listening = ls;

    c->read->data = c;
    c->read->log = c->log;
    c->read->accept = 1;
    c->read->handler = ngx_webtorch_accept_other_handler;
    c->read->cancelable = 1;

    *pc = c;

    return NGX_OK;
}


/*
 * The timer of ngx_event_accept(), which the worker had no descriptor for: it
 * lets the worker listen again.  The descriptor is closed when it exits.
 */

static void
ngx_webtorch_accept_other_handler(ngx_event_t *ev)
{
    if (!ngx_exiting) {
        ngx_event_accept(ev);
    }
}


static void
ngx_webtorch_accept_handler(ngx_event_t *ev)
{
    ngx_int_t   target;
    ngx_uint_t  forced;

    /* the worker has had no descriptor, and listens again */

    if (ev->timedout) {
        ngx_event_accept(ev);
        return;
    }

    do {
        forced = ngx_webtorch_accept_state.forced;
        target = forced ? -1 : ngx_webtorch_accept_target();

        if (target != -1) {
            ngx_webtorch_accept_offer(target);
            return;
        }

        ngx_webtorch_accept_state.forced = 0;

    } while (ngx_webtorch_accept_one(ev)
             && ngx_webtorch_accept_state.multi
             && !forced);
}


/* returns 0 if there was none, or it was closed at once */

static ngx_uint_t
ngx_webtorch_accept_one(ngx_event_t *ev)
{
    ngx_uint_t                   n;
    ngx_webtorch_accept_slot_t  *slot;

    n = ngx_cycle->free_connection_n;

    ngx_event_accept(ev);

    if (ngx_cycle->free_connection_n >= n) {
        return 0;
    }

    slot = ngx_webtorch_accept_own;

    if (slot) {
        if (ngx_current_msec - slot->since >= NGX_WEBTORCH_ACCEPT_FRESH) {
            slot->fresh = 0;
            slot->since = ngx_current_msec;
        }

        slot->fresh++;
        slot->naccepted++;
    }

    return 1;
}


void
ngx_webtorch_accept_begin(ngx_uint_t first)
{
    ngx_webtorch_accept_slot_t  *slot;

    slot = ngx_webtorch_accept_own;

    if (slot) {
        slot->busy++;

        if (first && slot->fresh) {
            slot->fresh--;
        }
    }
}


void
ngx_webtorch_accept_end(void)
{
    if (ngx_webtorch_accept_own) {
        ngx_webtorch_accept_own->busy--;
    }
}


static ngx_uint_t
ngx_webtorch_accept_load(ngx_webtorch_accept_slot_t *slot)
{
    ngx_msec_int_t  age;

    /* below 0 if the other worker's clock is ahead */

    age = (ngx_msec_int_t) (ngx_current_msec - slot->since);

    return slot->busy
           + (age < NGX_WEBTORCH_ACCEPT_FRESH ? slot->fresh : 0);
}


/* returns a worker with fewer requests than this one; -1: none */

static ngx_int_t
ngx_webtorch_accept_target(void)
{
    ngx_int_t                    i, target;
    ngx_uint_t                   load, least;
    ngx_webtorch_accept_slot_t  *slot, *own;

    own = ngx_webtorch_accept_own;

    if (own == NULL) {
        return -1;
    }

    target = -1;
    least = 0;

    for (i = 0; i < ngx_webtorch_accept_state.shared->n; i++) {
        slot = ngx_webtorch_accept_slot(i);

        if (slot == own || !slot->alive || ngx_webtorch_accept_is_late(slot)) {
            continue;
        }

        load = ngx_webtorch_accept_load(slot);

        if (target == -1 || load < least) {
            target = i;
            least = load;
        }
    }

    /* many short requests need not be counted exactly */

    if (target == -1
        || ngx_webtorch_accept_load(own) <= least + 1 + least / 4)
    {
        return -1;
    }

    return target;
}


static ngx_uint_t
ngx_webtorch_accept_is_late(ngx_webtorch_accept_slot_t *slot)
{
    ngx_msec_t  since;

    since = slot->offered;

    return since
           && (ngx_msec_int_t) (ngx_current_msec - since)
              >= NGX_WEBTORCH_ACCEPT_LATE;
}


static void
ngx_webtorch_accept_offer(ngx_int_t target)
{
    ngx_fd_t                      fd;
    ngx_webtorch_accept_slot_t   *slot;
    ngx_webtorch_accept_state_t  *state;

    state = &ngx_webtorch_accept_state;
    fd = state->shared->pipes[target][1];

    slot = ngx_webtorch_accept_slot(target);

    if (slot->offered == 0) {
        slot->offered = ngx_max(ngx_current_msec, 1);
    }

    if (!state->paused || state->target != target) {
        state->naccepted = slot->naccepted;
    }

    /* a full pipe wakes the worker, too */

    (void) !write(fd, "", 1);

    state->target = target;

    if (!state->paused) {
        ngx_webtorch_accept_pause(1);
        ngx_add_timer(&state->timer.event, NGX_WEBTORCH_ACCEPT_PAUSE);
    }
}


/* stops to listen, or listens again as ngx_event_process_init() does */

static void
ngx_webtorch_accept_pause(ngx_uint_t pause)
{
    ngx_uint_t         i, flags;
    ngx_event_t       *rev;
    ngx_listening_t   *ls;

    ngx_webtorch_accept_state.paused = pause;

    ls = ngx_cycle->listening.elts;

    for (i = 0; i < ngx_cycle->listening.nelts; i++) {

        if (ls[i].connection == NULL) {
            continue;
        }

        rev = ls[i].connection->read;

        if (rev->handler != ngx_webtorch_accept_handler
            || rev->active != pause)
        {
            continue;
        }

        if (pause) {
            (void) ngx_del_event(rev, NGX_READ_EVENT, NGX_DISABLE_EVENT);
            continue;
        }

        flags = 0;

#if (NGX_HAVE_EPOLLEXCLUSIVE)
        if (ngx_use_exclusive_accept) {
            flags = NGX_EXCLUSIVE_EVENT;
        }

#if (NGX_HAVE_REUSEPORT)
        if (ls[i].reuseport) {
            flags = 0;
        }
#endif
#endif

        (void) ngx_add_event(rev, NGX_READ_EVENT, flags);
    }
}


static void
ngx_webtorch_accept_timer_handler(ngx_event_t *ev)
{
    ngx_webtorch_accept_slot_t   *slot;
    ngx_webtorch_accept_state_t  *state;

    state = &ngx_webtorch_accept_state;

    if (ngx_exiting || ngx_webtorch_accept_own == NULL) {
        return;
    }

    slot = ngx_webtorch_accept_slot(state->target);

    /* it has not woken, or has no descriptor or connection for one more */

    state->forced = (slot->offered != 0
                     || slot->naccepted == state->naccepted);

    ngx_webtorch_accept_pause(0);
}


/* another worker has more requests */

static void
ngx_webtorch_accept_woken_handler(ngx_event_t *ev)
{
    u_char                        buf[64];
    ngx_uint_t                    i, n;
    ngx_listening_t              *ls;
    ngx_connection_t             *c, **other;
    ngx_webtorch_accept_state_t  *state;

    c = ev->data;

    while (read(c->fd, buf, sizeof(buf)) == sizeof(buf)) { /* void */ }

    if (ngx_webtorch_accept_own == NULL) {
        return;
    }

    if (ngx_exiting) {
        ngx_webtorch_accept_own->alive = 0;
        return;
    }

    state = &ngx_webtorch_accept_state;

    ngx_webtorch_accept_own->offered = 0;

    /* a connection would be closed at once, the other worker accepts it */

    if (ngx_cycle->free_connection_n + ngx_cycle->reusable_connections_n == 0) {
        return;
    }

    /* others have more requests now; ngx_event_accept() expects its event */

    if (state->paused) {
        ngx_del_timer(&state->timer.event);
        ngx_webtorch_accept_pause(0);
    }

    ls = ngx_cycle->listening.elts;
    other = state->others.elts;
    n = 0;

    for (i = 0; i < ngx_cycle->listening.nelts; i++) {
        c = ls[i].connection;

        while (c
               && c->read->handler == ngx_webtorch_accept_handler
               && n < NGX_WEBTORCH_ACCEPT_BURST
               && ngx_webtorch_accept_target() == -1
               && ngx_webtorch_accept_one(c->read))
        {
            n++;
        }
    }

    for (i = 0; i < state->others.nelts; i++) {
        while (n < NGX_WEBTORCH_ACCEPT_BURST
               && ngx_webtorch_accept_target() == -1
               && ngx_webtorch_accept_one(other[i]->read))
        {
            n++;
        }
    }
}
