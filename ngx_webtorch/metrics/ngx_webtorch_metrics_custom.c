
#include "ngx_webtorch_metrics_custom.h"

#include <math.h>


#define NGX_WEBTORCH_METRICS_STAGE_GAUGES  6


static void ngx_webtorch_metrics_merge_counters(ngx_uint_t n, uint64_t *all,
    const uint64_t *cells);
static void ngx_webtorch_metrics_merge_model(ngx_webtorch_metrics_model_t *all,
    const ngx_webtorch_metrics_model_t *m, ngx_uint_t alive);
static void ngx_webtorch_metrics_merge_stage(ngx_webtorch_metrics_stage_t *all,
    const ngx_webtorch_metrics_stage_t *m, ngx_uint_t alive);
static void ngx_webtorch_metrics_blend(double *all, double n, double share);
static void ngx_webtorch_metrics_merge_custom(ngx_webtorch_series_t *series,
    uint64_t *all, const uint64_t *cells, ngx_uint_t alive);
static double ngx_webtorch_metrics_merge_gauge(uint32_t type, uint64_t n,
    double all, double value);


/* called by Python; NULL: there is no room, or one of another type */

uint64_t *
ngx_webtorch_metrics_open(int type, const char *name, const char *labels,
    const char *help, const double *bounds, uint32_t nbounds)
{
    ngx_webtorch_series_t          *series;
    ngx_webtorch_metrics_wanted_t   wanted;

    if (ngx_webtorch_metrics_own == NULL) {
        return NULL;
    }

    ngx_memzero(&wanted, sizeof(ngx_webtorch_metrics_wanted_t));

    wanted.kind = NGX_WEBTORCH_METRICS_CUSTOM;
    wanted.type = (uint32_t) type;
    wanted.name.data = (u_char *) name;
    wanted.name.len = ngx_strlen(name);
    wanted.labels.data = (u_char *) labels;
    wanted.labels.len = ngx_strlen(labels);
    wanted.help = help;
    wanted.bounds = bounds;
    wanted.nbounds = nbounds;

    switch (type) {

    case WEBTORCH_METRIC_COUNTER:
        wanted.ncounters = 1;
        break;

    case WEBTORCH_METRIC_HISTOGRAM:
        wanted.ncounters = nbounds + 2;
        break;

    case WEBTORCH_METRIC_MODEL:
        wanted.kind = NGX_WEBTORCH_METRICS_MODEL;
        wanted.ngauges = NGX_WEBTORCH_METRICS_MODEL_GAUGES;
        wanted.ncounters = sizeof(ngx_webtorch_metrics_model_t)
                           / sizeof(uint64_t)
                           - NGX_WEBTORCH_METRICS_MODEL_GAUGES;
        break;

    case WEBTORCH_METRIC_STAGE:
        wanted.kind = NGX_WEBTORCH_METRICS_STAGE;
        wanted.ngauges = NGX_WEBTORCH_METRICS_STAGE_GAUGES;
        wanted.ncounters = sizeof(ngx_webtorch_metrics_stage_t)
                           / sizeof(uint64_t)
                           - NGX_WEBTORCH_METRICS_STAGE_GAUGES;
        break;

    default: /* gauges: whether it was set, and its value */
        wanted.ngauges = 2;
    }

    series = ngx_webtorch_metrics_find(&wanted);

    if (series == NULL) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "webtorch metric \"%s\" is not counted: there is no room "
                      "for it, or it has another type or other buckets than "
                      "when nginx was started", name);
        return NULL;
    }

    return ngx_webtorch_metrics_cells(series);
}


/* called by Python */

void
ngx_webtorch_metrics_sum_losses(const char *name, uint64_t *steps,
    double *losses)
{
    ngx_str_t                      key;
    ngx_uint_t                     i, k, nseries, nslots;
    const uint64_t                *cells;
    ngx_webtorch_series_t         *series;
    ngx_webtorch_metrics_model_t   all;

    ngx_memzero(&all, sizeof(ngx_webtorch_metrics_model_t));

    key.data = (u_char *) name;
    key.len = ngx_strlen(name);

    nseries = ngx_webtorch_metrics_nseries();
    nslots = ngx_webtorch_metrics_nslots();

    for (i = 0; i < nseries; i++) {
        series = &ngx_webtorch_metrics_shared->series[i];

        if (!ngx_webtorch_metrics_is(series, NGX_WEBTORCH_METRICS_MODEL, &key))
        {
            continue;
        }

        for (k = 0; k < nslots; k++) {
            cells = &ngx_webtorch_metrics_shared->slots[k].cells[series->first];

            ngx_webtorch_metrics_merge_model(&all,
                                   (const ngx_webtorch_metrics_model_t *) cells,
                                   0);
        }
    }

    *steps = all.steps;
    *losses = all.losses;
}


void
ngx_webtorch_metrics_merge(ngx_webtorch_series_t *series, uint64_t *all,
    const uint64_t *cells, ngx_uint_t alive)
{
    ngx_uint_t  i, n;

    switch (series->kind) {

    case NGX_WEBTORCH_METRICS_MODEL:
        ngx_webtorch_metrics_merge_model((ngx_webtorch_metrics_model_t *) all,
                                (const ngx_webtorch_metrics_model_t *) cells,
                                alive);
        return;

    case NGX_WEBTORCH_METRICS_STAGE:
        ngx_webtorch_metrics_merge_stage((ngx_webtorch_metrics_stage_t *) all,
                                (const ngx_webtorch_metrics_stage_t *) cells,
                                alive);
        return;

    case NGX_WEBTORCH_METRICS_CUSTOM:
        ngx_webtorch_metrics_merge_custom(series, all, cells, alive);
        return;

    case NGX_WEBTORCH_METRICS_SHADOW:
        ngx_webtorch_metrics_merge_counters(series->ncounters, all, cells);
        return;

    default: /* NGX_WEBTORCH_METRICS_HANDLER */
        break;
    }

    n = series->ncounters + (alive ? series->ngauges - 2 : 0);

    ngx_webtorch_metrics_merge_counters(n, all, cells);

    /* the times of a full queue: the earliest that is in force */

    i = series->ncounters + series->ngauges - 2;

    if (alive && cells[i + 1]) {

        if (cells[i + 1] > all[i + 1] + NGX_WEBTORCH_METRICS_FULL) {
            all[i] = cells[i];

        } else if (all[i + 1] <= cells[i + 1] + NGX_WEBTORCH_METRICS_FULL) {
            all[i] = ngx_min(all[i], cells[i]);
        }

        all[i + 1] = ngx_max(all[i + 1], cells[i + 1]);
    }
}


static void
ngx_webtorch_metrics_merge_counters(ngx_uint_t n, uint64_t *all,
    const uint64_t *cells)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        all[i] += __atomic_load_n(&cells[i], __ATOMIC_RELAXED);
    }
}


/* the loss is that of the last step in any worker, which may have exited */

static void
ngx_webtorch_metrics_merge_model(ngx_webtorch_metrics_model_t *all,
    const ngx_webtorch_metrics_model_t *m, ngx_uint_t alive)
{
    all->steps += m->steps;
    all->compiled += m->compiled;
    all->losses += m->losses;
    all->saved = ngx_max(all->saved, m->saved);

    if (m->stepped > all->stepped) {
        all->stepped = m->stepped;
        all->loss = m->loss;
        all->average = m->average;
    }

    if (alive) {
        all->loaded += m->loaded;

        /* one worker writes */
        all->unsaved = ngx_max(all->unsaved, m->unsaved);
        all->unstored = ngx_max(all->unstored, m->unstored);
    }
}


static void
ngx_webtorch_metrics_merge_stage(ngx_webtorch_metrics_stage_t *all,
    const ngx_webtorch_metrics_stage_t *m, ngx_uint_t alive)
{
    double      share;
    ngx_uint_t  i;

    for (i = 0; i < NGX_WEBTORCH_METRICS_BUCKETS; i++) {
        all->seconds.buckets[i] += m->seconds.buckets[i];
    }

    all->seconds.sum += m->seconds.sum;
    all->rows += m->rows;
    all->errors += m->errors;
    all->samples += m->samples;

    if (!alive || m->weight == 0) {
        return;
    }

    all->weight += m->weight;

    share = (double) m->weight / (double) all->weight;

    ngx_webtorch_metrics_blend(&all->mean, m->mean, share);
    ngx_webtorch_metrics_blend(&all->deviation, m->deviation, share);
    ngx_webtorch_metrics_blend(&all->nan, m->nan, share);
    ngx_webtorch_metrics_blend(&all->zero, m->zero, share);
    ngx_webtorch_metrics_blend(&all->distance, m->distance, share);
}


/* NaN: a worker has seen no finite element yet */

static void
ngx_webtorch_metrics_blend(double *all, double n, double share)
{
    if (share == 1 || isnan(*all)) {
        *all = n;

    } else if (!isnan(n)) {
        *all += share * (n - *all);
    }
}


static void
ngx_webtorch_metrics_merge_custom(ngx_webtorch_series_t *series, uint64_t *all,
    const uint64_t *cells, ngx_uint_t alive)
{
    double      value;
    ngx_uint_t  i;

    switch (series->type) {

    case WEBTORCH_METRIC_COUNTER:
        ngx_webtorch_metrics_add_double(all,
                                        ngx_webtorch_metrics_double(cells[0]));
        return;

    case WEBTORCH_METRIC_HISTOGRAM:
        for (i = 0; i <= series->nbounds; i++) {
            all[i] += cells[i];
        }

        ngx_webtorch_metrics_add_double(&all[i],
                                        ngx_webtorch_metrics_double(cells[i]));
        return;
    }

    if (!alive || cells[0] == 0) {
        return;
    }

    value = ngx_webtorch_metrics_merge_gauge(series->type, all[0],
                                        ngx_webtorch_metrics_double(all[1]),
                                        ngx_webtorch_metrics_double(cells[1]));

    all[0]++;
    ngx_memcpy(&all[1], &value, sizeof(double));
}


/* n: workers that have set it so far */

static double
ngx_webtorch_metrics_merge_gauge(uint32_t type, uint64_t n, double all,
    double value)
{
    if (n == 0) {
        return value;
    }

    switch (type) {

    case WEBTORCH_METRIC_MAX:
        return fmax(all, value);

    case WEBTORCH_METRIC_MIN:
        return fmin(all, value);

    case WEBTORCH_METRIC_MEAN:
        return all + (value - all) / (double) (n + 1);

    default: /* WEBTORCH_METRIC_SUM */
        return all + value;
    }
}
