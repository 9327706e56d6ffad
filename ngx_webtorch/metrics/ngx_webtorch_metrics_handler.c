
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_metrics_shadow.h"
#include "ngx_webtorch_clock.h"


uint64_t  ngx_webtorch_metrics_mark;


static void ngx_webtorch_metrics_location(ngx_str_t *labels, u_char *buf,
    ngx_webtorch_handler_t *handler);


/*
 * Several directives may name a function: they have the same cells, but those
 * of phases in several locations.
 */

void
ngx_webtorch_metrics_handlers_init(ngx_array_t *handlers, ngx_log_t *log)
{
    ngx_uint_t                      i;
    ngx_webtorch_handler_t        **handler;
    ngx_webtorch_metrics_wanted_t   wanted;
    u_char                          buf[NGX_WEBTORCH_METRICS_KEY];

    if (ngx_webtorch_metrics_own == NULL) {
        return;
    }

    handler = handlers->elts;

    for (i = 0; i < handlers->nelts; i++) {

        if (handler[i]->policy) {
            continue;
        }

        if (handler[i]->shadowed) {
            ngx_webtorch_metrics_shadow_init(handler[i], log);
            continue;
        }

        ngx_memzero(&wanted, sizeof(ngx_webtorch_metrics_wanted_t));

        wanted.kind = NGX_WEBTORCH_METRICS_HANDLER;
        wanted.name = handler[i]->name;
        wanted.ngauges = NGX_WEBTORCH_HANDLER_GAUGES;
        wanted.ncounters = NGX_WEBTORCH_HANDLER_CELLS
                           - NGX_WEBTORCH_HANDLER_GAUGES;

        ngx_webtorch_metrics_location(&wanted.labels, buf, handler[i]);

        handler[i]->series = ngx_webtorch_metrics_find(&wanted);

        if (handler[i]->series == NULL) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "no room for the metrics of webtorch handler \"%V\", "
                          "it is not counted", &handler[i]->name);
            continue;
        }

        handler[i]->metrics = (ngx_webtorch_handler_metrics_t *)
                            ngx_webtorch_metrics_cells(handler[i]->series);
    }
}


/* location="/a", with escapes; a long one is cut to what a key has room for */

static void
ngx_webtorch_metrics_location(ngx_str_t *labels, u_char *buf,
    ngx_webtorch_handler_t *handler)
{
    u_char      *p, *last, c;
    ngx_uint_t   i;

    if (handler->location.len == 0
        || handler->name.len > NGX_WEBTORCH_METRICS_KEY / 2)
    {
        return;
    }

    p = ngx_cpymem(buf, "location=\"", sizeof("location=\"") - 1);
    last = buf + NGX_WEBTORCH_METRICS_KEY - handler->name.len - 3;

    for (i = 0; i < handler->location.len && p < last; i++) {
        c = handler->location.data[i];

        if (c == '"' || c == '\\') {
            *p++ = '\\';
        }

        *p++ = (c < ' ') ? ' ' : c;
    }

    *p++ = '"';

    labels->data = buf;
    labels->len = p - buf;
}


void
ngx_webtorch_metrics_call(ngx_webtorch_handler_t *handler,
    const ngx_webtorch_metrics_call_t *call)
{
    ngx_uint_t                       i;
    ngx_webtorch_handler_metrics_t  *m;

    m = handler->metrics;

    if (m == NULL) {
        return;
    }

    ngx_webtorch_metrics_observe(&m->run, call->usec);

    i = call->rows > 1 ? 32 - (ngx_uint_t) __builtin_clz(call->rows - 1) : 0;
    i = ngx_min(i, NGX_WEBTORCH_METRICS_ROWS - 1);

    ngx_webtorch_metrics_add(&m->rows[i], 1);
    ngx_webtorch_metrics_add(&m->nrows, call->rows);
    ngx_webtorch_metrics_add(&m->spent, call->usec * call->jobs);

    if (call->in_loop && !handler->in_loop) {

        if (handler->in_thread) {
            ngx_webtorch_metrics_add(&m->to_loop, 1);
        }

        handler->in_thread = 0;
        handler->in_loop = 1;

    } else if (!call->in_loop && !handler->in_thread) {

        if (handler->in_loop) {
            ngx_webtorch_metrics_add(&m->to_thread, 1);
        }

        handler->in_loop = 0;
        handler->in_thread = 1;
    }

    if (m->in_loop != handler->in_loop || m->in_thread != handler->in_thread) {
        ngx_webtorch_metrics_set(&m->in_loop, handler->in_loop);
        ngx_webtorch_metrics_set(&m->in_thread, handler->in_thread);
    }
}


/*
 * The codes are in shared memory, each is added once, by whichever worker sees
 * it first.  All but the first are rare.
 */

void
ngx_webtorch_metrics_code(ngx_webtorch_handler_t *handler, ngx_uint_t status)
{
    uint32_t    code, none;
    uint32_t   *codes;
    ngx_uint_t  i;

    codes = handler->series->codes;
    code = (uint32_t) status;

    for (i = 0; i < NGX_WEBTORCH_METRICS_CODES - 1; i++) {

        none = __atomic_load_n(&codes[i], __ATOMIC_RELAXED);

        if (none == code) {
            break;
        }

        if (none == 0
            && (__atomic_compare_exchange_n(&codes[i], &none, code, 0,
                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED)
                || none == code))
        {
            break;
        }
    }

    ngx_webtorch_metrics_add(&handler->metrics->codes[i], 1);
}


void
ngx_webtorch_metrics_refused(ngx_webtorch_handler_t *handler,
    ngx_webtorch_refused_e reason)
{
    uint64_t                         now;
    ngx_webtorch_handler_metrics_t  *m;

    m = handler->metrics;

    if (m == NULL) {
        return;
    }

    ngx_webtorch_metrics_add(&m->refused[reason], 1);

    if (reason > NGX_WEBTORCH_REFUSED_STUCK || handler->deferred) {
        return;
    }

    now = ngx_webtorch_clock_usec();

    if (now - m->refused_at > NGX_WEBTORCH_METRICS_FULL) {
        ngx_webtorch_metrics_set(&m->full, now);
    }

    ngx_webtorch_metrics_set(&m->refused_at, now);
}


/* called by Python */

void
ngx_webtorch_metrics_sum_answers(const char *name, uint64_t *answers,
    uint64_t *errors)
{
    uint64_t                n;
    ngx_str_t               key;
    ngx_uint_t              i, j, k, nseries, nslots, code;
    const uint64_t         *cells;
    ngx_webtorch_series_t  *series;

    *answers = 0;
    *errors = 0;

    key.data = (u_char *) name;
    key.len = ngx_strlen(name);

    nseries = ngx_webtorch_metrics_nseries();
    nslots = ngx_webtorch_metrics_nslots();

    for (i = 0; i < nseries; i++) {
        series = &ngx_webtorch_metrics_shared->series[i];

        if (!ngx_webtorch_metrics_is(series, NGX_WEBTORCH_METRICS_HANDLER,
                                     &key))
        {
            continue;
        }

        for (j = 0; j < NGX_WEBTORCH_METRICS_CODES; j++) {
            code = __atomic_load_n(&series->codes[j], __ATOMIC_RELAXED);

            for (k = 0; k < nslots; k++) {
                cells = &ngx_webtorch_metrics_shared->slots[k]
                             .cells[series->first];

                n = __atomic_load_n(&cells[j], __ATOMIC_RELAXED);

                *answers += n;
                *errors += (code >= 500) ? n : 0;
            }
        }
    }
}
