
/*
 * What Python counts: models, stages and the metrics of users.  Python gets the
 * cells of this worker and writes to them under the GIL.
 */


#ifndef _NGX_WEBTORCH_METRICS_CUSTOM_H_INCLUDED_
#define _NGX_WEBTORCH_METRICS_CUSTOM_H_INCLUDED_


#include "ngx_webtorch_metrics.h"


/* the order of cells is that of python/webtorch/_metrics/cells.py */

typedef struct {
    uint64_t                        steps;       /* of the optimizer */
    uint64_t                        stepped;     /* the last one, ms since
                                                    1970 */
    double                          loss;        /* of the last one */
    double                          average;     /* of about a hundred */
    uint64_t                        saved;       /* checkpoint, ms since 1970;
                                                    0: none */
    uint64_t                        compiled;    /* graphs, torch.compile */
    double                          losses;      /* their sum, of all steps */

    /* gauges */
    uint64_t                        loaded;      /* workers */
    uint64_t                        unsaved;     /* since when checkpoints
                                                    fail, ms since 1970; 0:
                                                    they do not */
    uint64_t                        unstored;    /* those of object storage */
} ngx_webtorch_metrics_model_t;


#define NGX_WEBTORCH_METRICS_MODEL_GAUGES  3


typedef struct {
    ngx_webtorch_metrics_seconds_t  seconds;
    uint64_t                        rows;
    uint64_t                        errors;      /* exceptions */
    uint64_t                        samples;

    /* gauges, averages of samples */
    uint64_t                        weight;      /* of them; 0: none */
    double                          mean;
    double                          deviation;
    double                          nan;         /* share of elements */
    double                          zero;
    double                          distance;    /* from the reference */
} ngx_webtorch_metrics_stage_t;


/*
 * Adds the cells of a worker to those of the workers before it, which begin as
 * zeros.  Gauges are added of a worker that is alive.
 */
void ngx_webtorch_metrics_merge(ngx_webtorch_series_t *series, uint64_t *all,
    const uint64_t *cells, ngx_uint_t alive);


static ngx_inline double
ngx_webtorch_metrics_double(uint64_t cell)
{
    double  n;

    ngx_memcpy(&n, &cell, sizeof(double));

    return n;
}


/* for a counter or sum of an application; one thread at a time */

static ngx_inline void
ngx_webtorch_metrics_add_double(uint64_t *cell, double n)
{
    n += ngx_webtorch_metrics_double(*cell);

    ngx_memcpy(cell, &n, sizeof(double));
}


#endif /* _NGX_WEBTORCH_METRICS_CUSTOM_H_INCLUDED_ */
