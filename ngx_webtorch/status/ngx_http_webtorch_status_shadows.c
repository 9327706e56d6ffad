
#include "ngx_http_webtorch_status_shadows.h"
#include "ngx_webtorch_metrics_shadow.h"


static void ngx_http_webtorch_text_outcomes(ngx_http_webtorch_family_t *f,
    ngx_http_webtorch_status_item_t *item);


void
ngx_http_webtorch_status_shadows(ngx_http_webtorch_family_t *f)
{
    u_char                            buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                         labels;
    ngx_uint_t                        i, n;
    ngx_webtorch_shadow_metrics_t    *m;
    ngx_http_webtorch_status_item_t  *item;

    item = f->snapshot->shadows.elts;
    n = f->snapshot->shadows.nelts;

    if (n == 0) {
        return;
    }

    if (ngx_http_webtorch_family(f, "webtorch_shadow_requests_total",
                                 "counter", NULL, "Copies of requests by what "
                                 "became of them."))
    {
        for (i = 0; i < n; i++) {
            ngx_http_webtorch_text_outcomes(f, &item[i]);
        }
    }

    if (ngx_http_webtorch_family(f, "webtorch_shadow_seconds", "histogram",
                                 "seconds", "Time of the shadow's call, once "
                                 "for each copy."))
    {
        for (i = 0; i < n; i++) {
            m = (ngx_webtorch_shadow_metrics_t *) item[i].cells;

            ngx_http_webtorch_label(&labels, buf, "handler", &item[i].label);
            ngx_http_webtorch_sample_histogram(f, &labels, &m->seconds);
        }
    }
}


static void
ngx_http_webtorch_text_outcomes(ngx_http_webtorch_family_t *f,
    ngx_http_webtorch_status_item_t *item)
{
    u_char                         *p, buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                       labels;
    ngx_uint_t                      i;
    ngx_webtorch_shadow_metrics_t  *m;

    m = (ngx_webtorch_shadow_metrics_t *) item->cells;

    ngx_http_webtorch_label(&labels, buf, "handler", &item->label);

    p = labels.data + labels.len;

    for (i = 0; i < NGX_WEBTORCH_SHADOW_OUTCOMES; i++) {
        labels.len = ngx_sprintf(p, ",outcome=\"%s\"",
                                 ngx_webtorch_shadow_outcomes[i])
                     - buf;

        ngx_http_webtorch_sample(f, &labels, m->outcomes[i]);
    }
}
