
#include "ngx_http_webtorch_status_names.h"


/* a number of a handler */

typedef struct {
    const char                 *name;
    const char                 *type;
    const char                 *help;
    uint64_t                  (*get)(ngx_http_webtorch_status_item_t *item);
    size_t                      offset;   /* in the cells, if get is NULL */
} ngx_http_webtorch_other_t;


typedef struct {
    const char                 *name;
    const char                 *help;
    size_t                      offset;   /* in the cells */
} ngx_http_webtorch_other_time_t;


static void ngx_http_webtorch_other_numbers(ngx_http_webtorch_family_t *f,
    const ngx_http_webtorch_other_t *other, const char *label,
    const char *more);
static uint64_t ngx_http_webtorch_get_success(
    ngx_http_webtorch_status_item_t *item);
static uint64_t ngx_http_webtorch_get_failure(
    ngx_http_webtorch_status_item_t *item);
static uint64_t ngx_http_webtorch_get_calls(
    ngx_http_webtorch_status_item_t *item);
static void ngx_http_webtorch_vllm_success(ngx_http_webtorch_family_t *f);


#define ngx_http_webtorch_item_metrics(item)                                  \
    ((ngx_webtorch_handler_metrics_t *) (item)->cells)


static const ngx_http_webtorch_other_t  ngx_http_webtorch_triton[] = {
    { "nv_inference_request_success", "counter",
      "Requests whose status is below 400.",
      ngx_http_webtorch_get_success, 0 },
    { "nv_inference_request_failure", "counter",
      "Other requests.",
      ngx_http_webtorch_get_failure, 0 },
    { "nv_inference_count", "counter",
      "Rows of all calls.",
      NULL, offsetof(ngx_webtorch_handler_metrics_t, nrows) },
    { "nv_inference_exec_count", "counter",
      "Calls.",
      ngx_http_webtorch_get_calls, 0 },
    { "nv_inference_request_duration_us", "counter",
      "Time of requests.",
      NULL, offsetof(ngx_webtorch_handler_metrics_t, request.sum) },
    { "nv_inference_queue_duration_us", "counter",
      "Time that requests waited for their call.",
      NULL, offsetof(ngx_webtorch_handler_metrics_t, queue.sum) },
    { "nv_inference_compute_input_duration_us", "counter",
      "Time from the bodies of requests to their rows.",
      NULL, offsetof(ngx_webtorch_handler_metrics_t, decode.sum) },
    { "nv_inference_compute_infer_duration_us", "counter",
      "Time that requests were in calls.",
      NULL, offsetof(ngx_webtorch_handler_metrics_t, spent) },
    { "nv_inference_compute_output_duration_us", "counter",
      "Time from the end of calls until answers are sent.",
      NULL, offsetof(ngx_webtorch_handler_metrics_t, encode.sum) },
    { "nv_inference_pending_request_count", "gauge",
      "Requests in queues.",
      ngx_http_webtorch_snapshot_waiting, 0 },
    { NULL, NULL, NULL, NULL, 0 }
};


static const ngx_http_webtorch_other_t  ngx_http_webtorch_vllm[] = {
    { "vllm:num_requests_running", "gauge",
      "Requests in calls.",
      NULL, offsetof(ngx_webtorch_handler_metrics_t, running) },
    { "vllm:num_requests_waiting", "gauge",
      "Requests in queues.",
      ngx_http_webtorch_snapshot_waiting, 0 },
    { NULL, NULL, NULL, NULL, 0 }
};


static const ngx_http_webtorch_other_time_t  ngx_http_webtorch_vllm_times[] = {
    { "vllm:e2e_request_latency_seconds", "Requests.",
      offsetof(ngx_webtorch_handler_metrics_t, request) },
    { "vllm:request_queue_time_seconds",
      "Time that requests waited for their call.",
      offsetof(ngx_webtorch_handler_metrics_t, queue) },
    { "vllm:request_inference_time_seconds", "Calls.",
      offsetof(ngx_webtorch_handler_metrics_t, run) },
    { NULL, NULL, 0 }
};


void
ngx_http_webtorch_status_triton(ngx_http_webtorch_family_t *f)
{
    ngx_http_webtorch_other_numbers(f, ngx_http_webtorch_triton, "model",
                                    ",version=\"1\"");
}


void
ngx_http_webtorch_status_vllm(ngx_http_webtorch_family_t *f)
{
    u_char                                 buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                              labels;
    ngx_uint_t                             i;
    ngx_webtorch_metrics_seconds_t        *seconds;
    ngx_http_webtorch_status_item_t       *item;
    const ngx_http_webtorch_other_time_t  *other;

    ngx_http_webtorch_other_numbers(f, ngx_http_webtorch_vllm, "model_name",
                                    "");

    if (ngx_http_webtorch_family(f, "vllm:request_success_total", "counter",
                                 NULL, "Requests by how they ended."))
    {
        ngx_http_webtorch_vllm_success(f);
    }

    item = f->snapshot->handlers.elts;

    for (other = ngx_http_webtorch_vllm_times; other->name; other++) {

        if (!ngx_http_webtorch_family(f, other->name, "histogram", "seconds",
                                      other->help))
        {
            continue;
        }

        for (i = 0; i < f->snapshot->handlers.nelts; i++) {
            seconds = (ngx_webtorch_metrics_seconds_t *)
                      ((u_char *) item[i].cells + other->offset);

            ngx_http_webtorch_label(&labels, buf, "model_name",
                                    &item[i].label);
            ngx_http_webtorch_sample_histogram(f, &labels, seconds);
        }
    }
}


/* more: other labels, as they are written */

static void
ngx_http_webtorch_other_numbers(ngx_http_webtorch_family_t *f,
    const ngx_http_webtorch_other_t *other, const char *label,
    const char *more)
{
    u_char                            buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                         labels;
    ngx_uint_t                        i;
    const char                       *type;
    ngx_http_webtorch_status_item_t  *item;

    item = f->snapshot->handlers.elts;

    for ( /* void */ ; other->name; other++) {

        /* OpenMetrics has no counter whose name does not end with "_total" */

        type = (f->wanted->openmetrics && other->type[0] == 'c') ? "unknown"
                                                                 : other->type;

        if (!ngx_http_webtorch_family(f, other->name, type, NULL, other->help))
        {
            continue;
        }

        for (i = 0; i < f->snapshot->handlers.nelts; i++) {
            ngx_http_webtorch_label(&labels, buf, label, &item[i].label);

            labels.len = ngx_sprintf(labels.data + labels.len, "%s", more)
                         - labels.data;

            ngx_http_webtorch_sample(f, &labels, other->get
                ? other->get(&item[i])
                : ngx_http_webtorch_cell(&item[i], other->offset));
        }
    }
}


static uint64_t
ngx_http_webtorch_get_success(ngx_http_webtorch_status_item_t *item)
{
    return ngx_http_webtorch_snapshot_codes(item, 1, 399);
}


/* statuses without a cell of their own count as failures */

static uint64_t
ngx_http_webtorch_get_failure(ngx_http_webtorch_status_item_t *item)
{
    return ngx_http_webtorch_snapshot_codes(item, 400, 999)
           + item->cells[NGX_WEBTORCH_METRICS_CODES - 1];
}


static uint64_t
ngx_http_webtorch_get_calls(ngx_http_webtorch_status_item_t *item)
{
    uint64_t    sum;
    ngx_uint_t  i;

    sum = 0;

    for (i = 0; i < NGX_WEBTORCH_METRICS_ROWS; i++) {
        sum += ngx_http_webtorch_item_metrics(item)->rows[i];
    }

    return sum;
}


static void
ngx_http_webtorch_vllm_success(ngx_http_webtorch_family_t *f)
{
    u_char                           *p, buf[NGX_HTTP_WEBTORCH_LABELS];
    uint64_t                          counts[3];
    ngx_str_t                         labels;
    ngx_uint_t                        i, k;
    ngx_http_webtorch_status_item_t  *item;

    static const char  *reasons[] = { "stop", "abort", "error" };

    item = f->snapshot->handlers.elts;

    for (i = 0; i < f->snapshot->handlers.nelts; i++) {
        ngx_http_webtorch_label(&labels, buf, "model_name", &item[i].label);
        p = labels.data + labels.len;

        counts[0] = ngx_http_webtorch_get_success(&item[i]);
        counts[1] = ngx_http_webtorch_snapshot_codes(&item[i], 499, 499);
        counts[2] = ngx_http_webtorch_get_failure(&item[i]) - counts[1];

        for (k = 0; k < 3; k++) {
            labels.len = ngx_sprintf(p, ",finished_reason=\"%s\"", reasons[k])
                         - labels.data;
            ngx_http_webtorch_sample(f, &labels, counts[k]);
        }
    }
}
