
#include "ngx_http_webtorch_stream_turn.h"
#include "ngx_http_webtorch_stream_output.h"


/* streams that wait for their turn in this worker */

typedef struct {
    ngx_queue_t            streams;
    ngx_webtorch_timer_t   event;         /* handler NULL: not initialized */
} ngx_http_webtorch_turn_t;


static void ngx_http_webtorch_turn_handler(ngx_event_t *ev);


static ngx_http_webtorch_turn_t  ngx_http_webtorch_turn;


/*
 * An event of the next iteration: streams whose calls run in the event loop
 * would not let it read other events.
 */

void
ngx_http_webtorch_stream_turn(ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_turn_t  *turn;

    turn = &ngx_http_webtorch_turn;

    if (turn->event.event.handler == NULL) {
        ngx_queue_init(&turn->streams);
        ngx_webtorch_timer_init(&turn->event, ngx_http_webtorch_turn_handler,
                                turn, ngx_cycle->log);
    }

    if (!st->in_turn) {
        st->in_turn = 1;
        ngx_queue_insert_tail(&turn->streams, &st->turn);
    }

    if (!turn->event.event.posted) {
        ngx_post_event(&turn->event.event, &ngx_posted_next_events);

        /* a worker that exits waits for timers, not for events */
        ngx_add_timer(&turn->event.event, 1000);
    }
}


static void
ngx_http_webtorch_turn_handler(ngx_event_t *ev)
{
    ngx_queue_t                 *q;
    ngx_event_t                 *wev;
    ngx_http_webtorch_turn_t    *turn;
    ngx_http_webtorch_stream_t  *st;

    turn = ngx_webtorch_timer_data(ev);

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    /* the runner's event is posted by the first call, before those that send */

    while (!ngx_queue_empty(&turn->streams)) {

        q = ngx_queue_head(&turn->streams);
        st = ngx_queue_data(q, ngx_http_webtorch_stream_t, turn);

        ngx_queue_remove(q);
        st->in_turn = 0;

        if (!st->in_call
            && !st->ended
            && !ngx_http_webtorch_stream_full(st)
            && st->produce(st) != NGX_AGAIN)
        {
            st->fail(st);
        }

        wev = st->request->connection->write;

        if (!wev->posted) {
            ngx_post_event(wev, &ngx_posted_events);
        }
    }
}
