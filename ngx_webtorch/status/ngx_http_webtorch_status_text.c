
#include "ngx_http_webtorch_status_text.h"
#include "ngx_http_webtorch_status_balancers.h"
#include "ngx_http_webtorch_status_shadows.h"
#include "ngx_http_webtorch_status_family.h"
#include "ngx_http_webtorch_status_names.h"
#include "ngx_http_webtorch_status_workers.h"


/* a metric of handlers, or of models or stages, that has one sample for each */

typedef enum {
    NGX_HTTP_WEBTORCH_FIELD_COUNT = 0,
    NGX_HTTP_WEBTORCH_FIELD_SECONDS       /* a histogram */
} ngx_http_webtorch_field_e;


typedef struct {
    const char                 *name;
    const char                 *type;
    const char                 *unit;
    const char                 *help;
    ngx_http_webtorch_field_e   kind;
    size_t                      offset;   /* in the cells */
} ngx_http_webtorch_field_t;


/* cells that one label distinguishes */

typedef struct {
    const char                 *label;
    const char                **values;
    size_t                      offset;
} ngx_http_webtorch_label_t;


static void ngx_http_webtorch_text_names(ngx_http_webtorch_family_t *f);
static void ngx_http_webtorch_text_scopes(ngx_http_webtorch_family_t *f);
static void ngx_http_webtorch_text_fields(ngx_http_webtorch_family_t *f,
    ngx_array_t *items, const char *label,
    const ngx_http_webtorch_field_t *field);
static void ngx_http_webtorch_text_handlers(ngx_http_webtorch_family_t *f);
static void ngx_http_webtorch_text_codes(ngx_http_webtorch_family_t *f);
static void ngx_http_webtorch_text_split(ngx_http_webtorch_family_t *f,
    const ngx_http_webtorch_label_t *split);
static void ngx_http_webtorch_text_gauges(ngx_http_webtorch_family_t *f);
static void ngx_http_webtorch_text_models(ngx_http_webtorch_family_t *f);
static void ngx_http_webtorch_text_stages(ngx_http_webtorch_family_t *f);
static void ngx_http_webtorch_text_custom(ngx_http_webtorch_family_t *f);


const char  *ngx_http_webtorch_status_refused[] = {
    "queue", "queue_size", "stuck", "not_loaded", "timeout", "max_streams",
    "resume", "body", "event_loop", NULL
};


static const ngx_http_webtorch_field_t  ngx_http_webtorch_handler_fields[] = {
    { "webtorch_request_seconds", "histogram", "seconds",
      "Requests, from their headers to the end of the answer.",
      NGX_HTTP_WEBTORCH_FIELD_SECONDS,
      offsetof(ngx_webtorch_handler_metrics_t, request) },
    { "webtorch_queue_seconds", "histogram", "seconds",
      "Time that requests waited for their call.",
      NGX_HTTP_WEBTORCH_FIELD_SECONDS,
      offsetof(ngx_webtorch_handler_metrics_t, queue) },
    { "webtorch_run_seconds", "histogram", "seconds",
      "Calls of the function.",
      NGX_HTTP_WEBTORCH_FIELD_SECONDS,
      offsetof(ngx_webtorch_handler_metrics_t, run) },
    { "webtorch_decode_seconds", "histogram", "seconds",
      "Time from a request's body to its rows.",
      NGX_HTTP_WEBTORCH_FIELD_SECONDS,
      offsetof(ngx_webtorch_handler_metrics_t, decode) },
    { "webtorch_encode_seconds", "histogram", "seconds",
      "Time from the end of the call until an answer is sent.",
      NGX_HTTP_WEBTORCH_FIELD_SECONDS,
      offsetof(ngx_webtorch_handler_metrics_t, encode) },
    { "webtorch_received_bytes_total", "counter", "bytes",
      "Requests with their headers.", NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, received) },
    { "webtorch_sent_bytes_total", "counter", "bytes",
      "Answers with their headers.", NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, sent) },
    { "webtorch_requests_running", "gauge", NULL,
      "Requests and rows of other functions in calls.",
      NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, running) },
    { "webtorch_log_rows_dropped_total", "counter", NULL,
      "Rows of webtorch_log that found the queue full.",
      NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, dropped) },
    { "webtorch_streams_open", "gauge", NULL, "Streams that are open.",
      NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, open) },
    { "webtorch_streams_opened_total", "counter", NULL,
      "Streams that were opened.", NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, streams) },
    { "webtorch_streams_resumed_total", "counter", NULL,
      "Streams to which their client came back.",
      NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, resumed) },
    { "webtorch_offloaded_batches_total", "counter", NULL,
      "Batches for the worker that owns the device.",
      NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, offloaded) },
    { "webtorch_offloaded_batches_lost_total", "counter", NULL,
      "Batches that it had when it exited.",
      NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, lost) },
    { "webtorch_offloaded_batches_waiting", "gauge", NULL,
      "Batches that it has or will receive.",
      NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_handler_metrics_t, waiting) },
    { NULL, NULL, NULL, NULL, NGX_HTTP_WEBTORCH_FIELD_COUNT, 0 }
};


static const ngx_http_webtorch_field_t  ngx_http_webtorch_model_fields[] = {
    { "webtorch_model_steps_total", "counter", NULL,
      "Steps of the optimizer.", NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_metrics_model_t, steps) },
    { "webtorch_model_compilations_total", "counter", NULL,
      "Graphs of the network that were compiled.",
      NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_metrics_model_t, compiled) },
    { "webtorch_model_workers", "gauge", NULL,
      "Workers that have the model.", NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_metrics_model_t, loaded) },
    { NULL, NULL, NULL, NULL, NGX_HTTP_WEBTORCH_FIELD_COUNT, 0 }
};


static const ngx_http_webtorch_field_t  ngx_http_webtorch_stage_fields[] = {
    { "webtorch_stage_seconds", "histogram", "seconds", "Calls of the stage.",
      NGX_HTTP_WEBTORCH_FIELD_SECONDS,
      offsetof(ngx_webtorch_metrics_stage_t, seconds) },
    { "webtorch_stage_rows_total", "counter", NULL,
      "Rows that have left the stage.", NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_metrics_stage_t, rows) },
    { "webtorch_stage_errors_total", "counter", NULL,
      "Calls that raised an exception.", NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_metrics_stage_t, errors) },
    { "webtorch_stage_samples_total", "counter", NULL,
      "Calls whose tensors were sampled.", NGX_HTTP_WEBTORCH_FIELD_COUNT,
      offsetof(ngx_webtorch_metrics_stage_t, samples) },
    { NULL, NULL, NULL, NULL, NGX_HTTP_WEBTORCH_FIELD_COUNT, 0 }
};


void
ngx_http_webtorch_status_text(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *snapshot,
    const ngx_http_webtorch_status_wanted_t *wanted)
{
    ngx_http_webtorch_family_t  f;

    f.w = w;
    f.snapshot = snapshot;
    f.wanted = wanted;

    if (wanted->names) {
        ngx_http_webtorch_text_names(&f);

    } else {
        ngx_http_webtorch_text_scopes(&f);
    }

    if (wanted->openmetrics) {
        ngx_http_webtorch_status_puts(w, "# EOF\n");
    }
}


static void
ngx_http_webtorch_text_names(ngx_http_webtorch_family_t *f)
{
    if (f->wanted->names == NGX_HTTP_WEBTORCH_STATUS_TRITON) {
        ngx_http_webtorch_status_triton(f);

    } else {
        ngx_http_webtorch_status_vllm(f);
    }
}


static void
ngx_http_webtorch_text_scopes(ngx_http_webtorch_family_t *f)
{
    const ngx_http_webtorch_status_wanted_t  *wanted;

    wanted = f->wanted;

    if (wanted->scopes & NGX_HTTP_WEBTORCH_STATUS_SERVER) {
        ngx_http_webtorch_status_server(f);
    }

    if (wanted->scopes & NGX_HTTP_WEBTORCH_STATUS_WORKERS) {
        ngx_http_webtorch_status_workers(f);
    }

    if (wanted->scopes & NGX_HTTP_WEBTORCH_STATUS_HANDLERS) {
        ngx_http_webtorch_text_handlers(f);
        ngx_http_webtorch_status_shadows(f);
    }

    if (wanted->scopes & NGX_HTTP_WEBTORCH_STATUS_MODELS) {
        ngx_http_webtorch_text_models(f);
    }

    if (wanted->scopes & NGX_HTTP_WEBTORCH_STATUS_STAGES) {
        ngx_http_webtorch_text_stages(f);
    }

    if (wanted->scopes & NGX_HTTP_WEBTORCH_STATUS_BALANCERS) {
        ngx_http_webtorch_status_balancers(f);
    }

    if (wanted->scopes & NGX_HTTP_WEBTORCH_STATUS_CUSTOM) {
        ngx_http_webtorch_text_custom(f);
    }
}


static void
ngx_http_webtorch_text_fields(ngx_http_webtorch_family_t *f,
    ngx_array_t *items, const char *label,
    const ngx_http_webtorch_field_t *field)
{
    u_char                            buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                         labels;
    ngx_uint_t                        i;
    ngx_http_webtorch_status_item_t  *item;

    item = items->elts;

    for ( /* void */ ; field->name; field++) {

        if (items->nelts == 0
            || !ngx_http_webtorch_family(f, field->name, field->type,
                                         field->unit, field->help))
        {
            continue;
        }

        for (i = 0; i < items->nelts; i++) {
            ngx_http_webtorch_label(&labels, buf, label, &item[i].label);

            if (field->kind == NGX_HTTP_WEBTORCH_FIELD_SECONDS) {
                ngx_http_webtorch_sample_histogram(f, &labels,
                                     (ngx_webtorch_metrics_seconds_t *)
                                     &ngx_http_webtorch_cell(&item[i],
                                                             field->offset));
                continue;
            }

            ngx_http_webtorch_sample(f, &labels,
                              ngx_http_webtorch_cell(&item[i], field->offset));
        }
    }
}


static void
ngx_http_webtorch_text_handlers(ngx_http_webtorch_family_t *f)
{
    static const char  *modes[] = { "inline", "thread", NULL };
    static const char  *moves[] = { "thread", "inline", NULL };

    static const ngx_http_webtorch_label_t  mode = {
        "mode", modes, offsetof(ngx_webtorch_handler_metrics_t, in_loop)
    };
    static const ngx_http_webtorch_label_t  move = {
        "to", moves, offsetof(ngx_webtorch_handler_metrics_t, to_thread)
    };
    static const ngx_http_webtorch_label_t  refused = {
        "reason", ngx_http_webtorch_status_refused,
        offsetof(ngx_webtorch_handler_metrics_t, refused)
    };

    if (f->snapshot->handlers.nelts == 0) {
        return;
    }

    if (ngx_http_webtorch_family(f, "webtorch_requests_total", "counter", NULL,
                                 "Requests by the status of the answer."))
    {
        ngx_http_webtorch_text_codes(f);
    }

    ngx_http_webtorch_text_fields(f, &f->snapshot->handlers, "handler",
                                  ngx_http_webtorch_handler_fields);

    ngx_http_webtorch_text_gauges(f);

    if (ngx_http_webtorch_family(f, "webtorch_handler_mode", "gauge", NULL,
                                 "Workers whose last call was in the event "
                                 "loop, or in a thread."))
    {
        ngx_http_webtorch_text_split(f, &mode);
    }

    if (ngx_http_webtorch_family(f, "webtorch_handler_moves_total", "counter",
                                 NULL, "Calls after which the next one was "
                                 "elsewhere."))
    {
        ngx_http_webtorch_text_split(f, &move);
    }

    if (ngx_http_webtorch_family(f, "webtorch_refused_total", "counter", NULL,
                                 "Requests that got no answer of the handler."))
    {
        ngx_http_webtorch_text_split(f, &refused);
    }
}


/* a status is there when it was counted once */

static void
ngx_http_webtorch_text_codes(ngx_http_webtorch_family_t *f)
{
    u_char                           *p, buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                         labels;
    ngx_uint_t                        i, k, code;
    ngx_http_webtorch_status_item_t  *item;

    item = f->snapshot->handlers.elts;

    for (i = 0; i < f->snapshot->handlers.nelts; i++) {
        ngx_http_webtorch_label(&labels, buf, "handler", &item[i].label);

        p = labels.data + labels.len;

        for (k = 0; k < NGX_WEBTORCH_METRICS_CODES; k++) {
            code = item[i].series->codes[k];

            if (code == 0
                && (k < NGX_WEBTORCH_METRICS_CODES - 1
                    || item[i].cells[k] == 0))
            {
                continue;
            }

            labels.len = code ? ngx_sprintf(p, ",code=\"%ui\"", code) - buf
                              : ngx_sprintf(p, ",code=\"other\"") - buf;

            ngx_http_webtorch_sample(f, &labels, item[i].cells[k]);
        }
    }
}


static void
ngx_http_webtorch_text_split(ngx_http_webtorch_family_t *f,
    const ngx_http_webtorch_label_t *split)
{
    u_char                           *p, buf[NGX_HTTP_WEBTORCH_LABELS];
    uint64_t                         *cell;
    ngx_str_t                         labels;
    ngx_uint_t                        i;
    const char                      **value;
    ngx_http_webtorch_status_item_t  *item;

    item = f->snapshot->handlers.elts;

    for (i = 0; i < f->snapshot->handlers.nelts; i++) {
        ngx_http_webtorch_label(&labels, buf, "handler", &item[i].label);

        p = labels.data + labels.len;
        cell = &ngx_http_webtorch_cell(&item[i], split->offset);

        for (value = split->values; *value; value++) {
            labels.len = ngx_sprintf(p, ",%s=\"%s\"", split->label, *value)
                         - buf;

            ngx_http_webtorch_sample(f, &labels, *cell++);
        }
    }
}


/* writes gauges that are computed from several cells */

static void
ngx_http_webtorch_text_gauges(ngx_http_webtorch_family_t *f)
{
    u_char                            buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                         labels;
    ngx_uint_t                        i, n;
    ngx_http_webtorch_status_item_t  *item;
    ngx_webtorch_handler_metrics_t   *m;

    item = f->snapshot->handlers.elts;
    n = f->snapshot->handlers.nelts;

    if (ngx_http_webtorch_family(f, "webtorch_requests_waiting", "gauge", NULL,
                                 "Requests in queues."))
    {
        for (i = 0; i < n; i++) {
            ngx_http_webtorch_label(&labels, buf, "handler",
                                         &item[i].label);
            ngx_http_webtorch_sample(f, &labels,
                                 ngx_http_webtorch_snapshot_waiting(&item[i]));
        }
    }

    if (ngx_http_webtorch_family(f, "webtorch_batch_rows", "histogram", NULL,
                                 "Rows of calls."))
    {
        for (i = 0; i < n; i++) {
            m = (ngx_webtorch_handler_metrics_t *) item[i].cells;

            ngx_http_webtorch_label(&labels, buf, "handler",
                                         &item[i].label);
            ngx_http_webtorch_sample_rows(f, &labels, m->rows, m->nrows);
        }
    }

    if (ngx_http_webtorch_family(f, "webtorch_queue_full_seconds", "gauge",
                                 "seconds", "How long requests have been "
                                 "refused for want of room; 0: they are "
                                 "not."))
    {
        for (i = 0; i < n; i++) {
            ngx_http_webtorch_label(&labels, buf, "handler",
                                         &item[i].label);
            ngx_http_webtorch_sample(f, &labels,
                       ngx_http_webtorch_snapshot_full(f->snapshot, &item[i]));
        }
    }
}


static void
ngx_http_webtorch_text_models(ngx_http_webtorch_family_t *f)
{
    u_char                            buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                         labels;
    ngx_uint_t                        i, k, n;
    ngx_webtorch_metrics_model_t     *m;
    ngx_http_webtorch_status_item_t  *item;

    static const char  *names[][3] = {
        { "webtorch_model_loss", NULL, "Loss of the last step." },
        { "webtorch_model_loss_average", NULL,
          "Mean of about the last 100 losses." },
        { "webtorch_model_checkpoint_age_seconds", "seconds",
          "Age of the last checkpoint." },
        { "webtorch_model_unsaved_seconds", "seconds",
          "How long checkpoints have failed; 0: they do not." },
        { "webtorch_model_unstored_seconds", "seconds",
          "How long checkpoints in object storage have failed; 0: they do "
          "not." }
    };

    item = f->snapshot->models.elts;
    n = f->snapshot->models.nelts;

    ngx_http_webtorch_text_fields(f, &f->snapshot->models, "model",
                                  ngx_http_webtorch_model_fields);

    for (k = 0; k < 5; k++) {

        if (n == 0
            || !ngx_http_webtorch_family(f, names[k][0], "gauge", names[k][1],
                                         names[k][2]))
        {
            continue;
        }

        for (i = 0; i < n; i++) {
            m = (ngx_webtorch_metrics_model_t *) item[i].cells;

            ngx_http_webtorch_label(&labels, buf, "model",
                                         &item[i].label);

            if (k < 2 && m->stepped) {
                ngx_http_webtorch_sample_number(f, &labels,
                                                k ? m->average : m->loss);

            } else if (k == 2 && m->saved) {
                ngx_http_webtorch_sample_seconds(f, &labels,
                    ngx_http_webtorch_snapshot_age(f->snapshot, m->saved)
                    * 1000);

            } else if (k > 2) {
                ngx_http_webtorch_sample_seconds(f, &labels,
                    ngx_http_webtorch_snapshot_age(f->snapshot,
                                           k == 3 ? m->unsaved : m->unstored)
                    * 1000);
            }
        }
    }
}


static void
ngx_http_webtorch_text_stages(ngx_http_webtorch_family_t *f)
{
    u_char                            buf[NGX_HTTP_WEBTORCH_LABELS];
    ngx_str_t                         labels;
    ngx_uint_t                        i, k;
    ngx_webtorch_metrics_stage_t     *m;
    ngx_http_webtorch_status_item_t  *item;

    /* in the order of the cells */

    static const char  *names[][2] = {
        { "webtorch_stage_mean", "Mean of the tensors that leave." },
        { "webtorch_stage_deviation", "Their standard deviation." },
        { "webtorch_stage_nan_ratio", "Share of elements that are NaN." },
        { "webtorch_stage_zero_ratio", "Share of elements that are zero." },
        { "webtorch_stage_distance", "Distance from the reference (PSI)." }
    };

    ngx_http_webtorch_text_fields(f, &f->snapshot->stages, "stage",
                                  ngx_http_webtorch_stage_fields);

    item = f->snapshot->stages.elts;

    for (k = 0; k < sizeof(names) / sizeof(names[0]); k++) {

        if (f->snapshot->stages.nelts == 0
            || !ngx_http_webtorch_family(f, names[k][0], "gauge", NULL,
                                         names[k][1]))
        {
            continue;
        }

        for (i = 0; i < f->snapshot->stages.nelts; i++) {
            m = (ngx_webtorch_metrics_stage_t *) item[i].cells;

            if (m->weight == 0) {
                continue;
            }

            ngx_http_webtorch_label(&labels, buf, "stage",
                                         &item[i].label);
            ngx_http_webtorch_sample_number(f, &labels, (&m->mean)[k]);
        }
    }
}


/* they are sorted by name */

static void
ngx_http_webtorch_text_custom(ngx_http_webtorch_family_t *f)
{
    ngx_str_t                         labels, name;
    ngx_uint_t                        i, is_wanted;
    ngx_http_webtorch_status_item_t  *item;

    item = f->snapshot->custom.elts;
    is_wanted = 0;
    ngx_str_null(&name);

    for (i = 0; i < f->snapshot->custom.nelts; i++) {

        if (item[i].name.len != name.len
            || ngx_memcmp(item[i].name.data, name.data, name.len) != 0)
        {
            name = item[i].name;
            is_wanted = ngx_http_webtorch_family_custom(f, &item[i]);
        }

        if (!is_wanted) {
            continue;
        }

        labels.data = (u_char *) item[i].series->key + name.len;
        labels.len = item[i].series->key_len - name.len;

        if (item[i].series->type == WEBTORCH_METRIC_HISTOGRAM) {
            ngx_http_webtorch_sample_bounds(f, &labels, &item[i]);

        } else if (item[i].series->type == WEBTORCH_METRIC_COUNTER) {
            ngx_http_webtorch_sample_number(f, &labels,
                              ngx_webtorch_metrics_double(item[i].cells[0]));

        } else if (item[i].cells[0]) {
            ngx_http_webtorch_sample_number(f, &labels,
                              ngx_webtorch_metrics_double(item[i].cells[1]));
        }
    }
}
