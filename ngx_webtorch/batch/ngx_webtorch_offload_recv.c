
#include "ngx_webtorch_offload_recv.h"
#include "ngx_webtorch_batch_rows.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_leave.h"
#include "ngx_webtorch_offload_batch.h"
#include "ngx_webtorch_retire.h"
#include "ngx_webtorch_stuck.h"
#include "ngx_webtorch_thread.h"
#include "ngx_webtorch_timer.h"
#include "ngx_webtorch_version_set.h"


/* ms between polls for the exit of other workers */
#define NGX_WEBTORCH_OFFLOAD_RECV_POLL  100

/* ms that an owner which leaves by itself serves its clients and others */
#define NGX_WEBTORCH_OFFLOAD_RECV_LEAVE  3000

/* ms after that in which connections are closed and calls may return */
#define NGX_WEBTORCH_OFFLOAD_RECV_LAST   1000

/* seconds that a worker which exits waits for the thread */
#define NGX_WEBTORCH_OFFLOAD_RECV_EXIT  1


/* "mutex" is that of ngx_webtorch_done; lists have the youngest first */

typedef struct {
    ngx_webtorch_handoff_t        *handoff;   /* NULL: this is not the owner */
    ngx_array_t                   *handlers;
    pthread_t                      thread;
    ngx_uint_t                     stop;      /* atomic */
    ngx_uint_t                     refuse;    /* atomic: accepts no more */
    ngx_uint_t                     nheld;     /* atomic: batches received, or
                                                 that the thread looks for */
    ngx_msec_t                     left;      /* when it began to leave */
    ngx_webtorch_offload_batch_t  *received;  /* mutex: for the event loop */
    ngx_webtorch_offload_batch_t  *results;   /* mutex: for the thread */
    ngx_webtorch_offload_batch_t  *copied;    /* mutex: for the event loop */
    ngx_webtorch_timer_t           timer;
} ngx_webtorch_offload_recv_t;


static void *ngx_webtorch_offload_recv_cycle(void *data);
static void ngx_webtorch_offload_recv_begin(
    ngx_webtorch_handoff_slot_t *slot);
static ngx_int_t ngx_webtorch_offload_recv_copy_inputs(
    ngx_webtorch_offload_batch_t *received);
static void ngx_webtorch_offload_recv_copy_results(void);
static void ngx_webtorch_offload_recv_push(ngx_webtorch_offload_batch_t **list,
    ngx_webtorch_offload_batch_t *received);
static ngx_webtorch_offload_batch_t *ngx_webtorch_offload_recv_pop(
    ngx_webtorch_offload_batch_t **list);
static void ngx_webtorch_offload_recv_handler(void);
static void ngx_webtorch_offload_recv_accept(
    ngx_webtorch_offload_batch_t *received);
static ngx_int_t ngx_webtorch_offload_recv_find_versions(
    ngx_webtorch_handoff_slot_t *slot, int64_t *sizes);
static ngx_int_t ngx_webtorch_offload_recv_add(
    ngx_webtorch_offload_batch_t *received, ngx_webtorch_runner_t *runner,
    ngx_webtorch_layout_t *layout);
static void ngx_webtorch_offload_recv_add_jobs(
    ngx_webtorch_offload_batch_t *received, ngx_webtorch_batch_t *batch);
static void ngx_webtorch_offload_recv_refuse(
    ngx_webtorch_offload_batch_t *received, int32_t status, const char *code,
    const char *message);
static void ngx_webtorch_offload_recv_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job);
static void ngx_webtorch_offload_recv_free(
    ngx_webtorch_offload_batch_t *received);
static void ngx_webtorch_offload_recv_timer_handler(ngx_event_t *ev);
static void ngx_webtorch_offload_recv_leave(ngx_event_t *ev);
static void ngx_webtorch_offload_recv_serve(void);
static ngx_webtorch_handoff_slot_t *ngx_webtorch_offload_recv_next(void);


static ngx_webtorch_offload_recv_t  ngx_webtorch_offload_recv;


ngx_int_t
ngx_webtorch_offload_recv_init_process(ngx_cycle_t *cycle,
    ngx_webtorch_conf_t *conf)
{
    ngx_webtorch_offload_recv_t  *recv;

    if (conf->handoff == NULL || ngx_worker != 0) {
        return NGX_OK;
    }

    recv = &ngx_webtorch_offload_recv;

    recv->handoff = conf->handoff;
    recv->handlers = &conf->handlers;

    ngx_webtorch_done.received = ngx_webtorch_offload_recv_handler;

    if (ngx_webtorch_thread_create(&recv->thread,
                                   ngx_webtorch_offload_recv_cycle,
                                   NULL, cycle->log)
        != NGX_OK)
    {
        recv->handoff = NULL;
        return NGX_ERROR;
    }

    /* not cancelable: a worker that shuts down waits for it */

    ngx_webtorch_timer_init(&recv->timer,
                            ngx_webtorch_offload_recv_timer_handler, NULL,
                            cycle->log);

    ngx_add_timer(&recv->timer.event, NGX_WEBTORCH_OFFLOAD_RECV_POLL);

    ngx_webtorch_leave_limit(NGX_WEBTORCH_OFFLOAD_RECV_LEAVE);

    ngx_webtorch_offload_recv_serve();

    return NGX_OK;
}


void
ngx_webtorch_offload_recv_exit_process(void)
{
    ngx_webtorch_offload_recv_t  *recv;

    recv = &ngx_webtorch_offload_recv;

    if (recv->handoff == NULL) {
        return;
    }

    __atomic_store_n(&recv->stop, 1, __ATOMIC_RELEASE);

    ngx_webtorch_handoff_ring(recv->handoff);

    (void) ngx_webtorch_thread_join(recv->thread,
                                    NGX_WEBTORCH_OFFLOAD_RECV_EXIT);
}


/*
 * In a reload the owner of the configuration before runs what its workers
 * offload, until the last of them has exited.
 */

static void
ngx_webtorch_offload_recv_timer_handler(ngx_event_t *ev)
{
    ngx_webtorch_offload_recv_t  *recv;

    recv = &ngx_webtorch_offload_recv;

    ngx_webtorch_offload_recv_serve();

    if (ngx_exiting && ngx_webtorch_leave_begun()) {
        ngx_webtorch_offload_recv_leave(ev);
        return;
    }

    if (ngx_exiting && !ngx_webtorch_handoff_joined(recv->handoff)) {
        return;
    }

    ngx_add_timer(ev, NGX_WEBTORCH_OFFLOAD_RECV_POLL);
}


/* says which functions it runs, for the health of the others */

static void
ngx_webtorch_offload_recv_serve(void)
{
    ngx_uint_t                    i, serves;
    ngx_webtorch_offload_recv_t  *recv;
    ngx_webtorch_handler_t      **handler;

    recv = &ngx_webtorch_offload_recv;
    handler = recv->handlers->elts;

    for (i = 0; i < recv->handlers->nelts; i++) {

        if (handler[i]->owner) {
            serves = (handler[i]->runner
                      && !ngx_webtorch_stuck_blocks(handler[i]->runner)
                      && !__atomic_load_n(&recv->refuse, __ATOMIC_RELAXED));

            ngx_webtorch_handoff_serve(recv->handoff, handler[i]->offload_slot,
                                       serves);
        }
    }
}


/*
 * The master starts the next owner when this one has exited, and all workers
 * wait for that.  While it has clients, for which nginx keeps it, it accepts
 * batches; then it finishes those that it has.  Calls that hang, or wait for a
 * device that has failed, do not keep it: their batches are lost.
 */

static void
ngx_webtorch_offload_recv_leave(ngx_event_t *ev)
{
    ngx_msec_t                    waited;
    ngx_uint_t                    held;
    ngx_webtorch_offload_recv_t  *recv;

    recv = &ngx_webtorch_offload_recv;

    if (recv->left == 0) {
        recv->left = ngx_max(ngx_current_msec, 1);
    }

    waited = ngx_current_msec - recv->left;
    held = __atomic_load_n(&recv->nheld, __ATOMIC_SEQ_CST);

    if (ngx_webtorch_retire_wanted()
        || waited >= NGX_WEBTORCH_OFFLOAD_RECV_LEAVE
        || (held == 0 && !ngx_webtorch_leave_has_clients()))
    {
        __atomic_store_n(&recv->refuse, 1, __ATOMIC_SEQ_CST);
        ngx_webtorch_offload_recv_serve();

        /* batches that the thread took before it saw the flag are in nheld */

        if (__atomic_load_n(&recv->nheld, __ATOMIC_SEQ_CST) == 0) {
            return;
        }
    }

    if (waited >= NGX_WEBTORCH_OFFLOAD_RECV_LEAVE
                  + NGX_WEBTORCH_OFFLOAD_RECV_LAST
        && (ngx_webtorch_retire_wanted() || ngx_webtorch_stuck_found()))
    {
        ngx_log_error(NGX_LOG_ERR, ev->log, 0,
                      "the worker exits with %ui batches that do not end, as "
                      "others wait for the next owner of the device", held);
        ngx_terminate = 1;
        return;
    }

    ngx_add_timer(ev, NGX_WEBTORCH_OFFLOAD_RECV_POLL);
}


/* --- the thread --- */


static void *
ngx_webtorch_offload_recv_cycle(void *data)
{
    uint32_t                      bell;
    ngx_webtorch_offload_recv_t  *recv;
    ngx_webtorch_handoff_slot_t  *slot;

    recv = &ngx_webtorch_offload_recv;

    for ( ;; ) {
        ngx_webtorch_offload_recv_copy_results();

        if (__atomic_load_n(&recv->stop, __ATOMIC_ACQUIRE)) {
            break;
        }

        bell = ngx_webtorch_handoff_bell(recv->handoff);

        slot = ngx_webtorch_offload_recv_next();

        if (slot) {
            ngx_webtorch_offload_recv_begin(slot);
            continue;
        }

        if (__atomic_load_n(&recv->results, __ATOMIC_ACQUIRE) == NULL
            && !__atomic_load_n(&recv->stop, __ATOMIC_ACQUIRE))
        {
            ngx_webtorch_handoff_sleep(recv->handoff, bell);
        }
    }

    return NULL;
}


/* it is counted until it is freed */

static ngx_webtorch_handoff_slot_t *
ngx_webtorch_offload_recv_next(void)
{
    ngx_webtorch_offload_recv_t  *recv;
    ngx_webtorch_handoff_slot_t  *slot;

    recv = &ngx_webtorch_offload_recv;
    slot = NULL;

    (void) __atomic_add_fetch(&recv->nheld, 1, __ATOMIC_SEQ_CST);

    if (!__atomic_load_n(&recv->refuse, __ATOMIC_SEQ_CST)) {
        slot = ngx_webtorch_handoff_take(recv->handoff);
    }

    if (slot == NULL) {
        (void) __atomic_sub_fetch(&recv->nheld, 1, __ATOMIC_SEQ_CST);
    }

    return slot;
}


/* received: or NULL */

static void
ngx_webtorch_offload_recv_free(ngx_webtorch_offload_batch_t *received)
{
    if (received) {
        ngx_webtorch_offload_batch_free(received);
    }

    (void) __atomic_sub_fetch(&ngx_webtorch_offload_recv.nheld, 1,
                              __ATOMIC_SEQ_CST);
}


static void
ngx_webtorch_offload_recv_begin(ngx_webtorch_handoff_slot_t *slot)
{
    ngx_webtorch_offload_batch_t  *received;

    received = ngx_webtorch_offload_batch_create(slot);

    if (received && ngx_webtorch_offload_recv_copy_inputs(received) == NGX_OK) {
        ngx_webtorch_offload_recv_push(&ngx_webtorch_offload_recv.received,
                                       received);
        ngx_webtorch_done_notify();
        return;
    }

    ngx_webtorch_offload_batch_fail(slot, 500, "no_memory",
                                    "no memory for the rows");
    ngx_webtorch_handoff_finish(ngx_webtorch_offload_recv.handoff, slot);

    ngx_webtorch_offload_recv_free(received);
}


/* large inputs become a batch; few are copied to one by the event loop */

static ngx_int_t
ngx_webtorch_offload_recv_copy_inputs(ngx_webtorch_offload_batch_t *received)
{
    size_t                        size, total;
    uint32_t                      i;
    webtorch_schema_t            *schema;
    ngx_webtorch_sink_t          *sink;
    ngx_webtorch_handler_t      **handler;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = received->slot;
    sink = &received->sink;

    handler = ngx_webtorch_offload_recv.handlers->elts;
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

    received->adopted = 1;

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
ngx_webtorch_offload_recv_copy_results(void)
{
    uint32_t                       i;
    ngx_webtorch_offload_batch_t  *received, *next;

    received = ngx_webtorch_offload_recv_pop(
                                         &ngx_webtorch_offload_recv.results);

    for ( /* void */ ; received; received = next) {
        next = received->next;

        for (i = 0; i < received->slot->njobs; i++) {
            if (received->jobs[i].served) {
                ngx_webtorch_offload_batch_copy(received, &received->jobs[i],
                                                received->kept);
            }
        }

        ngx_webtorch_handoff_finish(ngx_webtorch_offload_recv.handoff,
                                    received->slot);

        ngx_webtorch_offload_recv_push(&ngx_webtorch_offload_recv.copied,
                                       received);
        ngx_webtorch_done_notify();
    }
}


static void
ngx_webtorch_offload_recv_push(ngx_webtorch_offload_batch_t **list,
    ngx_webtorch_offload_batch_t *received)
{
    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    received->next = *list;
    __atomic_store_n(list, received, __ATOMIC_RELEASE);

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);
}


/* all that the list has, the oldest first */

static ngx_webtorch_offload_batch_t *
ngx_webtorch_offload_recv_pop(ngx_webtorch_offload_batch_t **list)
{
    ngx_webtorch_offload_batch_t  *received, *next, *first;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    received = *list;
    *list = NULL;

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    for (first = NULL; received; received = next) {
        next = received->next;
        received->next = first;
        first = received;
    }

    return first;
}


/* --- the event loop --- */


static void
ngx_webtorch_offload_recv_handler(void)
{
    ngx_webtorch_offload_batch_t  *received, *next;

    received = ngx_webtorch_offload_recv_pop(&ngx_webtorch_offload_recv.copied);

    for ( /* void */ ; received; received = next) {
        next = received->next;

        ngx_webtorch_batch_release(received->kept);
        ngx_webtorch_offload_recv_free(received);
    }

    received = ngx_webtorch_offload_recv_pop(
                                         &ngx_webtorch_offload_recv.received);

    for ( /* void */ ; received; received = next) {
        next = received->next;

        ngx_webtorch_offload_recv_accept(received);
    }
}


/*
 * The options queue= and queue_size= were applied by the worker that has the
 * requests; how many may be here follows from the number of slots.
 */

static void
ngx_webtorch_offload_recv_accept(ngx_webtorch_offload_batch_t *received)
{
    ngx_webtorch_layout_t         layout;
    ngx_webtorch_runner_t        *runner;
    ngx_webtorch_handler_t      **handler;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = received->slot;

    handler = ngx_webtorch_offload_recv.handlers->elts;
    runner = handler[slot->handler]->runner;

    if (runner == NULL) {
        ngx_webtorch_offload_recv_refuse(received, 503, "not_loaded",
                                         "the worker that owns the device "
                                         "could not import the function");
        return;
    }

    if (ngx_webtorch_stuck_blocks(runner)) {
        ngx_webtorch_offload_recv_refuse(received, 503, "queue_full",
                                         "a call of the function does not "
                                         "return");
        return;
    }

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));

    layout.rows = slot->rows;
    layout.text = slot->text_len;
    ngx_memcpy(layout.sizes, slot->sizes, sizeof(slot->sizes));

    if (ngx_webtorch_offload_recv_find_versions(slot, layout.sizes) != NGX_OK) {
        ngx_webtorch_offload_recv_refuse(received, 404, "unknown_version",
                                         "the worker that owns the device "
                                         "has not loaded the version");
        return;
    }

    if (ngx_webtorch_offload_recv_add(received, runner, &layout) != NGX_OK) {
        ngx_webtorch_offload_recv_refuse(received, 500, "no_memory",
                                         "no memory for the rows");
    }
}


static ngx_int_t
ngx_webtorch_offload_recv_find_versions(ngx_webtorch_handoff_slot_t *slot,
    int64_t *sizes)
{
    ngx_str_t  name;

    if (sizes[WEBTORCH_VERSION_SET] == 0) {
        return NGX_OK;
    }

    name.data = (u_char *) slot->version_set;
    name.len = ngx_strlen(slot->version_set);

    sizes[WEBTORCH_VERSION_SET] = ngx_webtorch_version_set_find(&name);

    return sizes[WEBTORCH_VERSION_SET] ? NGX_OK : NGX_DECLINED;
}


/* all requests are in one batch, as they are in that of their worker */

static ngx_int_t
ngx_webtorch_offload_recv_add(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_runner_t *runner, ngx_webtorch_layout_t *layout)
{
    ngx_int_t              rc;
    ngx_webtorch_batch_t  *batch;

    rc = received->adopted
         ? ngx_webtorch_runner_adopt(runner, layout, &received->sink)
         : ngx_webtorch_runner_copy(runner, layout, &received->sink);

    if (rc != NGX_OK) {
        return rc;
    }

    batch = runner->open;

    if (ngx_webtorch_batch_reserve_jobs(batch, received->slot->njobs)
        != NGX_OK)
    {

        if (batch->api.njobs == 0) {
            runner->open = NULL;
            ngx_webtorch_batch_free(batch);
        }

        return NGX_ERROR;
    }

    ngx_webtorch_offload_recv_add_jobs(received, batch);
    ngx_webtorch_runner_added(runner);

    return NGX_OK;
}


static void
ngx_webtorch_offload_recv_add_jobs(ngx_webtorch_offload_batch_t *received,
    ngx_webtorch_batch_t *batch)
{
    uint32_t                      i;
    webtorch_job_t               *job;
    ngx_webtorch_layout_t         layout;
    ngx_webtorch_waiter_t        *waiter;
    ngx_webtorch_handoff_slot_t  *slot;

    slot = received->slot;

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));
    layout.text = slot->text_len;

    for (i = 0; i < slot->njobs; i++) {
        waiter = &received->jobs[i].waiter;
        waiter->done = ngx_webtorch_offload_recv_done;

        layout.rows = slot->jobs[i].rows;

        job = ngx_webtorch_batch_append(batch, &layout, waiter);
        job->caller = WEBTORCH_OFFLOADED;

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
ngx_webtorch_offload_recv_refuse(ngx_webtorch_offload_batch_t *received,
    int32_t status, const char *code, const char *message)
{
    ngx_webtorch_offload_batch_fail(received->slot, status, code, message);
    ngx_webtorch_handoff_finish(ngx_webtorch_offload_recv.handoff,
                                received->slot);
    ngx_webtorch_offload_recv_free(received);
}


static void
ngx_webtorch_offload_recv_done(ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job)
{
    ngx_webtorch_offload_batch_t  *received;
    ngx_webtorch_offload_job_t    *part;

    received = waiter->data;
    part = ngx_queue_data(waiter, ngx_webtorch_offload_job_t, waiter);

    ngx_webtorch_offload_batch_result(received, part, job);

    if (--received->nleft) {
        return;
    }

    if (received->kept) {
        ngx_webtorch_offload_recv_push(&ngx_webtorch_offload_recv.results,
                                       received);
        ngx_webtorch_handoff_ring(ngx_webtorch_offload_recv.handoff);
        return;
    }

    ngx_webtorch_handoff_finish(ngx_webtorch_offload_recv.handoff,
                                received->slot);
    ngx_webtorch_offload_recv_free(received);
}
