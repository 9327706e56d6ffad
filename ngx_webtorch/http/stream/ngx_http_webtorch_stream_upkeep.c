
#include "ngx_http_webtorch_stream_upkeep.h"
#include "ngx_http_webtorch_stream_pump.h"
#include "ngx_http_webtorch_stream_table.h"


/* poll interval, ms */
#define NGX_HTTP_WEBTORCH_UPKEEP_POLL    200

/* close functions that are called in an interval, of a handler */
#define NGX_HTTP_WEBTORCH_UPKEEP_CLOSES  256


static void ngx_http_webtorch_stream_upkeep_handler(ngx_event_t *ev);
static void ngx_http_webtorch_stream_expire(ngx_webtorch_handler_t *handler);
static void ngx_http_webtorch_stream_look_after(
    ngx_http_webtorch_stream_t *st);


static ngx_webtorch_timer_t  ngx_http_webtorch_upkeep_timer;

/* ngx_webtorch_records_taken() at the last poll */
static uint64_t              ngx_http_webtorch_upkeep_taken;


ngx_int_t
ngx_http_webtorch_stream_upkeep_start(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler)
{
    ngx_webtorch_timer_t             *timer;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;

    conf->records = ngx_webtorch_records_create(&conf->form, &handler->name,
                                                conf->digest, cycle->log);
    if (conf->records == NULL) {
        return NGX_ERROR;
    }

    timer = &ngx_http_webtorch_upkeep_timer;

    if (timer->event.timer_set) {
        return NGX_OK;
    }

    /*
     * A worker that exits waits for this timer once, and so asks the clients to
     * come back, and closes the streams that no other worker can continue.
     */

    ngx_webtorch_timer_init(timer, ngx_http_webtorch_stream_upkeep_handler,
                            NULL, cycle->log);

    ngx_add_timer(&timer->event, NGX_HTTP_WEBTORCH_UPKEEP_POLL);

    return NGX_OK;
}


static void
ngx_http_webtorch_stream_upkeep_handler(ngx_event_t *ev)
{
    uint64_t                          taken;
    ngx_uint_t                        i;
    ngx_webtorch_conf_t              *wcf;
    ngx_webtorch_handler_t          **handler;
    ngx_http_webtorch_stream_conf_t  *conf;

    wcf = ngx_webtorch_get_conf(ngx_cycle);
    handler = wcf->handlers.elts;

    for (i = 0; i < wcf->handlers.nelts; i++) {

        if (handler[i]->schema.kind != WEBTORCH_STREAM
            || handler[i]->resume == 0)
        {
            continue;
        }

        conf = handler[i]->data;

        if (conf->records) {
            conf->orphaned = ngx_exiting
                             && ngx_webtorch_records_orphaned(conf->records);

            ngx_http_webtorch_stream_expire(handler[i]);
        }
    }

    taken = ngx_webtorch_records_taken();

    if (ngx_exiting || taken != ngx_http_webtorch_upkeep_taken) {
        ngx_http_webtorch_upkeep_taken = taken;
        ngx_http_webtorch_stream_each(ngx_http_webtorch_stream_look_after);
    }

    ev->cancelable = ngx_exiting;

    ngx_add_timer(ev, NGX_HTTP_WEBTORCH_UPKEEP_POLL);
}


/* the worker that finds them first calls their close functions */

static void
ngx_http_webtorch_stream_expire(ngx_webtorch_handler_t *handler)
{
    ngx_uint_t                        i, n;
    ngx_webtorch_claim_t              claims[NGX_HTTP_WEBTORCH_UPKEEP_CLOSES];
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;

    n = ngx_webtorch_records_expire(conf->records, conf->orphaned, claims,
                                    NGX_HTTP_WEBTORCH_UPKEEP_CLOSES);

    for (i = 0; i < n; i++) {
        if (!(handler->schema.stream & WEBTORCH_STREAM_CLOSE)
            || ngx_http_webtorch_stream_adopt(handler, &claims[i]) != NGX_OK)
        {
            ngx_webtorch_records_free(&claims[i]);
        }
    }
}


static void
ngx_http_webtorch_stream_look_after(ngx_http_webtorch_stream_t *st)
{
    if (ngx_exiting || ngx_webtorch_record_lost(&st->claim)) {
        ngx_http_webtorch_stream_stop(st);
    }
}
