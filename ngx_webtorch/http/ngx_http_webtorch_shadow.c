
/*
 * A copy is a job of its own, in memory of its own: it outlives the request,
 * which it knows until one of the two is done.  The first answer is copied, the
 * second one is compared with it.  All limits are below those of requests,
 * whose copies are dropped first.
 */

#include "ngx_http_webtorch_shadow.h"
#include "ngx_http_webtorch_task.h"
#include "ngx_webtorch_agree.h"
#include "ngx_webtorch_copy.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_metrics_shadow.h"
#include "ngx_webtorch_queue.h"
#include "ngx_webtorch_runner.h"
#include "ngx_webtorch_version_set.h"


/* bytes that the event loop copies for shadows in an iteration */
#define NGX_HTTP_WEBTORCH_SHADOW_COPIED    (4 * 1024 * 1024)

/* bytes of an answer that the event loop compares, and of all answers in an
   iteration; others a thread */
#define NGX_HTTP_WEBTORCH_SHADOW_SMALL     (16 * 1024)
#define NGX_HTTP_WEBTORCH_SHADOW_COMPARED  (256 * 1024)

/* the part of queue_size that shadows of a location may hold, 1 / 8 */
#define NGX_HTTP_WEBTORCH_SHADOW_PART      8


/* bytes of an iteration of the event loop */

typedef struct {
    size_t                            size;
    ngx_msec_t                        time;      /* of the iteration */
} ngx_http_webtorch_budget_t;


typedef struct {
    size_t                            size;
    uint32_t                          n;
    ngx_webtorch_output_t             tensors[WEBTORCH_MAX_TENSORS];
} ngx_http_webtorch_copied_t;


struct ngx_http_webtorch_shadow_s {
    ngx_webtorch_waiter_t             waiter;    /* for the copy */
    ngx_http_webtorch_shadow_conf_t  *conf;
    ngx_http_webtorch_ctx_t          *ctx;       /* NULL: it has ended */
    size_t                            size;      /* bytes of the rows */
    uint32_t                          rows;
    ngx_http_webtorch_copied_t       *first;     /* a copy; or NULL */

#if (NGX_THREADS)
    /* the thread's until its event */
    ngx_http_webtorch_task_t          task;
    ngx_http_webtorch_copied_t        second;
    ngx_webtorch_batch_t             *batch;     /* of the second one */
    ngx_uint_t                        agreed;
#endif
};


static ngx_int_t ngx_http_webtorch_shadow_copy(
    ngx_http_webtorch_shadow_conf_t *conf, ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_shadow_room(
    ngx_http_webtorch_shadow_conf_t *conf, size_t size);
static ngx_int_t ngx_http_webtorch_shadow_spend(
    ngx_http_webtorch_budget_t *budget, size_t size, size_t limit);
static void ngx_http_webtorch_shadow_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_shadow_answer(
    ngx_http_webtorch_shadow_t *shadow, ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_http_webtorch_shadow_get(ngx_http_webtorch_copied_t *answer,
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job, uint32_t n);
static ngx_http_webtorch_copied_t *ngx_http_webtorch_shadow_keep(
    ngx_http_webtorch_shadow_t *shadow, ngx_http_webtorch_copied_t *answer);
static void ngx_http_webtorch_shadow_compare(
    ngx_http_webtorch_shadow_t *shadow, ngx_http_webtorch_copied_t *answer,
    ngx_webtorch_batch_t *batch);
static ngx_uint_t ngx_http_webtorch_shadow_agrees(
    ngx_http_webtorch_shadow_t *shadow, ngx_http_webtorch_copied_t *answer);
static void ngx_http_webtorch_shadow_end(ngx_http_webtorch_shadow_t *shadow,
    ngx_webtorch_shadow_outcome_e outcome);

#if (NGX_THREADS)
static ngx_int_t ngx_http_webtorch_shadow_post(
    ngx_http_webtorch_shadow_t *shadow, ngx_http_webtorch_copied_t *answer,
    ngx_webtorch_batch_t *batch);
static void ngx_http_webtorch_shadow_thread(void *data, ngx_log_t *log);
static void ngx_http_webtorch_shadow_thread_done(void *data);
#endif


void
ngx_http_webtorch_shadow_add(ngx_http_webtorch_shadow_conf_t *conf,
    ngx_http_webtorch_ctx_t *ctx)
{
    if ((ngx_uint_t) ngx_random() % NGX_HTTP_WEBTORCH_SHADOW_ALL
        >= conf->rate)
    {
        return;
    }

    if (ngx_http_webtorch_shadow_copy(conf, ctx) != NGX_OK) {
        ngx_webtorch_metrics_shadow_end(conf->handler,
                                        NGX_WEBTORCH_SHADOW_DROPPED);
    }
}


static ngx_int_t
ngx_http_webtorch_shadow_copy(ngx_http_webtorch_shadow_conf_t *conf,
    ngx_http_webtorch_ctx_t *ctx)
{
    size_t                       size;
    ngx_webtorch_layout_t        layout;
    ngx_webtorch_runner_t       *runner;
    ngx_http_webtorch_shadow_t  *shadow;

    runner = conf->handler->runner;

    if (runner == NULL || ngx_webtorch_runner_full(runner, 0)) {
        return NGX_DECLINED;
    }

    layout = ctx->layout;
    layout.sizes[WEBTORCH_VERSION_SET] = 0;

    if (conf->version_set.len) {
        layout.sizes[WEBTORCH_VERSION_SET] =
                             ngx_webtorch_version_set_find(&conf->version_set);

        if (layout.sizes[WEBTORCH_VERSION_SET] == 0) {
            /* the version was unloaded */
            return NGX_DECLINED;
        }
    }

    size = ngx_webtorch_copy_size(&ctx->waiter, &layout);

    if (ngx_http_webtorch_shadow_room(conf, size) != NGX_OK) {
        return NGX_DECLINED;
    }

    shadow = ngx_calloc(sizeof(ngx_http_webtorch_shadow_t), ngx_cycle->log);
    if (shadow == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_webtorch_copy_job(runner, &ctx->waiter, &layout) != NGX_OK) {
        ngx_free(shadow);
        return NGX_DECLINED;
    }

    shadow->conf = conf;
    shadow->size = size;
    shadow->rows = layout.rows;

    shadow->waiter.done = ngx_http_webtorch_shadow_done;
    shadow->waiter.data = shadow;

    (void) ngx_webtorch_runner_add(runner, &layout, &shadow->waiter);

    conf->held += size;

    shadow->ctx = ctx;
    ctx->shadow = shadow;

    return NGX_OK;
}


/*
 * Whether so many bytes may be copied: they must leave requests most of
 * queue_size, and the event loop most of its time.
 */

static ngx_int_t
ngx_http_webtorch_shadow_room(ngx_http_webtorch_shadow_conf_t *conf,
    size_t size)
{
    size_t  limit;

    static ngx_http_webtorch_budget_t  copied;

    limit = conf->handler->queue_size;

    if (size > NGX_WEBTORCH_LARGE_SIZE
        || conf->held + size > limit / NGX_HTTP_WEBTORCH_SHADOW_PART
        || ngx_webtorch_queue_full(limit / 2, 0))
    {
        return NGX_DECLINED;
    }

    return ngx_http_webtorch_shadow_spend(&copied, size,
                                          NGX_HTTP_WEBTORCH_SHADOW_COPIED);
}


/* the cached time changes with the iteration, or with a later one */

static ngx_int_t
ngx_http_webtorch_shadow_spend(ngx_http_webtorch_budget_t *budget, size_t size,
    size_t limit)
{
    if (budget->time != ngx_current_msec) {
        budget->time = ngx_current_msec;
        budget->size = 0;
    }

    if (budget->size + size > limit) {
        return NGX_DECLINED;
    }

    budget->size += size;

    return NGX_OK;
}


void
ngx_http_webtorch_shadow_answered(ngx_http_webtorch_ctx_t *ctx,
    webtorch_job_t *job)
{
    ngx_http_webtorch_shadow_t  *shadow;

    shadow = ctx->shadow;

    if (shadow == NULL) {
        return;
    }

    if (job == NULL || job->status != 0) {
        ngx_http_webtorch_shadow_end(shadow, NGX_WEBTORCH_SHADOW_DROPPED);
        return;
    }

    shadow->ctx = NULL;
    ctx->shadow = NULL;

    ngx_http_webtorch_shadow_answer(shadow, &ctx->waiter, job);
}


void
ngx_http_webtorch_shadow_cancel(ngx_http_webtorch_ctx_t *ctx)
{
    if (ctx->shadow) {
        ngx_http_webtorch_shadow_end(ctx->shadow, NGX_WEBTORCH_SHADOW_DROPPED);
    }
}


/* job is NULL: it was not done in time */

static void
ngx_http_webtorch_shadow_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_http_webtorch_shadow_t     *shadow;
    ngx_webtorch_shadow_metrics_t  *m;

    shadow = waiter->data;
    m = shadow->conf->handler->shadow_metrics;

    if (job == NULL || job->status != 0) {
        ngx_http_webtorch_shadow_end(shadow, NGX_WEBTORCH_SHADOW_FAILED);
        return;
    }

    if (m) {
        ngx_webtorch_metrics_observe(&m->seconds,
                                     ngx_webtorch_copy_elapsed(waiter));
    }

    ngx_http_webtorch_shadow_answer(shadow, waiter, job);
}


/* one of the two is done */

static void
ngx_http_webtorch_shadow_answer(ngx_http_webtorch_shadow_t *shadow,
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
{
    ngx_http_webtorch_copied_t  answer;

    /* the two functions have as many outputs */

    ngx_http_webtorch_shadow_get(&answer, waiter, job,
                                 shadow->conf->handler->schema.noutputs);

    if (shadow->first) {
        ngx_http_webtorch_shadow_compare(shadow, &answer, waiter->batch);
        return;
    }

    shadow->first = ngx_http_webtorch_shadow_keep(shadow, &answer);

    if (shadow->first == NULL) {
        ngx_http_webtorch_shadow_end(shadow, NGX_WEBTORCH_SHADOW_DROPPED);
    }
}


/* sets the outputs of a job, which are valid within done() */

static void
ngx_http_webtorch_shadow_get(ngx_http_webtorch_copied_t *answer,
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job, uint32_t n)
{
    uint32_t                i;
    webtorch_spec_t        *specs;
    ngx_webtorch_output_t  *tensor;

    specs = ngx_webtorch_batch_specs(waiter);

    answer->n = n;
    answer->size = 0;

    for (i = 0; i < answer->n; i++) {
        tensor = &answer->tensors[i];

        tensor->spec = &specs[i];
        tensor->data = ngx_webtorch_batch_output(waiter, job, i);

        answer->size += job->rows * (size_t) specs[i].row_size;

        /* so many are not kept, nor compared in the event loop */

        if (answer->size <= NGX_WEBTORCH_LARGE_SIZE) {
            answer->size += ngx_webtorch_text_size(&specs[i], tensor->data,
                                                   job->rows);
        }
    }
}


/* NULL: there is no room */

static ngx_http_webtorch_copied_t *
ngx_http_webtorch_shadow_keep(ngx_http_webtorch_shadow_t *shadow,
    ngx_http_webtorch_copied_t *answer)
{
    size_t                       size, len;
    u_char                      *p;
    uint32_t                     i;
    webtorch_spec_t             *spec;
    ngx_webtorch_output_t       *tensor;
    ngx_http_webtorch_copied_t  *kept;

    /* each tensor is aligned */

    size = sizeof(ngx_http_webtorch_copied_t)
           + answer->n * (sizeof(webtorch_spec_t) + 16) + answer->size;

    if (ngx_http_webtorch_shadow_room(shadow->conf, size) != NGX_OK) {
        return NULL;
    }

    kept = ngx_alloc(size, ngx_cycle->log);
    if (kept == NULL) {
        return NULL;
    }

    kept->size = size;
    kept->n = answer->n;

    spec = (webtorch_spec_t *) &kept[1];
    p = (u_char *) &spec[answer->n];

    for (i = 0; i < answer->n; i++) {
        tensor = &kept->tensors[i];
        len = shadow->rows * (size_t) answer->tensors[i].spec->row_size;

        spec[i] = *answer->tensors[i].spec;
        p = ngx_align_ptr(p, 16);

        tensor->spec = &spec[i];
        tensor->data = p;

        p = ngx_cpymem(p, answer->tensors[i].data, len);
    }

    for (i = 0; i < answer->n; i++) {
        if (ngx_webtorch_is_string(spec[i].dtype)) {
            p = ngx_webtorch_text_move(
                             (webtorch_text_t *) kept->tensors[i].data,
                             shadow->rows * ngx_webtorch_row_elements(&spec[i]),
                             p);
        }
    }

    ngx_webtorch_queue_add(size);
    shadow->conf->held += size;

    return kept;
}


static void
ngx_http_webtorch_shadow_compare(ngx_http_webtorch_shadow_t *shadow,
    ngx_http_webtorch_copied_t *answer, ngx_webtorch_batch_t *batch)
{
    ngx_uint_t  agreed;

#if (NGX_THREADS)

    static ngx_http_webtorch_budget_t  compared;

    if ((answer->size > NGX_HTTP_WEBTORCH_SHADOW_SMALL
         || ngx_http_webtorch_shadow_spend(&compared, answer->size,
                                           NGX_HTTP_WEBTORCH_SHADOW_COMPARED)
            != NGX_OK)
        && ngx_http_webtorch_shadow_post(shadow, answer, batch) == NGX_OK)
    {
        return;
    }

#endif

    agreed = ngx_http_webtorch_shadow_agrees(shadow, answer);

    ngx_http_webtorch_shadow_end(shadow,
                                 agreed ? NGX_WEBTORCH_SHADOW_AGREED
                                        : NGX_WEBTORCH_SHADOW_DIFFERED);
}


/* in any thread */

static ngx_uint_t
ngx_http_webtorch_shadow_agrees(ngx_http_webtorch_shadow_t *shadow,
    ngx_http_webtorch_copied_t *answer)
{
    uint32_t  i;

    for (i = 0; i < answer->n; i++) {

        if (!ngx_webtorch_agree(&shadow->first->tensors[i],
                                &answer->tensors[i], shadow->rows,
                                shadow->conf->tolerance))
        {
            return 0;
        }
    }

    return 1;
}


/* frees it, also while its job runs */

static void
ngx_http_webtorch_shadow_end(ngx_http_webtorch_shadow_t *shadow,
    ngx_webtorch_shadow_outcome_e outcome)
{
    ngx_http_webtorch_shadow_conf_t  *conf;

    conf = shadow->conf;

    (void) ngx_webtorch_batch_cancel(&shadow->waiter);

    if (shadow->ctx) {
        shadow->ctx->shadow = NULL;
    }

    conf->held -= shadow->size;

    if (shadow->first) {
        conf->held -= shadow->first->size;
        ngx_webtorch_queue_sub(shadow->first->size);
        ngx_free(shadow->first);
    }

    ngx_webtorch_metrics_shadow_end(conf->handler, outcome);

    ngx_free(shadow);
}


#if (NGX_THREADS)

static ngx_int_t
ngx_http_webtorch_shadow_post(ngx_http_webtorch_shadow_t *shadow,
    ngx_http_webtorch_copied_t *answer, ngx_webtorch_batch_t *batch)
{
    if (ngx_webtorch_batch_keep(batch) != NGX_OK) {
        return NGX_DECLINED;
    }

    shadow->second = *answer;
    shadow->batch = batch;

    shadow->task.data = shadow;
    shadow->task.run = ngx_http_webtorch_shadow_thread;
    shadow->task.done = ngx_http_webtorch_shadow_thread_done;
    shadow->task.name = "a comparison";

    if (ngx_http_webtorch_task_post(&shadow->task, shadow->conf->thread_pool)
        != NGX_OK)
    {
        ngx_webtorch_batch_release(batch);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_webtorch_shadow_thread(void *data, ngx_log_t *log)
{
    ngx_http_webtorch_shadow_t *shadow = data;

    shadow->agreed = ngx_http_webtorch_shadow_agrees(shadow, &shadow->second);
}


static void
ngx_http_webtorch_shadow_thread_done(void *data)
{
    ngx_http_webtorch_shadow_t *shadow = data;

    ngx_webtorch_batch_release(shadow->batch);

    ngx_http_webtorch_shadow_end(shadow,
                                 shadow->agreed ? NGX_WEBTORCH_SHADOW_AGREED
                                                : NGX_WEBTORCH_SHADOW_DIFFERED);
}

#endif
