
#include "ngx_http_webtorch_status_workers.h"


static void ngx_http_webtorch_text_worker(ngx_http_webtorch_family_t *f,
    ngx_uint_t counter, uint64_t (*get)(ngx_webtorch_metrics_worker_t *worker),
    ngx_uint_t seconds);
static uint64_t ngx_http_webtorch_worker_pid(
    ngx_webtorch_metrics_worker_t *worker);
static uint64_t ngx_http_webtorch_worker_started(
    ngx_webtorch_metrics_worker_t *worker);
static uint64_t ngx_http_webtorch_worker_memory(
    ngx_webtorch_metrics_worker_t *worker);
static uint64_t ngx_http_webtorch_worker_late(
    ngx_webtorch_metrics_worker_t *worker);
static uint64_t ngx_http_webtorch_worker_owner(
    ngx_webtorch_metrics_worker_t *worker);
static uint64_t ngx_http_webtorch_worker_gil(
    ngx_webtorch_metrics_worker_t *worker);


void
ngx_http_webtorch_status_server(ngx_http_webtorch_family_t *f)
{
    u_char                          buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                       labels, *none;
    ngx_http_webtorch_snapshot_t   *s;
    ngx_webtorch_metrics_shared_t  *shared;

    s = f->snapshot;
    none = &ngx_http_webtorch_status_no_labels;
    shared = ngx_webtorch_metrics_shared;

    if (ngx_http_webtorch_family(f, "webtorch_info", "gauge", NULL,
                                 "Versions, the value is 1."))
    {
        labels.data = buf;
        labels.len = ngx_sprintf(buf, "version=\"%s\",nginx=\"%s\"",
                                 NGX_WEBTORCH_VERSION, NGINX_VERSION)
                     - buf;
        ngx_http_webtorch_sample(f, &labels, 1);
    }

    if (shared) {

        if (ngx_http_webtorch_family(f, "webtorch_start_time_seconds", "gauge",
                                     "seconds", "When it began to count."))
        {
            ngx_http_webtorch_sample_seconds(f, none, shared->started * 1000);
        }

        if (ngx_http_webtorch_family(f, "webtorch_reloads_total", "counter",
                                     NULL, "Configurations after the first."))
        {
            ngx_http_webtorch_sample(f, none, shared->reloads);
        }

        if (ngx_http_webtorch_family(f, "webtorch_metrics_lost_total",
                                     "counter", NULL,
                                     "Metrics that found no room."))
        {
            ngx_http_webtorch_sample(f, none, shared->lost);
        }
    }

    if (s->zone_size == 0) {
        return;
    }

    if (ngx_http_webtorch_family(f, "webtorch_zone_size_bytes", "gauge",
                                 "bytes", "The size of webtorch_zone."))
    {
        ngx_http_webtorch_sample(f, none, s->zone_size);
    }

    if (ngx_http_webtorch_family(f, "webtorch_zone_used_bytes", "gauge",
                                 "bytes", "Blocks of models in the zone."))
    {
        ngx_http_webtorch_sample(f, none, s->zone_used);
    }
}


void
ngx_http_webtorch_status_workers(ngx_http_webtorch_family_t *f)
{
    ngx_str_t                     *none;
    ngx_http_webtorch_snapshot_t  *s;

    s = f->snapshot;
    none = &ngx_http_webtorch_status_no_labels;

    if (ngx_http_webtorch_family(f, "webtorch_workers", "gauge", NULL,
                                 "Workers that run, also of configurations "
                                 "before."))
    {
        ngx_http_webtorch_sample(f, none, s->nalive);
    }

    if (ngx_http_webtorch_family(f, "webtorch_worker_starts_total", "counter",
                                 NULL, "Workers that were started."))
    {
        ngx_http_webtorch_sample(f, none, s->starts);
    }

    if (ngx_http_webtorch_family(f, "webtorch_worker_crashes_total", "counter",
                                 NULL, "Workers that did not exit by "
                                 "themselves."))
    {
        ngx_http_webtorch_sample(f, none, s->crashes);
    }

    if (ngx_http_webtorch_family(f, "webtorch_event_loop_lag_seconds",
                                 "histogram", "seconds",
                                 "How late timers of event loops ran."))
    {
        ngx_http_webtorch_sample_histogram(f, none, &s->lag);
    }

    if (ngx_http_webtorch_family(f, "webtorch_worker_pid", "gauge", NULL,
                                 "Process of the worker."))
    {
        ngx_http_webtorch_text_worker(f, 0, ngx_http_webtorch_worker_pid, 0);
    }

    if (ngx_http_webtorch_family(f, "webtorch_worker_start_time_seconds",
                                 "gauge", "seconds",
                                 "When the worker was started."))
    {
        ngx_http_webtorch_text_worker(f, 0, ngx_http_webtorch_worker_started,
                                      1);
    }

    if (ngx_http_webtorch_family(f, "webtorch_worker_memory_bytes", "gauge",
                                 "bytes", "Resident memory, with what is "
                                 "shared."))
    {
        ngx_http_webtorch_text_worker(f, 0, ngx_http_webtorch_worker_memory,
                                      0);
    }

    if (ngx_http_webtorch_family(f, "webtorch_worker_event_loop_lag_seconds",
                                 "gauge", "seconds",
                                 "How late the last timer ran."))
    {
        ngx_http_webtorch_text_worker(f, 0, ngx_http_webtorch_worker_late, 1);
    }

    if (ngx_http_webtorch_family(f, "webtorch_worker_owner", "gauge", NULL,
                                 "1: it runs what others offload."))
    {
        ngx_http_webtorch_text_worker(f, 0, ngx_http_webtorch_worker_owner, 0);
    }

    if (ngx_http_webtorch_family(f, "webtorch_worker_gil_wait_seconds_total",
                                 "counter", "seconds",
                                 "Time that calls waited for the GIL."))
    {
        ngx_http_webtorch_text_worker(f, 1, ngx_http_webtorch_worker_gil, 1);
    }
}


/* worker="0": the number of its slot, which one worker at a time has */

static void
ngx_http_webtorch_text_worker(ngx_http_webtorch_family_t *f,
    ngx_uint_t counter, uint64_t (*get)(ngx_webtorch_metrics_worker_t *worker),
    ngx_uint_t seconds)
{
    u_char                              buf[sizeof("worker=\"\"")
                                            + NGX_INT_T_LEN];
    uint64_t                            n;
    ngx_str_t                           labels;
    ngx_uint_t                          i;
    ngx_http_webtorch_status_worker_t  *sw;

    sw = f->snapshot->workers.elts;

    for (i = 0; i < f->snapshot->workers.nelts; i++) {

        if (!counter && !sw[i].alive) {
            continue;
        }

        labels.data = buf;
        labels.len = ngx_sprintf(buf, "worker=\"%ui\"", sw[i].slot) - buf;

        n = get(&sw[i].worker);

        if (seconds) {
            ngx_http_webtorch_sample_seconds(f, &labels, n);

        } else {
            ngx_http_webtorch_sample(f, &labels, n);
        }
    }
}


static uint64_t
ngx_http_webtorch_worker_pid(ngx_webtorch_metrics_worker_t *worker)
{
    return (uint64_t) worker->pid;
}


static uint64_t
ngx_http_webtorch_worker_started(ngx_webtorch_metrics_worker_t *worker)
{
    return worker->started * 1000;
}


static uint64_t
ngx_http_webtorch_worker_memory(ngx_webtorch_metrics_worker_t *worker)
{
    return worker->memory;
}


static uint64_t
ngx_http_webtorch_worker_late(ngx_webtorch_metrics_worker_t *worker)
{
    return worker->late;
}


static uint64_t
ngx_http_webtorch_worker_owner(ngx_webtorch_metrics_worker_t *worker)
{
    return worker->owner;
}


static uint64_t
ngx_http_webtorch_worker_gil(ngx_webtorch_metrics_worker_t *worker)
{
    return worker->gil;
}
