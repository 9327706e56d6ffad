
#include "ngx_http_webtorch_stream_ping.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_stream_pump.h"


static void ngx_http_webtorch_stream_ping_handler(ngx_event_t *ev);


void
ngx_http_webtorch_stream_ping_start(ngx_http_webtorch_stream_t *st)
{
    ngx_webtorch_timer_init(&st->pinging, ngx_http_webtorch_stream_ping_handler,
                            st, ngx_cycle->log);

    /* a worker that exits waits for the calls alone */
    st->pinging.event.cancelable = 1;

    st->since = ngx_current_msec;

    ngx_add_timer(&st->pinging.event, st->conf->ping);
}


static void
ngx_http_webtorch_stream_ping_handler(ngx_event_t *ev)
{
    ngx_msec_t                   passed;
    ngx_connection_t            *c;
    ngx_http_webtorch_stream_t  *st;

    st = ngx_webtorch_timer_data(ev);

    if (st->ended) {
        return;
    }

    passed = ngx_current_msec - st->since;

    if (passed < st->conf->ping) {
        ngx_add_timer(ev, st->conf->ping - passed);
        return;
    }

    st->since = ngx_current_msec;

    ngx_add_timer(ev, st->conf->ping);

    /* a client that reads nothing needs none; no item is cut by one */

    if (!st->in_call || st->sending || st->inline_end) {
        return;
    }

    c = st->request->connection;

    ngx_http_set_log_request(c->log, st->request);

    if (ngx_http_webtorch_stream_add_comment(st) == NGX_OK) {
        ngx_http_webtorch_stream_pump(st);
    }

    ngx_http_run_posted_requests(c);
}
