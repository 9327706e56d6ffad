
/*
 * The master starts a new worker when the old one has exited, which it does
 * after its last request.  New connections wait until then if no other worker
 * accepts them: the only one leaves, or has a socket of its own by "reuseport".
 * Such a worker continues to serve, until it has no request in flight or, under
 * a steady load, none that is old: most requests are short, and a request that
 * has taken long may take as long again.
 */

#include "ngx_webtorch_leave.h"
#include "ngx_webtorch_timer.h"

#include <ngx_event.h>


/* poll interval, ms */
#define NGX_WEBTORCH_LEAVE_POLL   10

/* ms; a longer request is old, and so is a new connection without one */
#define NGX_WEBTORCH_LEAVE_OLD    1000

/* ms that a worker waits until it has no request, and until none is old */
#define NGX_WEBTORCH_LEAVE_IDLE   10000
#define NGX_WEBTORCH_LEAVE_TIME   60000


/* the request that was seen on a connection */

typedef struct {
    ngx_atomic_uint_t          number;    /* of the connection */
    ngx_uint_t                 requests;
    ngx_msec_t                 since;
} ngx_webtorch_leave_seen_t;


typedef struct {
    ngx_webtorch_timer_t        timer;
    ngx_msec_t                  begun;
    ngx_webtorch_leave_seen_t  *seen;     /* of each connection */
    ngx_uint_t                  left;
    ngx_msec_t                  limit;    /* ms for requests; 0: nginx's */
} ngx_webtorch_leave_t;


static ngx_uint_t ngx_webtorch_leave_alone(void);
static void ngx_webtorch_leave_handler(ngx_event_t *ev);
static ngx_uint_t ngx_webtorch_leave_busy(ngx_msec_t *oldest);
static ngx_uint_t ngx_webtorch_leave_is_client(ngx_connection_t *c);
static ngx_msec_t ngx_webtorch_leave_age(ngx_connection_t *c,
    ngx_webtorch_leave_seen_t *seen);
static void ngx_webtorch_leave_quit(void);


static ngx_webtorch_leave_t  ngx_webtorch_leave_state;


void
ngx_webtorch_leave(ngx_log_t *log)
{
    ngx_webtorch_leave_t  *leave;

    leave = &ngx_webtorch_leave_state;

    if (!ngx_webtorch_leave_alone()) {
        ngx_webtorch_leave_now();
        return;
    }

    leave->seen = ngx_calloc(ngx_cycle->connection_n
                             * sizeof(ngx_webtorch_leave_seen_t), log);
    if (leave->seen == NULL) {
        ngx_webtorch_leave_now();
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                  "no other worker accepts its connections, the worker serves "
                  "until it has few requests");

    leave->begun = ngx_current_msec;

    ngx_webtorch_timer_init(&leave->timer, ngx_webtorch_leave_handler, NULL,
                            log);
    leave->timer.event.cancelable = 1;

    ngx_add_timer(&leave->timer.event, NGX_WEBTORCH_LEAVE_POLL);
}


static ngx_uint_t
ngx_webtorch_leave_alone(void)
{
#if (NGX_HAVE_REUSEPORT)
    ngx_uint_t        i;
    ngx_listening_t  *ls;

    ls = ngx_cycle->listening.elts;

    for (i = 0; i < ngx_cycle->listening.nelts; i++) {
        if (ls[i].reuseport) {
            return 1;
        }
    }
#endif

    return ngx_webtorch_zone.shared->nworkers < 2;
}


static void
ngx_webtorch_leave_handler(ngx_event_t *ev)
{
    ngx_msec_t             oldest, waited;
    ngx_webtorch_leave_t  *leave;

    leave = &ngx_webtorch_leave_state;

    if (ngx_exiting) {
        return;
    }

    waited = ngx_current_msec - leave->begun;

    if (!ngx_webtorch_leave_busy(&oldest)
        || (waited > NGX_WEBTORCH_LEAVE_IDLE && oldest < NGX_WEBTORCH_LEAVE_OLD)
        || waited > NGX_WEBTORCH_LEAVE_TIME)
    {
        ngx_webtorch_leave_quit();
        return;
    }

    ngx_add_timer(ev, NGX_WEBTORCH_LEAVE_POLL);
}


/* whether requests are in flight, and the age of the oldest one, ms */

static ngx_uint_t
ngx_webtorch_leave_busy(ngx_msec_t *oldest)
{
    ngx_uint_t         i, busy;
    ngx_msec_t         age;
    ngx_connection_t  *c;

    busy = 0;
    *oldest = 0;

    for (i = 0; i < ngx_cycle->connection_n; i++) {
        c = &ngx_cycle->connections[i];

        if (!ngx_webtorch_leave_is_client(c) || c->idle) {
            continue;
        }

        age = ngx_webtorch_leave_age(c, &ngx_webtorch_leave_state.seen[i]);

        /* a reusable connection has no request yet */

        if (c->reusable) {
            busy |= (age < NGX_WEBTORCH_LEAVE_OLD);
            continue;
        }

        busy = 1;
        *oldest = ngx_max(*oldest, age);
    }

    return busy;
}


static ngx_uint_t
ngx_webtorch_leave_is_client(ngx_connection_t *c)
{
    return c->fd != (ngx_socket_t) -1
           && c->listening
           && c->listening->connection != c;
}


static ngx_msec_t
ngx_webtorch_leave_age(ngx_connection_t *c, ngx_webtorch_leave_seen_t *seen)
{
    if (seen->number != c->number || seen->requests != c->requests) {
        seen->number = c->number;
        seen->requests = c->requests;
        seen->since = ngx_current_msec;
    }

    return ngx_current_msec - seen->since;
}


/* nginx would wait for the first request of a connection, which may not come */

static void
ngx_webtorch_leave_quit(void)
{
    ngx_uint_t         i;
    ngx_connection_t  *c;

    for (i = 0; i < ngx_cycle->connection_n; i++) {
        c = &ngx_cycle->connections[i];

        if (ngx_webtorch_leave_is_client(c)
            && c->reusable
            && !c->idle
            && ngx_webtorch_leave_age(c, &ngx_webtorch_leave_state.seen[i])
               >= NGX_WEBTORCH_LEAVE_OLD)
        {
            c->close = 1;
            c->read->handler(c->read);
        }
    }

    ngx_webtorch_leave_now();
}


void
ngx_webtorch_leave_limit(ngx_msec_t time)
{
    ngx_webtorch_leave_state.limit = time;
}


/* nginx sets its timer when it sees that the worker is to quit */

void
ngx_webtorch_leave_now(void)
{
    ngx_msec_t        limit;
    ngx_core_conf_t  *ccf;

    limit = ngx_webtorch_leave_state.limit;

    ccf = (ngx_core_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                           ngx_core_module);

    if (limit
        && (ccf->shutdown_timeout == 0 || ccf->shutdown_timeout > limit))
    {
        ccf->shutdown_timeout = limit;
    }

    ngx_webtorch_leave_state.left = 1;
    ngx_quit = 1;
}


ngx_uint_t
ngx_webtorch_leave_begun(void)
{
    return ngx_webtorch_leave_state.left;
}


ngx_uint_t
ngx_webtorch_leave_has_clients(void)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_cycle->connection_n; i++) {
        if (ngx_webtorch_leave_is_client(&ngx_cycle->connections[i])) {
            return 1;
        }
    }

    return 0;
}
