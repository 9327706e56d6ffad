
#include "ngx_webtorch_take.h"
#include "ngx_webtorch_batch_rows.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_choice.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_leave.h"
#include "ngx_webtorch_retire.h"
#include "ngx_webtorch_stuck.h"
#include "ngx_webtorch_taken.h"
#include "ngx_webtorch_thread.h"
#include "ngx_webtorch_timer.h"


/* ms between polls for the exit of other workers */
#define NGX_WEBTORCH_TAKE_POLL  100

/* ms that an owner which leaves by itself serves its clients and others */
#define NGX_WEBTORCH_TAKE_LEAVE  3000

/* ms after that in which connections are closed and calls may return */
#define NGX_WEBTORCH_TAKE_LAST   1000

/* seconds that a worker which exits waits for the thread */
#define NGX_WEBTORCH_TAKE_EXIT  1


/* "mutex" is that of ngx_webtorch_done; lists have the youngest first */

typedef struct {
    ngx_webtorch_handoff_t     *handoff;      /* NULL: this is not the owner */
    ngx_array_t                *handlers;
    pthread_t                   thread;
    ngx_uint_t                  stop;         /* atomic */
    ngx_uint_t                  refuse;       /* atomic: takes no more */
    ngx_uint_t                  nheld;        /* atomic: batches taken, or that
                                                 the thread looks for */
    ngx_msec_t                  left;         /* when it began to leave */
    ngx_webtorch_taken_t       *taken;        /* mutex: for the event loop */
    ngx_webtorch_taken_t       *results;      /* mutex: for the thread */
    ngx_webtorch_taken_t       *copied;       /* mutex: for the event loop */
    ngx_webtorch_timer_t        timer;
} ngx_webtorch_take_t;


static void *ngx_webtorch_take_cycle(void *data);
static void ngx_webtorch_take_receive(ngx_webtorch_handoff_slot_t *slot);
static ngx_int_t ngx_webtorch_take_copy_inputs(ngx_webtorch_taken_t *taken);
static void ngx_webtorch_take_copy_results(void);
static void ngx_webtorch_take_push(ngx_webtorch_taken_t **list,
    ngx_webtorch_taken_t *taken);
static ngx_webtorch_taken_t *ngx_webtorch_take_pop(
    ngx_webtorch_taken_t **list);
static void ngx_webtorch_take_handler(void);
static void ngx_webtorch_take_accept(ngx_webtorch_taken_t *taken);
static ngx_int_t ngx_webtorch_take_set_choice(
    ngx_webtorch_handoff_slot_t *slot, int64_t *sizes);
static ngx_int_t ngx_webtorch_take_add(ngx_webtorch_taken_t *taken,
    ngx_webtorch_runner_t *runner, ngx_webtorch_layout_t *layout);
static void ngx_webtorch_take_add_jobs(ngx_webtorch_taken_t *taken,
    ngx_webtorch_batch_t *batch);
static void ngx_webtorch_take_refuse(ngx_webtorch_taken_t *taken,
    int32_t status, const char *code, const char *message);
static void ngx_webtorch_take_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_webtorch_take_free(ngx_webtorch_taken_t *taken);
static void ngx_webtorch_take_timer_handler(ngx_event_t *ev);
static void ngx_webtorch_take_leave(ngx_event_t *ev);
static void ngx_webtorch_take_serve(void);
static ngx_webtorch_handoff_slot_t *ngx_webtorch_take_slot(void);


static ngx_webtorch_take_t  ngx_webtorch_take;


ngx_int_t
ngx_webtorch_take_init_process(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_webtorch_take_t  *take;

    if (conf->handoff == NULL || ngx_worker != 0) {
        return NGX_OK;
    }

    take = &ngx_webtorch_take;

    take->handoff = conf->handoff;
    take->handlers = &conf->handlers;

    ngx_webtorch_done.taken = ngx_webtorch_take_handler;

    if (ngx_webtorch_thread_create(&take->thread, ngx_webtorch_take_cycle,
                                   NULL, cycle->log)
        != NGX_OK)
    {
        take->handoff = NULL;
        return NGX_ERROR;
    }

    /* not cancelable: a worker that shuts down waits for it */

    ngx_webtorch_timer_init(&take->timer, ngx_webtorch_take_timer_handler,
                            NULL, cycle->log);

    ngx_add_timer(&take->timer.event, NGX_WEBTORCH_TAKE_POLL);

    ngx_webtorch_leave_limit(NGX_WEBTORCH_TAKE_LEAVE);

    ngx_webtorch_take_serve();

    return NGX_OK;
}


void
ngx_webtorch_take_exit_process(void)
{
    ngx_webtorch_take_t  *take;

    take = &ngx_webtorch_take;

    if (take->handoff == NULL) {
        return;
    }

    __atomic_store_n(&take->stop, 1, __ATOMIC_RELEASE);

    ngx_webtorch_handoff_ring(take->handoff);

    (void) ngx_webtorch_thread_join(take->thread, NGX_WEBTORCH_TAKE_EXIT);
}


/*
 * In a reload the owner of the configuration before runs what its workers hand
 * over, until the last of them has exited.
 */

static void
ngx_webtorch_take_timer_handler(ngx_event_t *ev)
{
    ngx_webtorch_take_t  *take;

    take = &ngx_webtorch_take;

    ngx_webtorch_take_serve();

    if (ngx_exiting && ngx_webtorch_leave_begun()) {
        ngx_webtorch_take_leave(ev);
        return;
    }

    if (ngx_exiting && !ngx_webtorch_handoff_joined(take->handoff)) {
        return;
    }

    ngx_add_timer(ev, NGX_WEBTORCH_TAKE_POLL);
}


/* says which functions it runs, for the health of the others */

static void
ngx_webtorch_take_serve(void)
{
    ngx_uint_t                i, serves;
    ngx_webtorch_take_t      *take;
    ngx_webtorch_handler_t  **handler;

    take = &ngx_webtorch_take;
    handler = take->handlers->elts;

    for (i = 0; i < take->handlers->nelts; i++) {

        if (handler[i]->owner) {
            serves = (handler[i]->runner
                      && !ngx_webtorch_stuck_blocks(handler[i]->runner)
                      && !__atomic_load_n(&take->refuse, __ATOMIC_RELAXED));

            ngx_webtorch_handoff_serve(take->handoff, handler[i]->hand,
                                       serves);
        }
    }
}


/*
 * The master starts the next owner when this one has exited, and all workers
 * wait for that.  While it has clients, for which nginx keeps it, it takes
 * batches; then it finishes those that it has.  Calls that hang, or wait for a
 * device that has failed, do not keep it: their batches are lost.
 */

static void
ngx_webtorch_take_leave(ngx_event_t *ev)
{
    ngx_msec_t            waited;
    ngx_uint_t            held;
    ngx_webtorch_take_t  *take;

    take = &ngx_webtorch_take;

    if (take->left == 0) {
        take->left = ngx_max(ngx_current_msec, 1);
    }

    waited = ngx_current_msec - take->left;
    held = __atomic_load_n(&take->nheld, __ATOMIC_SEQ_CST);

    if (ngx_webtorch_retire_wanted()
        || waited >= NGX_WEBTORCH_TAKE_LEAVE
        || (held == 0 && !ngx_webtorch_leave_has_clients()))
    {
        __atomic_store_n(&take->refuse, 1, __ATOMIC_SEQ_CST);
        ngx_webtorch_take_serve();

        /* batches that the thread took before it saw the flag are in nheld */

        if (__atomic_load_n(&take->nheld, __ATOMIC_SEQ_CST) == 0) {
            return;
        }
    }

    if (waited >= NGX_WEBTORCH_TAKE_LEAVE + NGX_WEBTORCH_TAKE_LAST
        && (ngx_webtorch_retire_wanted() || ngx_webtorch_stuck_found()))
    {
        ngx_log_error(NGX_LOG_ERR, ev->log, 0,
                      "the worker exits with %ui batches that do not end, as "
                      "others wait for the next owner of the device", held);
        ngx_terminate = 1;
        return;
    }

    ngx_add_timer(ev, NGX_WEBTORCH_TAKE_POLL);
}


/* --- the thread --- */


static void *
ngx_webtorch_take_cycle(void *data)
{
    uint32_t                      bell;
    ngx_webtorch_take_t          *take;
    ngx_webtorch_handoff_slot_t  *slot;

    take = &ngx_webtorch_take;

    for ( ;; ) {
        ngx_webtorch_take_copy_results();

        if (__atomic_load_n(&take->stop, __ATOMIC_ACQUIRE)) {
            break;
        }

        bell = ngx_webtorch_handoff_bell(take->handoff);

        slot = ngx_webtorch_take_slot();

        if (slot) {
            ngx_webtorch_take_receive(slot);
            continue;
        }

        if (__atomic_load_n(&take->results, __ATOMIC_ACQUIRE) == NULL
            && !__atomic_load_n(&take->stop, __ATOMIC_ACQUIRE))
        {
            ngx_webtorch_handoff_sleep(take->handoff, bell);
        }
    }

    return NULL;
}


/* it is counted until it is freed */

static ngx_webtorch_handoff_slot_t *
ngx_webtorch_take_slot(void)
{
    ngx_webtorch_take_t          *take;
    ngx_webtorch_handoff_slot_t  *slot;

    take = &ngx_webtorch_take;
    slot = NULL;

    (void) __atomic_add_fetch(&take->nheld, 1, __ATOMIC_SEQ_CST);

    if (!__atomic_load_n(&take->refuse, __ATOMIC_SEQ_CST)) {
        slot = ngx_webtorch_handoff_take(take->handoff);
    }

    if (slot == NULL) {
        (void) __atomic_sub_fetch(&take->nheld, 1, __ATOMIC_SEQ_CST);
    }

    return slot;
}


/* taken: or NULL */

static void
ngx_webtorch_take_free(ngx_webtorch_taken_t *taken)
{
    if (taken) {
        ngx_webtorch_taken_free(taken);
    }

    (void) __atomic_sub_fetch(&ngx_webtorch_take.nheld, 1, __ATOMIC_SEQ_CST);
}


static void
ngx_webtorch_take_receive(ngx_webtorch_handoff_slot_t *slot)
{
    ngx_webtorch_taken_t  *taken;

    taken = ngx_webtorch_taken_create(slot);

    if (taken && ngx_webtorch_take_copy_inputs(taken) == NGX_OK) {
        ngx_webtorch_take_push(&ngx_webtorch_take.taken, taken);
        ngx_webtorch_done_notify();
        return;
    }

    ngx_webtorch_taken_fail(slot, 500, "no_memory", "no memory for the rows");
    ngx_webtorch_handoff_finish(ngx_webtorch_take.handoff, slot);

    ngx_webtorch_take_free(taken);
}


/* large inputs become a batch; few are copied to one by the event loop */

static ngx_int_t
ngx_webtorch_take_copy_inputs(ngx_webtorch_taken_t *taken)
{
    size_t                        size, total;
    uint32_t                      i;
    webtorch_schema_t            *schema;
    ngx_webtorch_sink_t          *sink;
    ngx_webtorch_handler_t      **handler;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = taken->slot;
    sink = &taken->sink;

    handler = ngx_webtorch_take.handlers->elts;
    schema = &handler[slot->handler]->schema;

    ngx_memcpy(sink->data, slot->inputs, sizeof(sink->data));
    sink->text = slot->text;
    sink->at = 0;

    total = slot->text_len;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        total += slot->rows * ngx_webtorch_buffer_row_size(schema, i,
                                                           slot->sizes);
    }

    if (total < NGX_WEBTORCH_LARGE_SIZE) {
        return NGX_OK;
    }

    taken->adopted = 1;

    ngx_memzero(sink->data, sizeof(sink->data));
    sink->text = NULL;

    for (i = 0; i < ngx_webtorch_buffers(schema); i++) {
        size = slot->rows * ngx_webtorch_buffer_row_size(schema, i,
                                                         slot->sizes);
        if (size == 0) {
            continue;
        }

        sink->data[i] = ngx_webtorch_buffer_alloc(size);
        if (sink->data[i] == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(sink->data[i], slot->inputs[i], size);
    }

    if (slot->text_len) {
        sink->text = ngx_webtorch_buffer_alloc(slot->text_len);
        if (sink->text == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(sink->text, slot->text, slot->text_len);
    }

    return NGX_OK;
}


static void
ngx_webtorch_take_copy_results(void)
{
    uint32_t               i;
    ngx_webtorch_taken_t  *taken, *next;

    for (taken = ngx_webtorch_take_pop(&ngx_webtorch_take.results);
         taken;
         taken = next)
    {
        next = taken->next;

        for (i = 0; i < taken->slot->njobs; i++) {
            if (taken->jobs[i].served) {
                ngx_webtorch_taken_copy(taken, &taken->jobs[i], taken->kept);
            }
        }

        ngx_webtorch_handoff_finish(ngx_webtorch_take.handoff, taken->slot);

        ngx_webtorch_take_push(&ngx_webtorch_take.copied, taken);
        ngx_webtorch_done_notify();
    }
}


static void
ngx_webtorch_take_push(ngx_webtorch_taken_t **list,
    ngx_webtorch_taken_t *taken)
{
    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    taken->next = *list;
    __atomic_store_n(list, taken, __ATOMIC_RELEASE);

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);
}


/* all that the list has, the oldest first */

static ngx_webtorch_taken_t *
ngx_webtorch_take_pop(ngx_webtorch_taken_t **list)
{
    ngx_webtorch_taken_t  *taken, *next, *first;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    taken = *list;
    *list = NULL;

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    for (first = NULL; taken; taken = next) {
        next = taken->next;
        taken->next = first;
        first = taken;
    }

    return first;
}


/* --- the event loop --- */


static void
ngx_webtorch_take_handler(void)
{
    ngx_webtorch_taken_t  *taken, *next;

    for (taken = ngx_webtorch_take_pop(&ngx_webtorch_take.copied);
         taken;
         taken = next)
    {
        next = taken->next;

        ngx_webtorch_batch_release(taken->kept);
        ngx_webtorch_take_free(taken);
    }

    for (taken = ngx_webtorch_take_pop(&ngx_webtorch_take.taken);
         taken;
         taken = next)
    {
        next = taken->next;

        ngx_webtorch_take_accept(taken);
    }
}


/*
 * The options queue= and queue_size= were applied by the worker that has the
 * requests; how many may be here follows from the number of slots.
 */

static void
ngx_webtorch_take_accept(ngx_webtorch_taken_t *taken)
{
    ngx_webtorch_layout_t         layout;
    ngx_webtorch_runner_t        *runner;
    ngx_webtorch_handler_t      **handler;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = taken->slot;

    handler = ngx_webtorch_take.handlers->elts;
    runner = handler[slot->handler]->runner;

    if (runner == NULL) {
        ngx_webtorch_take_refuse(taken, 503, "not_loaded",
                                 "the worker that owns the device could not "
                                 "import the function");
        return;
    }

    if (ngx_webtorch_stuck_blocks(runner)) {
        ngx_webtorch_take_refuse(taken, 503, "queue_full",
                                 "a call of the function does not return");
        return;
    }

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));

    layout.rows = slot->rows;
    layout.text = slot->text_len;
    ngx_memcpy(layout.sizes, slot->sizes, sizeof(slot->sizes));

    if (ngx_webtorch_take_set_choice(slot, layout.sizes) != NGX_OK) {
        ngx_webtorch_take_refuse(taken, 404, "unknown_version",
                                 "the worker that owns the device has not "
                                 "loaded the version");
        return;
    }

    if (ngx_webtorch_take_add(taken, runner, &layout) != NGX_OK) {
        ngx_webtorch_take_refuse(taken, 500, "no_memory",
                                 "no memory for the rows");
    }
}


static ngx_int_t
ngx_webtorch_take_set_choice(ngx_webtorch_handoff_slot_t *slot, int64_t *sizes)
{
    ngx_str_t  name;

    if (sizes[WEBTORCH_CHOICE] == 0) {
        return NGX_OK;
    }

    name.data = (u_char *) slot->choice;
    name.len = ngx_strlen(slot->choice);

    sizes[WEBTORCH_CHOICE] = ngx_webtorch_choice_find(&name);

    return sizes[WEBTORCH_CHOICE] ? NGX_OK : NGX_DECLINED;
}


/* all requests are in one batch, as they are in that of their worker */

static ngx_int_t
ngx_webtorch_take_add(ngx_webtorch_taken_t *taken,
    ngx_webtorch_runner_t *runner, ngx_webtorch_layout_t *layout)
{
    ngx_int_t              rc;
    ngx_webtorch_batch_t  *batch;

    rc = taken->adopted
         ? ngx_webtorch_runner_adopt(runner, layout, &taken->sink)
         : ngx_webtorch_runner_copy(runner, layout, &taken->sink);

    if (rc != NGX_OK) {
        return rc;
    }

    batch = runner->open;

    if (ngx_webtorch_batch_reserve_jobs(batch, taken->slot->njobs) != NGX_OK) {

        if (batch->api.njobs == 0) {
            runner->open = NULL;
            ngx_webtorch_batch_free(batch);
        }

        return NGX_ERROR;
    }

    ngx_webtorch_take_add_jobs(taken, batch);
    ngx_webtorch_runner_added(runner);

    return NGX_OK;
}


static void
ngx_webtorch_take_add_jobs(ngx_webtorch_taken_t *taken,
    ngx_webtorch_batch_t *batch)
{
    uint32_t                      i;
    webtorch_job_t               *job;
    ngx_webtorch_layout_t         layout;
    ngx_webtorch_waiter_t        *waiter;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = taken->slot;

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));
    layout.text = slot->text_len;

    for (i = 0; i < slot->njobs; i++) {
        waiter = &taken->jobs[i].waiter;
        waiter->done = ngx_webtorch_take_done;

        layout.rows = slot->jobs[i].rows;

        job = ngx_webtorch_batch_append(batch, &layout, waiter);
        job->caller = WEBTORCH_HANDED;

        /* the text of all is one */
        layout.text = 0;

        if (slot->jobs[i].traced) {
            ngx_webtorch_batch_set_trace(waiter, &slot->jobs[i].trace);
        }
    }

    batch->api.watch |= slot->watch & WEBTORCH_WATCH_MODELS;
    batch->runner->nadded += slot->njobs;
}


static void
ngx_webtorch_take_refuse(ngx_webtorch_taken_t *taken, int32_t status,
    const char *code, const char *message)
{
    ngx_webtorch_taken_fail(taken->slot, status, code, message);
    ngx_webtorch_handoff_finish(ngx_webtorch_take.handoff, taken->slot);
    ngx_webtorch_take_free(taken);
}


static void
ngx_webtorch_take_done(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
{
    ngx_webtorch_taken_t      *taken;
    ngx_webtorch_taken_job_t  *part;

    taken = waiter->data;
    part = ngx_queue_data(waiter, ngx_webtorch_taken_job_t, waiter);

    ngx_webtorch_taken_result(taken, part, job);

    if (--taken->nleft) {
        return;
    }

    if (taken->kept) {
        ngx_webtorch_take_push(&ngx_webtorch_take.results, taken);
        ngx_webtorch_handoff_ring(ngx_webtorch_take.handoff);
        return;
    }

    ngx_webtorch_handoff_finish(ngx_webtorch_take.handoff, taken->slot);
    ngx_webtorch_take_free(taken);
}
