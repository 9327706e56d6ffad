
#include "ngx_webtorch_metrics_shadow.h"


const char  *ngx_webtorch_shadow_outcomes[] = {
    "agreed", "differed", "failed", "dropped"
};


void
ngx_webtorch_metrics_shadow_init(ngx_webtorch_handler_t *handler,
    ngx_log_t *log)
{
    u_char                          buf[NGX_WEBTORCH_METRICS_KEY];
    ngx_webtorch_metrics_wanted_t   wanted;

    ngx_memzero(&wanted, sizeof(ngx_webtorch_metrics_wanted_t));

    wanted.kind = NGX_WEBTORCH_METRICS_SHADOW;
    wanted.name = handler->shadowed->name;
    wanted.ncounters = NGX_WEBTORCH_SHADOW_CELLS;

    /* a name of a function has no character with an escape */

    wanted.labels.data = buf;
    wanted.labels.len = ngx_snprintf(buf, sizeof(buf), "shadow=\"%V%V\"",
                                     &handler->name, &handler->model)
                        - buf;

    if (wanted.labels.len < sizeof(buf)) {
        handler->series = ngx_webtorch_metrics_find(&wanted);
    }

    if (handler->series == NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "no room for the metrics of webtorch shadow \"%V\", "
                      "it is not counted", &handler->name);
        return;
    }

    handler->shadow_metrics = (ngx_webtorch_shadow_metrics_t *)
                              ngx_webtorch_metrics_cells(handler->series);
}


void
ngx_webtorch_metrics_shadow_end(ngx_webtorch_handler_t *handler,
    ngx_webtorch_shadow_outcome_e outcome)
{
    if (handler->shadow_metrics) {
        ngx_webtorch_metrics_add(&handler->shadow_metrics->outcomes[outcome],
                                 1);
    }
}
