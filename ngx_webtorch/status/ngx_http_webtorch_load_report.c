
/*
 * Reading what all workers count takes longer than a request, so a worker keeps
 * what it has read for some milliseconds.
 */

#include "ngx_http_webtorch_load_report.h"
#include "ngx_http_webtorch.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_status_snapshot.h"
#include "ngx_webtorch_clock.h"


/* microseconds that a report is kept, and that rates are of, at least */
#define NGX_HTTP_WEBTORCH_REPORT_AGE     50000
#define NGX_HTTP_WEBTORCH_REPORT_WINDOW  1000000

/* bytes of a report */
#define NGX_HTTP_WEBTORCH_REPORT_LEN     512


/* sums over all workers */

typedef struct {
    uint64_t    time;                     /* us of the clock; 0: none yet */
    uint64_t    requests;
    uint64_t    errors;                   /* status 5xx */
    uint64_t    rows;
    uint64_t    busy;                     /* us in calls */
    uint64_t    cpu;                      /* us of processors */
} ngx_http_webtorch_load_sums_t;


typedef struct {
    ngx_http_webtorch_load_sums_t   base; /* that rates are from */
    uint64_t    time;                     /* us of the clock */
    uint64_t    waiting;                  /* requests */
    uint64_t    running;

    /* in thousandths */
    uint64_t    cpu;                      /* share of the processors */
    uint64_t    busy;                     /* share of workers in calls */
    uint64_t    requests;                 /* a second */
    uint64_t    errors;
    uint64_t    rows;
} ngx_http_webtorch_load_t;


static ngx_int_t ngx_http_webtorch_load_report_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_load_report_add(ngx_http_request_t *r,
    const char *format);
static ngx_int_t ngx_http_webtorch_load_measure(ngx_http_request_t *r,
    ngx_http_webtorch_load_t *load);
static void ngx_http_webtorch_load_sum(ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_load_t *load, ngx_http_webtorch_load_sums_t *sums);
static uint64_t ngx_http_webtorch_load_cpu(
    ngx_http_webtorch_snapshot_t *snapshot);
static uint64_t ngx_http_webtorch_load_rate(uint64_t now, uint64_t before,
    uint64_t usec);


/* names as ORCA has them: %uL.%03uL in this order */

static const char  ngx_http_webtorch_report_text[] =
    "TEXT cpu_utilization=%uL.%03uL, application_utilization=%uL.%03uL, "
    "rps_fractional=%uL.%03uL, eps=%uL.%03uL, "
    "named_metrics.rows_per_second=%uL.%03uL, "
    "named_metrics.requests_waiting=%uL, named_metrics.requests_running=%uL";

static const char  ngx_http_webtorch_report_json[] =
    "JSON {\"cpu_utilization\": %uL.%03uL, "
    "\"application_utilization\": %uL.%03uL, "
    "\"rps_fractional\": %uL.%03uL, \"eps\": %uL.%03uL, "
    "\"named_metrics\": {\"rows_per_second\": %uL.%03uL, "
    "\"requests_waiting\": %uL, \"requests_running\": %uL}}";


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;

static ngx_http_webtorch_load_t  ngx_http_webtorch_load_now;  /* of a worker */


char *
ngx_http_webtorch_conf_load_report(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_webtorch_conf_t  *wcf;

    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);
    wcf->load_report = 1;

    return ngx_conf_set_flag_slot(cf, cmd, conf);
}


ngx_int_t
ngx_http_webtorch_load_report_init(ngx_conf_t *cf)
{
    ngx_webtorch_conf_t  *wcf;

    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);

    if (!wcf->load_report) {
        return NGX_OK;
    }

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_webtorch_load_report_filter;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_load_report_filter(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_str_t                     *value;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    if (!wlcf->load_report
        || r != r->main
        || ngx_webtorch_metrics_own == NULL)
    {
        return ngx_http_next_header_filter(r);
    }

    value = ngx_http_webtorch_find_header(r, "endpoint-load-metrics-format");

    if (value == NULL || value->len != 4) {
        return ngx_http_next_header_filter(r);
    }

    rc = NGX_OK;

    if (ngx_strncasecmp(value->data, (u_char *) "TEXT", 4) == 0) {
        rc = ngx_http_webtorch_load_report_add(r,
                                               ngx_http_webtorch_report_text);

    } else if (ngx_strncasecmp(value->data, (u_char *) "JSON", 4) == 0) {
        rc = ngx_http_webtorch_load_report_add(r,
                                               ngx_http_webtorch_report_json);
    }

    return (rc == NGX_OK) ? ngx_http_next_header_filter(r) : NGX_ERROR;
}


static ngx_int_t
ngx_http_webtorch_load_report_add(ngx_http_request_t *r, const char *format)
{
    u_char                    *p;
    ngx_str_t                  name, value;
    ngx_http_webtorch_load_t  *load;

    load = &ngx_http_webtorch_load_now;

    if (ngx_http_webtorch_load_measure(r, load) != NGX_OK) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_WEBTORCH_REPORT_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&name, "endpoint-load-metrics");

    value.data = p;
    value.len = ngx_snprintf(p, NGX_HTTP_WEBTORCH_REPORT_LEN, format,
                             load->cpu / 1000, load->cpu % 1000,
                             load->busy / 1000, load->busy % 1000,
                             load->requests / 1000, load->requests % 1000,
                             load->errors / 1000, load->errors % 1000,
                             load->rows / 1000, load->rows % 1000,
                             load->waiting, load->running)
                - p;

    return ngx_http_webtorch_add_header(r, &name, &value);
}


/* the first rates are those since nginx was started */

static ngx_int_t
ngx_http_webtorch_load_measure(ngx_http_request_t *r,
    ngx_http_webtorch_load_t *load)
{
    uint64_t                        now, usec;
    ngx_http_webtorch_snapshot_t    snapshot;
    ngx_http_webtorch_load_sums_t   sums, *base;

    now = ngx_webtorch_clock_usec();

    if (load->time && now - load->time < NGX_HTTP_WEBTORCH_REPORT_AGE) {
        return NGX_OK;
    }

    if (ngx_http_webtorch_snapshot_take_handlers(r, &snapshot) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_webtorch_load_sum(&snapshot, load, &sums);

    sums.time = now;
    load->time = now;
    base = &load->base;

    if (base->time) {
        usec = now - base->time;

        if (usec < NGX_HTTP_WEBTORCH_REPORT_WINDOW) {
            return NGX_OK;
        }

    } else {
        usec = (snapshot.time - ngx_webtorch_metrics_shared->started) * 1000;
    }

    load->requests = ngx_http_webtorch_load_rate(sums.requests, base->requests,
                                                 usec);
    load->errors = ngx_http_webtorch_load_rate(sums.errors, base->errors, usec);
    load->rows = ngx_http_webtorch_load_rate(sums.rows, base->rows, usec);

    /* seconds in a second, of all workers and of all processors */

    load->busy = ngx_http_webtorch_load_rate(sums.busy, base->busy, usec)
                 / 1000000 / ngx_max(snapshot.nalive, 1);

    /* a worker that has exited takes its time with it: the last share is kept */

    if (sums.cpu >= base->cpu) {
        load->cpu = ngx_http_webtorch_load_rate(sums.cpu, base->cpu, usec)
                    / 1000000 / (uint64_t) ngx_max(ngx_ncpu, 1);
    }

    *base = sums;

    return NGX_OK;
}


static void
ngx_http_webtorch_load_sum(ngx_http_webtorch_snapshot_t *snapshot,
    ngx_http_webtorch_load_t *load, ngx_http_webtorch_load_sums_t *sums)
{
    ngx_uint_t                        i;
    ngx_webtorch_handler_metrics_t   *m;
    ngx_http_webtorch_status_item_t  *item;

    ngx_memzero(sums, sizeof(ngx_http_webtorch_load_sums_t));

    load->waiting = 0;
    load->running = 0;

    item = snapshot->handlers.elts;

    for (i = 0; i < snapshot->handlers.nelts; i++) {
        m = (ngx_webtorch_handler_metrics_t *) item[i].cells;

        load->waiting += ngx_http_webtorch_snapshot_waiting(&item[i]);
        load->running += m->running;

        sums->requests += ngx_http_webtorch_snapshot_codes(&item[i], 0, 999);
        sums->errors += ngx_http_webtorch_snapshot_codes(&item[i], 500, 999);
        sums->rows += m->nrows;
        sums->busy += m->run.sum;
    }

    sums->cpu = ngx_http_webtorch_load_cpu(snapshot);
}


/* us of processors that the workers which run have used */

static uint64_t
ngx_http_webtorch_load_cpu(ngx_http_webtorch_snapshot_t *snapshot)
{
    uint64_t                            cpu;
    clockid_t                           clock;
    ngx_uint_t                          i;
    struct timespec                     ts;
    ngx_http_webtorch_status_worker_t  *worker;

    cpu = 0;
    worker = snapshot->workers.elts;

    for (i = 0; i < snapshot->workers.nelts; i++) {

        if (worker[i].alive
            && clock_getcpuclockid(worker[i].worker.pid, &clock) == 0
            && clock_gettime(clock, &ts) == 0)
        {
            cpu += (uint64_t) ts.tv_sec * 1000000
                   + (uint64_t) ts.tv_nsec / 1000;
        }
    }

    return cpu;
}


/* thousandths a second */

static uint64_t
ngx_http_webtorch_load_rate(uint64_t now, uint64_t before, uint64_t usec)
{
    return now > before
               ? (uint64_t) ((double) (now - before) * 1e9
                             / (double) ngx_max(usec, 1))
               : 0;
}
