
#include "ngx_http_webtorch_status_problems.h"
#include "ngx_webtorch_drain.h"


/* bytes of a text without names */
#define NGX_HTTP_WEBTORCH_PROBLEM_LEN  256

/* seconds for which a crash is shown */
#define NGX_HTTP_WEBTORCH_CRASH_SHOWN  600

/* microseconds of lag that clients notice */
#define NGX_HTTP_WEBTORCH_LAG_SHOWN    100000

/* a share of elements, and a distance above which tensors have changed */
#define NGX_HTTP_WEBTORCH_NAN_SHOWN    0.01
#define NGX_HTTP_WEBTORCH_DRIFT_SHOWN  0.25


typedef struct {
    ngx_http_webtorch_status_writer_t  *w;
    ngx_http_webtorch_snapshot_t       *snapshot;
    ngx_uint_t                          n;
} ngx_http_webtorch_problems_t;


static void ngx_http_webtorch_problem(ngx_http_webtorch_problems_t *p,
    const char *fmt, ...);
static void ngx_http_webtorch_problems_of_handlers(
    ngx_http_webtorch_problems_t *p);
static void ngx_http_webtorch_problems_of_workers(
    ngx_http_webtorch_problems_t *p);
static void ngx_http_webtorch_problems_of_servers(
    ngx_http_webtorch_problems_t *p);
static void ngx_http_webtorch_problems_of_models(
    ngx_http_webtorch_problems_t *p);
static void ngx_http_webtorch_problems_of_stages(
    ngx_http_webtorch_problems_t *p);


void
ngx_http_webtorch_status_problems(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *snapshot)
{
    ngx_http_webtorch_problems_t  p;

    p.w = w;
    p.snapshot = snapshot;
    p.n = 0;

    if (ngx_webtorch_metrics_shared == NULL || !snapshot->conf->metrics) {
        ngx_http_webtorch_problem(&p, "nothing is counted, see "
                                      "webtorch_metrics and the error log");
    }

    if (ngx_webtorch_drain_get()) {
        ngx_http_webtorch_problem(&p, "the server is drained by an operator");
    }

    ngx_http_webtorch_problems_of_handlers(&p);
    ngx_http_webtorch_problems_of_workers(&p);
    ngx_http_webtorch_problems_of_servers(&p);
    ngx_http_webtorch_problems_of_models(&p);
    ngx_http_webtorch_problems_of_stages(&p);

    if (snapshot->zone_used > snapshot->zone_size / 10 * 9
        && snapshot->zone_size)
    {
        ngx_http_webtorch_problem(&p, "webtorch_zone is %uL %% full",
                         snapshot->zone_used * 100 / snapshot->zone_size);
    }
}


static void
ngx_http_webtorch_problem(ngx_http_webtorch_problems_t *p, const char *fmt, ...)
{
    u_char   text[NGX_HTTP_WEBTORCH_PROBLEM_LEN + NGX_WEBTORCH_METRICS_KEY];
    u_char  *last;
    va_list  args;

    va_start(args, fmt);
    last = ngx_vslprintf(text, text + sizeof(text), fmt, args);
    va_end(args);

    ngx_http_webtorch_status_puts(p->w, p->n++ ? ",\"" : "\"");
    ngx_http_webtorch_status_escape(p->w, text, (size_t) (last - text));
    ngx_http_webtorch_status_puts(p->w, "\"");
}


static void
ngx_http_webtorch_problems_of_handlers(ngx_http_webtorch_problems_t *p)
{
    ngx_uint_t                        i, full;
    ngx_http_webtorch_status_item_t  *item;

    item = p->snapshot->handlers.elts;

    for (i = 0; i < p->snapshot->handlers.nelts; i++) {

        if (item[i].handler->runner == NULL) {
            ngx_http_webtorch_problem(p, "%V is not loaded, see the error log",
                                      &item[i].name);
        }

        full = ngx_http_webtorch_snapshot_full(p->snapshot, &item[i]);

        if (full) {
            ngx_http_webtorch_problem(p, "queue of %V is full since %ui s",
                                      &item[i].name, full);
        }
    }
}


static void
ngx_http_webtorch_problems_of_workers(ngx_http_webtorch_problems_t *p)
{
    uint64_t                            age;
    ngx_uint_t                          i;
    ngx_http_webtorch_status_worker_t  *sw;

    sw = p->snapshot->workers.elts;

    for (i = 0; i < p->snapshot->workers.nelts; i++) {

        age = (p->snapshot->time > sw[i].worker.crashed)
              ? (p->snapshot->time - sw[i].worker.crashed) / 1000 : 0;

        if (sw[i].worker.crashed && age < NGX_HTTP_WEBTORCH_CRASH_SHOWN) {
            ngx_http_webtorch_problem(p, "a worker crashed %uL s ago", age);
        }

        if (sw[i].alive && sw[i].worker.late > NGX_HTTP_WEBTORCH_LAG_SHOWN) {
            ngx_http_webtorch_problem(p, "the event loop of worker %P was "
                                      "blocked for %uL ms", sw[i].worker.pid,
                                      sw[i].worker.late / 1000);
        }
    }
}


static void
ngx_http_webtorch_problems_of_servers(ngx_http_webtorch_problems_t *p)
{
    ngx_uint_t                            i, k;
    ngx_http_webtorch_status_server_t    *server;
    ngx_http_webtorch_status_balancer_t  *sb;

    sb = p->snapshot->balancers.elts;

    for (i = 0; i < p->snapshot->balancers.nelts; i++) {
        server = sb[i].servers.elts;

        for (k = 0; k < sb[i].servers.nelts; k++) {
            if (server[k].out) {
                ngx_http_webtorch_problem(p, "an operator has ejected server "
                                          "%V of upstream %V", &server[k].name,
                                          &sb[i].balancer->name);

            } else if (server[k].server.ejected) {
                ngx_http_webtorch_problem(p, "server %V of upstream %V is "
                                          "ejected", &server[k].name,
                                          &sb[i].balancer->name);
            }
        }
    }
}


static void
ngx_http_webtorch_problems_of_models(ngx_http_webtorch_problems_t *p)
{
    ngx_uint_t                        i;
    ngx_webtorch_metrics_model_t     *m;
    ngx_http_webtorch_status_item_t  *item;

    item = p->snapshot->models.elts;

    for (i = 0; i < p->snapshot->models.nelts; i++) {
        m = (ngx_webtorch_metrics_model_t *) item[i].cells;

        if (m->unsaved) {
            ngx_http_webtorch_problem(p, "model %V could not be saved for %uL "
                       "s, see the error log", &item[i].name,
                       ngx_http_webtorch_snapshot_age(p->snapshot, m->unsaved)
                       / 1000);
        }

        if (m->unstored) {
            ngx_http_webtorch_problem(p, "model %V could not be written to "
                       "object storage for %uL s, see the error log",
                       &item[i].name,
                       ngx_http_webtorch_snapshot_age(p->snapshot, m->unstored)
                       / 1000);
        }
    }
}


static void
ngx_http_webtorch_problems_of_stages(ngx_http_webtorch_problems_t *p)
{
    ngx_uint_t                        i;
    ngx_webtorch_metrics_stage_t     *m;
    ngx_http_webtorch_status_item_t  *item;

    item = p->snapshot->stages.elts;

    for (i = 0; i < p->snapshot->stages.nelts; i++) {
        m = (ngx_webtorch_metrics_stage_t *) item[i].cells;

        if (m->weight && m->nan > NGX_HTTP_WEBTORCH_NAN_SHOWN) {
            ngx_http_webtorch_problem(p, "%.1f %% of what leaves stage %V is "
                                      "NaN", m->nan * 100, &item[i].name);
        }

        if (m->weight && m->distance > NGX_HTTP_WEBTORCH_DRIFT_SHOWN) {
            ngx_http_webtorch_problem(p, "what leaves stage %V is far from its "
                                      "reference: %.2f", &item[i].name,
                                      m->distance);
        }
    }
}
