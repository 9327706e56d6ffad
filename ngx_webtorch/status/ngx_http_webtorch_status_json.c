
#include "ngx_http_webtorch_status_json.h"
#include "ngx_http_webtorch_status_problems.h"
#include "ngx_webtorch_metrics_shadow.h"


/* bytes of numbers and member names that one call writes */
#define NGX_HTTP_WEBTORCH_JSON_LEN  512


static void ngx_http_webtorch_json_printf(ngx_http_webtorch_status_writer_t *w,
    const char *fmt, ...);
static void ngx_http_webtorch_json_begin(ngx_http_webtorch_status_writer_t *w,
    ngx_uint_t i, ngx_str_t *name);
static void ngx_http_webtorch_json_number(ngx_http_webtorch_status_writer_t *w,
    const char *name, double n);
static void ngx_http_webtorch_json_buckets(
    ngx_http_webtorch_status_writer_t *w, const char *name,
    const uint64_t *buckets, ngx_uint_t n);
static void ngx_http_webtorch_json_seconds(
    ngx_http_webtorch_status_writer_t *w, const char *name,
    const ngx_webtorch_metrics_seconds_t *seconds);
static void ngx_http_webtorch_json_server(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s);
static void ngx_http_webtorch_json_workers(
    ngx_http_webtorch_status_writer_t *w, ngx_http_webtorch_snapshot_t *s);
static void ngx_http_webtorch_json_handlers(
    ngx_http_webtorch_status_writer_t *w, ngx_http_webtorch_snapshot_t *s);
static void ngx_http_webtorch_json_handler(
    ngx_http_webtorch_status_writer_t *w, ngx_http_webtorch_snapshot_t *s,
    ngx_http_webtorch_status_item_t *item);
static void ngx_http_webtorch_json_codes(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_status_item_t *item);
static void ngx_http_webtorch_json_shadows(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s);
static void ngx_http_webtorch_json_models(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s);
static void ngx_http_webtorch_json_stages(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s);
static void ngx_http_webtorch_json_balancers(
    ngx_http_webtorch_status_writer_t *w, ngx_http_webtorch_snapshot_t *s);
static void ngx_http_webtorch_json_custom(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s);


/* a member that is not of a scope begins the object, so that others follow */

void
ngx_http_webtorch_status_json(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *snapshot,
    const ngx_http_webtorch_status_wanted_t *wanted)
{
    ngx_uint_t  i;

    static struct {
        ngx_uint_t    scope;
        void        (*write)(ngx_http_webtorch_status_writer_t *w,
                             ngx_http_webtorch_snapshot_t *s);
    } parts[] = {
        { NGX_HTTP_WEBTORCH_STATUS_SERVER, ngx_http_webtorch_json_server },
        { NGX_HTTP_WEBTORCH_STATUS_WORKERS, ngx_http_webtorch_json_workers },
        { NGX_HTTP_WEBTORCH_STATUS_HANDLERS, ngx_http_webtorch_json_handlers },
        { NGX_HTTP_WEBTORCH_STATUS_HANDLERS, ngx_http_webtorch_json_shadows },
        { NGX_HTTP_WEBTORCH_STATUS_MODELS, ngx_http_webtorch_json_models },
        { NGX_HTTP_WEBTORCH_STATUS_STAGES, ngx_http_webtorch_json_stages },
        { NGX_HTTP_WEBTORCH_STATUS_BALANCERS,
          ngx_http_webtorch_json_balancers },
        { NGX_HTTP_WEBTORCH_STATUS_CUSTOM, ngx_http_webtorch_json_custom }
    };

    ngx_http_webtorch_json_printf(w, "{\"time\":%uL,\"problems\":[",
                                  snapshot->time);

    ngx_http_webtorch_status_problems(w, snapshot);
    ngx_http_webtorch_status_puts(w, "]");

    for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (wanted->scopes & parts[i].scope) {
            parts[i].write(w, snapshot);
        }
    }

    ngx_http_webtorch_status_puts(w, "}\n");
}


static void
ngx_http_webtorch_json_printf(ngx_http_webtorch_status_writer_t *w,
    const char *fmt, ...)
{
    u_char   *p;
    va_list   args;

    p = ngx_http_webtorch_status_reserve(w, NGX_HTTP_WEBTORCH_JSON_LEN);

    va_start(args, fmt);
    w->buf->last = ngx_vslprintf(p, p + NGX_HTTP_WEBTORCH_JSON_LEN, fmt, args);
    va_end(args);
}


/* an entry of an array of objects, with its name */

static void
ngx_http_webtorch_json_begin(ngx_http_webtorch_status_writer_t *w,
    ngx_uint_t i, ngx_str_t *name)
{
    ngx_http_webtorch_status_puts(w, i ? ",{\"name\":\"" : "{\"name\":\"");
    ngx_http_webtorch_status_escape(w, name->data, name->len);
    ngx_http_webtorch_status_puts(w, "\"");
}


/* JSON has neither NaN nor infinities */

static void
ngx_http_webtorch_json_number(ngx_http_webtorch_status_writer_t *w,
    const char *name, double n)
{
    u_char  *p;

    ngx_http_webtorch_json_printf(w, ",\"%s\":", name);

    if (n - n != 0) {
        ngx_http_webtorch_status_puts(w, "null");
        return;
    }

    p = ngx_http_webtorch_status_reserve(w, NGX_HTTP_WEBTORCH_STATUS_NUMBER);
    w->buf->last = ngx_http_webtorch_status_number(p, n);
}


static void
ngx_http_webtorch_json_buckets(ngx_http_webtorch_status_writer_t *w,
    const char *name, const uint64_t *buckets, ngx_uint_t n)
{
    u_char      *p;
    uint64_t     count;
    ngx_uint_t   i;

    ngx_http_webtorch_json_printf(w, ",\"%s\":{\"buckets\":[", name);

    p = ngx_http_webtorch_status_reserve(w, n * (NGX_INT64_LEN + 1) + 64);
    count = 0;

    for (i = 0; i < n; i++) {

        if (i) {
            *p++ = ',';
        }

        p = ngx_http_webtorch_status_digits(p, buckets[i]);
        count += buckets[i];
    }

    w->buf->last = ngx_sprintf(p, "],\"count\":%uL", count);
}


static void
ngx_http_webtorch_json_seconds(ngx_http_webtorch_status_writer_t *w,
    const char *name, const ngx_webtorch_metrics_seconds_t *seconds)
{
    u_char  *p;

    ngx_http_webtorch_json_buckets(w, name, seconds->buckets,
                                   NGX_WEBTORCH_METRICS_BUCKETS);
    ngx_http_webtorch_status_puts(w, ",\"sum\":");

    p = ngx_http_webtorch_status_reserve(w, NGX_INT64_LEN + 8);
    w->buf->last = ngx_http_webtorch_status_seconds(p, seconds->sum);

    ngx_http_webtorch_status_puts(w, "}");
}


static void
ngx_http_webtorch_json_server(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s)
{
    ngx_uint_t                      i;
    ngx_webtorch_metrics_shared_t  *shared;

    shared = ngx_webtorch_metrics_shared;

    ngx_http_webtorch_json_printf(w, ",\"server\":{\"version\":\"%s\","
                                  "\"nginx\":\"%s\",\"started\":%uL,"
                                  "\"reloads\":%uL,\"lost\":%uL,"
                                  "\"zone_size\":%uL,\"zone_used\":%uL",
                                  NGX_WEBTORCH_VERSION, NGINX_VERSION,
                                  shared ? shared->started : 0,
                                  shared ? shared->reloads : 0,
                                  shared ? shared->lost : 0,
                                  s->zone_size, s->zone_used);

    ngx_http_webtorch_status_puts(w, ",\"bounds\":[");

    for (i = 0; i < NGX_WEBTORCH_METRICS_BUCKETS - 1; i++) {
        ngx_http_webtorch_json_printf(w, "%s%s", i ? "," : "",
                                      ngx_http_webtorch_status_seconds_le[i]);
    }

    ngx_http_webtorch_status_puts(w, "]}");
}


static void
ngx_http_webtorch_json_workers(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s)
{
    ngx_uint_t                          i, n;
    ngx_http_webtorch_status_worker_t  *sw;

    sw = s->workers.elts;
    n = 0;

    ngx_http_webtorch_json_printf(w, ",\"starts\":%uL,\"crashes\":%uL",
                                  s->starts, s->crashes);
    ngx_http_webtorch_json_seconds(w, "lag", &s->lag);
    ngx_http_webtorch_status_puts(w, ",\"workers\":[");

    for (i = 0; i < s->workers.nelts; i++) {

        if (!sw[i].alive) {
            continue;
        }

        ngx_http_webtorch_json_printf(w, "%s{\"worker\":%ui,\"pid\":%P,"
                                      "\"started\":%uL,\"memory\":%uL,"
                                      "\"lag\":%uL.%06uL,\"gil\":%uL.%06uL,"
                                      "\"owner\":%uL}",
                                      n++ ? "," : "", sw[i].slot,
                                      sw[i].worker.pid, sw[i].worker.started,
                                      sw[i].worker.memory,
                                      sw[i].worker.late / 1000000,
                                      sw[i].worker.late % 1000000,
                                      sw[i].worker.gil / 1000000,
                                      sw[i].worker.gil % 1000000,
                                      sw[i].worker.owner);
    }

    ngx_http_webtorch_status_puts(w, "]");
}


static void
ngx_http_webtorch_json_handlers(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s)
{
    ngx_uint_t                        i;
    ngx_http_webtorch_status_item_t  *item;

    item = s->handlers.elts;

    ngx_http_webtorch_status_puts(w, ",\"handlers\":[");

    for (i = 0; i < s->handlers.nelts; i++) {
        ngx_http_webtorch_json_begin(w, i, &item[i].name);
        ngx_http_webtorch_json_handler(w, s, &item[i]);
        ngx_http_webtorch_status_puts(w, "}");
    }

    ngx_http_webtorch_status_puts(w, "]");
}


static void
ngx_http_webtorch_json_handler(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s, ngx_http_webtorch_status_item_t *item)
{
    ngx_uint_t                       i;
    ngx_webtorch_handler_metrics_t  *m;

    m = (ngx_webtorch_handler_metrics_t *) item->cells;

    if (item->labels.len) {
        ngx_http_webtorch_status_puts(w, ",\"location\":\"");
        ngx_http_webtorch_status_escape(w, item->handler->location.data,
                                        item->handler->location.len);
        ngx_http_webtorch_status_puts(w, "\"");
    }

    ngx_http_webtorch_json_codes(w, item);

    ngx_http_webtorch_json_seconds(w, "request", &m->request);
    ngx_http_webtorch_json_seconds(w, "queue", &m->queue);
    ngx_http_webtorch_json_seconds(w, "run", &m->run);
    ngx_http_webtorch_json_seconds(w, "decode", &m->decode);
    ngx_http_webtorch_json_seconds(w, "encode", &m->encode);

    ngx_http_webtorch_json_buckets(w, "rows", m->rows,
                                   NGX_WEBTORCH_METRICS_ROWS);

    ngx_http_webtorch_json_printf(w, ",\"sum\":%uL},\"waiting\":%uL,"
                                  "\"running\":%uL,\"full\":%ui,"
                                  "\"received\":%uL,\"sent\":%uL",
                                  m->nrows,
                                  ngx_http_webtorch_snapshot_waiting(item),
                                  m->running,
                                  ngx_http_webtorch_snapshot_full(s, item),
                                  m->received, m->sent);

    ngx_http_webtorch_json_printf(w, ",\"inline\":%uL,\"thread\":%uL,"
                                  "\"to_thread\":%uL,\"to_inline\":%uL,"
                                  "\"dropped\":%uL,\"streams\":{\"open\":%uL,"
                                  "\"opened\":%uL,\"resumed\":%uL},"
                                  "\"offloaded\":{\"batches\":%uL,\"lost\":%uL,"
                                  "\"waiting\":%uL},\"refused\":{",
                                  m->in_loop, m->in_thread, m->to_thread,
                                  m->to_loop, m->dropped, m->open,
                                  m->streams, m->resumed, m->offloaded, m->lost,
                                  m->waiting);

    for (i = 0; i < NGX_WEBTORCH_NREFUSED; i++) {
        ngx_http_webtorch_json_printf(w, "%s\"%s\":%uL", i ? "," : "",
                                      ngx_http_webtorch_status_refused[i],
                                      m->refused[i]);
    }

    ngx_http_webtorch_status_puts(w, "}");
}


static void
ngx_http_webtorch_json_codes(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_status_item_t *item)
{
    uint32_t     code;
    ngx_uint_t   i, n;

    n = 0;

    ngx_http_webtorch_status_puts(w, ",\"requests\":{");

    for (i = 0; i < NGX_WEBTORCH_METRICS_CODES; i++) {
        code = item->series->codes[i];

        if (code) {
            ngx_http_webtorch_json_printf(w, "%s\"%uD\":%uL", n++ ? "," : "",
                                          code, item->cells[i]);

        } else if (item->cells[i]) {
            ngx_http_webtorch_json_printf(w, "%s\"other\":%uL", n++ ? "," : "",
                                          item->cells[i]);
        }
    }

    ngx_http_webtorch_status_puts(w, "}");
}


static void
ngx_http_webtorch_json_shadows(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s)
{
    ngx_uint_t                        i, k;
    ngx_webtorch_shadow_metrics_t    *m;
    ngx_http_webtorch_status_item_t  *item;

    item = s->shadows.elts;

    ngx_http_webtorch_status_puts(w, ",\"shadows\":[");

    for (i = 0; i < s->shadows.nelts; i++) {
        m = (ngx_webtorch_shadow_metrics_t *) item[i].cells;

        ngx_http_webtorch_json_begin(w, i, &item[i].name);
        ngx_http_webtorch_json_printf(w, ",\"shadow\":\"%V%V\","
                                      "\"requests\":{",
                                      &item[i].handler->name,
                                      &item[i].handler->model);

        for (k = 0; k < NGX_WEBTORCH_SHADOW_OUTCOMES; k++) {
            ngx_http_webtorch_json_printf(w, "%s\"%s\":%uL", k ? "," : "",
                                          ngx_webtorch_shadow_outcomes[k],
                                          m->outcomes[k]);
        }

        ngx_http_webtorch_status_puts(w, "}");
        ngx_http_webtorch_json_seconds(w, "seconds", &m->seconds);
        ngx_http_webtorch_status_puts(w, "}");
    }

    ngx_http_webtorch_status_puts(w, "]");
}


static void
ngx_http_webtorch_json_models(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s)
{
    ngx_uint_t                        i;
    ngx_webtorch_metrics_model_t     *m;
    ngx_http_webtorch_status_item_t  *item;

    item = s->models.elts;

    ngx_http_webtorch_status_puts(w, ",\"models\":[");

    for (i = 0; i < s->models.nelts; i++) {
        m = (ngx_webtorch_metrics_model_t *) item[i].cells;

        ngx_http_webtorch_json_begin(w, i, &item[i].name);
        ngx_http_webtorch_json_printf(w, ",\"steps\":%uL,\"workers\":%uL,"
                                      "\"stepped\":%uL,\"saved\":%uL,"
                                      "\"compiled\":%uL",
                                      m->steps, m->loaded, m->stepped,
                                      m->saved, m->compiled);

        if (m->stepped) {
            ngx_http_webtorch_json_number(w, "loss", m->loss);
            ngx_http_webtorch_json_number(w, "average", m->average);
        }

        ngx_http_webtorch_status_puts(w, "}");
    }

    ngx_http_webtorch_status_puts(w, "]");
}


static void
ngx_http_webtorch_json_stages(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s)
{
    ngx_uint_t                        i;
    ngx_webtorch_metrics_stage_t     *m;
    ngx_http_webtorch_status_item_t  *item;

    item = s->stages.elts;

    ngx_http_webtorch_status_puts(w, ",\"stages\":[");

    for (i = 0; i < s->stages.nelts; i++) {
        m = (ngx_webtorch_metrics_stage_t *) item[i].cells;

        ngx_http_webtorch_json_begin(w, i, &item[i].name);
        ngx_http_webtorch_json_seconds(w, "seconds", &m->seconds);
        ngx_http_webtorch_json_printf(w, ",\"rows\":%uL,\"errors\":%uL,"
                                      "\"samples\":%uL", m->rows, m->errors,
                                      m->samples);

        if (m->weight) {
            ngx_http_webtorch_json_number(w, "mean", m->mean);
            ngx_http_webtorch_json_number(w, "deviation", m->deviation);
            ngx_http_webtorch_json_number(w, "nan", m->nan);
            ngx_http_webtorch_json_number(w, "zero", m->zero);
            ngx_http_webtorch_json_number(w, "distance", m->distance);
        }

        ngx_http_webtorch_status_puts(w, "}");
    }

    ngx_http_webtorch_status_puts(w, "]");
}


static void
ngx_http_webtorch_json_balancers(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s)
{
    ngx_uint_t                            i, k;
    ngx_http_webtorch_status_server_t    *server;
    ngx_http_webtorch_status_balancer_t  *sb;

    sb = s->balancers.elts;

    ngx_http_webtorch_status_puts(w, ",\"balancers\":[");

    for (i = 0; i < s->balancers.nelts; i++) {
        ngx_http_webtorch_json_begin(w, i, &sb[i].balancer->name);

        if (sb[i].learned) {
            ngx_http_webtorch_json_number(w, "loss", sb[i].loss);
            ngx_http_webtorch_json_number(w, "baseline", sb[i].baseline);
        }

        ngx_http_webtorch_status_puts(w, ",\"servers\":[");

        server = sb[i].servers.elts;

        for (k = 0; k < sb[i].servers.nelts; k++) {
            ngx_http_webtorch_json_begin(w, k, &server[k].name);
            ngx_http_webtorch_json_printf(w, ",\"picks\":%uL,"
                                          "\"ejections\":%uL,\"ejected\":%s,"
                                          "\"out\":%s,"
                                          "\"in_flight\":%uD",
                                          server[k].picks,
                                          server[k].ejections,
                                          server[k].server.ejected
                                          ? "true" : "false",
                                          server[k].out ? "true" : "false",
                                          server[k].server.inflight);
            ngx_http_webtorch_json_number(w, "service",
                                          server[k].server.service);
            ngx_http_webtorch_json_number(w, "concurrency",
                                          server[k].server.concurrency);
            ngx_http_webtorch_json_number(w, "error", server[k].server.error);
            ngx_http_webtorch_status_puts(w, "}");
        }

        ngx_http_webtorch_status_puts(w, "]}");
    }

    ngx_http_webtorch_status_puts(w, "]");
}


static void
ngx_http_webtorch_json_custom(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *s)
{
    ngx_str_t                         labels;
    ngx_uint_t                        i, n, type;
    ngx_http_webtorch_status_item_t  *item;

    item = s->custom.elts;

    ngx_http_webtorch_status_puts(w, ",\"custom\":[");

    for (i = 0; i < s->custom.nelts; i++) {
        type = item[i].series->type;
        n = item[i].series->nbounds;

        labels.data = (u_char *) item[i].series->key + item[i].name.len;
        labels.len = item[i].series->key_len - item[i].name.len;

        ngx_http_webtorch_json_begin(w, i, &item[i].name);
        ngx_http_webtorch_status_puts(w, ",\"labels\":\"");
        ngx_http_webtorch_status_escape(w, labels.data, labels.len);
        ngx_http_webtorch_status_puts(w, "\"");

        if (type == WEBTORCH_METRIC_HISTOGRAM) {
            ngx_http_webtorch_json_buckets(w, "histogram", item[i].cells,
                                           n + 1);
            ngx_http_webtorch_json_number(w, "sum",
                          ngx_webtorch_metrics_double(item[i].cells[n + 1]));
            ngx_http_webtorch_status_puts(w, "}");

        } else if (type == WEBTORCH_METRIC_COUNTER) {
            ngx_http_webtorch_json_number(w, "value",
                              ngx_webtorch_metrics_double(item[i].cells[0]));

        } else if (item[i].cells[0]) {
            ngx_http_webtorch_json_number(w, "value",
                              ngx_webtorch_metrics_double(item[i].cells[1]));
        }

        ngx_http_webtorch_status_puts(w, "}");
    }

    ngx_http_webtorch_status_puts(w, "]");
}
