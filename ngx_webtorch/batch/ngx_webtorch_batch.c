
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_python.h"
#include "ngx_webtorch_tensor.h"
#include "ngx_webtorch_thread.h"
#include "ngx_webtorch_timer.h"
#include "ngx_webtorch_zone.h"

#include <sys/eventfd.h>


/*
 * The modes "inline" and "auto" run batches in the event loop.  "auto" does so
 * while calls are shorter than this, in microseconds: about what the loop
 * itself takes for a batch of 64 requests.  After that time in calls, the loop
 * looks for other events before it goes on with what is ready.
 */
#define NGX_WEBTORCH_INLINE_LIMIT   1000

/* "auto": fast calls in the thread that are asked for after slow ones inline */
#define NGX_WEBTORCH_MAX_PENALTY    1024

/* "auto": fast calls inline that halve the penalty of the next slow one */
#define NGX_WEBTORCH_AMNESTY        64

/* how often the loop looks for more rows before it closes a batch */
#define NGX_WEBTORCH_MAX_LOOKS      16

/* rows that a new batch has room for, it grows up to max_batch */
#define NGX_WEBTORCH_FIRST_ROWS     16

/* batches of rows of different sizes that take more, of a handler */
#define NGX_WEBTORCH_MAX_OPEN       32

/* inputs of a batch whose rows have variable axes, in bytes */
#define NGX_WEBTORCH_MAX_SIZE       (64 * 1024 * 1024)

/* strings of inputs of a batch, and those that a free batch keeps room for */
#define NGX_WEBTORCH_MAX_TEXT       (64 * 1024 * 1024)
#define NGX_WEBTORCH_KEPT_TEXT      (1024 * 1024)

/* what such a batch has room for at first, if it is less than FIRST_ROWS */
#define NGX_WEBTORCH_FIRST_SIZE     (256 * 1024)

/* batches of a handler whose outputs are being sent, each has buffers */
#define NGX_WEBTORCH_MAX_HELD       64
#define NGX_WEBTORCH_MAX_HELD_SIZE  (64 * 1024 * 1024)

/* free batches of a handler that keep their buffers when it has nothing to do */
#define NGX_WEBTORCH_KEPT_BATCHES   4

/* how long a worker that exits waits for a running handler, in seconds */
#define NGX_WEBTORCH_EXIT_TIMEOUT   1


typedef enum {
    NGX_WEBTORCH_BATCH_FREE = 0,
    NGX_WEBTORCH_BATCH_OPEN,              /* the loop's: takes more rows */
    NGX_WEBTORCH_BATCH_READY,             /* the loop's: closed */
    NGX_WEBTORCH_BATCH_PENDING,           /* of the thread's queue */
    NGX_WEBTORCH_BATCH_RUNNING,           /* Python's */
    NGX_WEBTORCH_BATCH_DONE,
    NGX_WEBTORCH_BATCH_HELD               /* answered, but not all is sent */
} ngx_webtorch_batch_state_e;


struct ngx_webtorch_batch_s {
    webtorch_batch_t             api;

    /* the handler's; with variable axes, a copy that has this batch's sizes */
    webtorch_schema_t           *schema;
    uint32_t                     max_rows;
    uint64_t                     weight;  /* of a row: bytes if they vary, or 1 */

    size_t                       max_text;
    uint32_t                     max_jobs;
    uint32_t                     nposted; /* jobs that nobody waits for */
    ngx_uint_t                   adopted; /* Python owns the input buffers */
    ngx_webtorch_batch_state_e   state;
    ngx_uint_t                   nholds;
    ngx_msec_t                   opened;
    ngx_uint_t                   elapsed; /* microseconds in Python */
    ngx_webtorch_runner_t       *runner;
    ngx_webtorch_batch_t        *next;    /* in one of the queues */
    ngx_queue_t                  queue;   /* in runner->batches */
};


/* where a batch is run */

typedef enum {
    NGX_WEBTORCH_PLACE_LOOP = 0,
    NGX_WEBTORCH_PLACE_THREAD,
    NGX_WEBTORCH_PLACE_LATER              /* in the loop, soon */
} ngx_webtorch_place_e;


typedef struct {
    ngx_webtorch_batch_t   *head;
    ngx_webtorch_batch_t  **tail;
} ngx_webtorch_fifo_t;


/*
 * A handler in a worker.  All is the event loop's but what is marked: that is
 * under ngx_webtorch_worker.mutex.  A batch belongs to the loop but between
 * its being put into pending and its coming back in done.
 */

struct ngx_webtorch_runner_s {
    ngx_webtorch_handler_t  *handler;
    ngx_webtorch_run_t      *run;         /* by whom a batch is run, one at a time */

    ngx_webtorch_batch_t    *open;        /* takes the rows that come */
    ngx_webtorch_fifo_t      others;      /* open, too, for other sizes */
    ngx_uint_t               nothers;
    ngx_webtorch_fifo_t      ready;
    ngx_webtorch_batch_t    *free;
    ngx_queue_t              batches;     /* not free, the oldest first */
    uint32_t                 nslots;
    uint32_t                 nkept;       /* free ones with buffers */

    ngx_uint_t               nthreaded;   /* batches given to the thread */
    ngx_uint_t               njobs;       /* in batches, waited for or not */
    ngx_uint_t               nwaiters;    /* and jobs that have none */
    ngx_uint_t               nheld;       /* batches */
    size_t                   held;        /* bytes of their outputs */

    ngx_webtorch_timer_t     close;       /* of the open batch */
    ngx_uint_t               nadded;      /* jobs, ever */
    ngx_uint_t               nseen;       /* of them, at the last look */
    ngx_uint_t               nlooks;
    ngx_webtorch_timer_t     timeout;     /* of the oldest waiters */

    /* mode=auto */
    uint64_t                 fast_load;   /* of a call that was fast */
    ngx_uint_t               penalty;
    ngx_uint_t               debt;        /* fast calls until inline again */
    ngx_uint_t               streak;      /* of fast calls inline */

    ngx_uint_t               started;     /* the thread */
    pthread_t                thread;
    pthread_cond_t           cond;
    ngx_webtorch_fifo_t      pending;     /* mutex */
    ngx_uint_t               waiting;     /* mutex: the thread is idle */
    ngx_uint_t               stop;        /* mutex */
    ngx_uint_t               stopped;     /* mutex */
};


typedef struct {
    pthread_mutex_t          mutex;
    ngx_webtorch_fifo_t      done;        /* mutex */
    ngx_uint_t               nthreaded;   /* batches given to all threads */
    ngx_int_t                threads;     /* of a torch operator */
    ngx_fd_t                 fd;          /* eventfd: done is not empty */
    ngx_log_t               *log;
} ngx_webtorch_worker_t;


static void ngx_webtorch_fifo_init(ngx_webtorch_fifo_t *fifo);
static void ngx_webtorch_fifo_put(ngx_webtorch_fifo_t *fifo,
    ngx_webtorch_batch_t *batch);
static ngx_webtorch_batch_t *ngx_webtorch_fifo_get(ngx_webtorch_fifo_t *fifo);
static void ngx_webtorch_fifo_prepend(ngx_webtorch_fifo_t *fifo,
    ngx_webtorch_fifo_t *first);
static void ngx_webtorch_fifo_remove(ngx_webtorch_fifo_t *fifo,
    ngx_webtorch_batch_t *batch);

static ngx_webtorch_batch_t *ngx_webtorch_batch_create(
    ngx_webtorch_runner_t *runner);
static ngx_int_t ngx_webtorch_batch_grow(ngx_webtorch_batch_t *batch,
    uint32_t rows);
static ngx_int_t ngx_webtorch_batch_grow_jobs(ngx_webtorch_batch_t *batch);
static ngx_int_t ngx_webtorch_batch_grow_text(ngx_webtorch_batch_t *batch,
    size_t len);
static void ngx_webtorch_batch_resize(ngx_webtorch_batch_t *batch,
    const int64_t *sizes);
static ngx_uint_t ngx_webtorch_batch_has_sizes(ngx_webtorch_batch_t *batch,
    const int64_t *sizes);
static uint64_t ngx_webtorch_batch_load(ngx_webtorch_batch_t *batch);
static ngx_int_t ngx_webtorch_batch_open(ngx_webtorch_runner_t *runner,
    const int64_t *sizes);
static ngx_webtorch_batch_t *ngx_webtorch_batch_take(
    ngx_webtorch_runner_t *runner, const int64_t *sizes);
static ngx_webtorch_batch_t *ngx_webtorch_batch_reclaim(
    ngx_webtorch_runner_t *runner, const int64_t *sizes);
static ngx_int_t ngx_webtorch_batch_room(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink);
static webtorch_job_t *ngx_webtorch_batch_append(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter);
static void ngx_webtorch_batch_drop(ngx_webtorch_batch_t *batch,
    webtorch_job_t *job);
static void ngx_webtorch_batch_recycle(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_runner_trim(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *only);
static void ngx_webtorch_batch_finish(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_batch_resolve(ngx_webtorch_batch_t *batch);
static size_t ngx_webtorch_batch_size(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_batch_count(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_job_moved(webtorch_job_t *job);
static void ngx_webtorch_job_free(webtorch_job_t *job);

static void ngx_webtorch_runner_select(ngx_webtorch_runner_t *runner,
    const int64_t *sizes);
static ngx_msec_int_t ngx_webtorch_batch_delay(ngx_webtorch_batch_t *batch);
static void ngx_webtorch_batch_schedule(ngx_webtorch_batch_t *batch);
static ngx_uint_t ngx_webtorch_runner_keep_open(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_close(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_close_others(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_close_handler(ngx_event_t *ev);
static void ngx_webtorch_runner_inline(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch);
static ngx_webtorch_place_e ngx_webtorch_runner_place(
    ngx_webtorch_runner_t *runner, ngx_webtorch_batch_t *batch);
static ngx_uint_t ngx_webtorch_runner_may_run_now(
    ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_reopen(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_reopen_others(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_learn(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch, ngx_uint_t in_loop);
static void ngx_webtorch_runner_watch(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_timeout_handler(ngx_event_t *ev);
static ngx_webtorch_waiter_t *ngx_webtorch_runner_oldest(
    ngx_webtorch_runner_t *runner);
static void ngx_webtorch_runner_forget(ngx_webtorch_runner_t *runner,
    ngx_webtorch_waiter_t *waiter);
static void ngx_webtorch_runner_leave(ngx_webtorch_runner_t *runner,
    ngx_uint_t n);

static void ngx_webtorch_batch_run(ngx_webtorch_batch_t *batch,
    ngx_uint_t wait);
static ngx_int_t ngx_webtorch_thread_start(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_thread_submit(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch);
static void ngx_webtorch_thread_recall(ngx_webtorch_runner_t *runner);
static void *ngx_webtorch_thread_cycle(void *data);
static ngx_int_t ngx_webtorch_thread_stop(ngx_webtorch_runner_t *runner);
static void ngx_webtorch_done_handler(ngx_event_t *ev);


static ngx_webtorch_worker_t  ngx_webtorch_worker = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .fd = -1
};


ngx_int_t
ngx_webtorch_batch_init_process(ngx_cycle_t *cycle, ngx_int_t threads)
{
    ngx_event_t            *rev;
    ngx_connection_t       *c;
    ngx_webtorch_worker_t  *worker;

    worker = &ngx_webtorch_worker;

    ngx_webtorch_fifo_init(&worker->done);
    worker->nthreaded = 0;
    worker->threads = threads;
    worker->log = cycle->log;

    worker->fd = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

    if (worker->fd == -1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "eventfd() failed");
        return NGX_ERROR;
    }

    c = ngx_get_connection(worker->fd, cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    rev = c->read;
    rev->handler = ngx_webtorch_done_handler;
    rev->log = cycle->log;

    /* not a client's: it may be open when the worker exits */
    rev->channel = 1;
    c->write->channel = 1;

    /*
     * Edge-triggered: each write is an event, and the counter, which would
     * need 2^64 batches to overflow, is never read.
     */

    return ngx_add_event(rev, NGX_READ_EVENT, NGX_CLEAR_EVENT);
}


ngx_int_t
ngx_webtorch_batch_exit_process(ngx_cycle_t *cycle, ngx_array_t *handlers)
{
    ngx_int_t                 rc;
    ngx_uint_t                i;
    ngx_webtorch_handler_t  **handler;

    rc = NGX_OK;
    handler = handlers->elts;

    for (i = 0; i < handlers->nelts; i++) {
        if (handler[i]->runner
            && ngx_webtorch_thread_stop(handler[i]->runner) != NGX_OK)
        {
            rc = NGX_BUSY;
        }
    }

    return rc;
}


ngx_webtorch_runner_t *
ngx_webtorch_runner_create(ngx_cycle_t *cycle, ngx_webtorch_handler_t *handler)
{
    ngx_webtorch_runner_t  *runner;

    runner = ngx_pcalloc(cycle->pool, sizeof(ngx_webtorch_runner_t));
    if (runner == NULL) {
        return NULL;
    }

    runner->handler = handler;
    runner->run = ngx_webtorch_worker_run(&handler->name);

    ngx_webtorch_fifo_init(&runner->others);
    ngx_webtorch_fifo_init(&runner->ready);
    ngx_webtorch_fifo_init(&runner->pending);
    ngx_queue_init(&runner->batches);
    (void) pthread_cond_init(&runner->cond, NULL);

    ngx_webtorch_timer_init(&runner->close, ngx_webtorch_runner_close_handler,
                            runner, cycle->log);

    /*
     * Not cancelable: a worker that shuts down gracefully waits for jobs, as
     * long as one is waited for.
     */

    ngx_webtorch_timer_init(&runner->timeout,
                            ngx_webtorch_runner_timeout_handler,
                            runner, cycle->log);

    return runner;
}


ngx_uint_t
ngx_webtorch_runner_full(ngx_webtorch_runner_t *runner)
{
    return runner->njobs >= runner->handler->queue;
}


/* queues of batches */

static void
ngx_webtorch_fifo_init(ngx_webtorch_fifo_t *fifo)
{
    fifo->head = NULL;
    fifo->tail = &fifo->head;
}


static void
ngx_webtorch_fifo_put(ngx_webtorch_fifo_t *fifo, ngx_webtorch_batch_t *batch)
{
    batch->next = NULL;
    *fifo->tail = batch;
    fifo->tail = &batch->next;
}


static ngx_webtorch_batch_t *
ngx_webtorch_fifo_get(ngx_webtorch_fifo_t *fifo)
{
    ngx_webtorch_batch_t  *batch;

    batch = fifo->head;

    if (batch) {
        ngx_webtorch_fifo_remove(fifo, batch);
    }

    return batch;
}


/* moves all of another queue to the front */

static void
ngx_webtorch_fifo_prepend(ngx_webtorch_fifo_t *fifo, ngx_webtorch_fifo_t *first)
{
    if (first->head == NULL) {
        return;
    }

    *first->tail = fifo->head;

    if (fifo->head == NULL) {
        fifo->tail = first->tail;
    }

    fifo->head = first->head;

    ngx_webtorch_fifo_init(first);
}


static void
ngx_webtorch_fifo_remove(ngx_webtorch_fifo_t *fifo, ngx_webtorch_batch_t *batch)
{
    ngx_webtorch_batch_t  **p;

    for (p = &fifo->head; *p != batch; p = &(*p)->next) { /* void */ }

    *p = batch->next;

    if (batch->next == NULL) {
        fifo->tail = p;
    }
}


/* the rows of a batch */

static ngx_webtorch_batch_t *
ngx_webtorch_batch_create(ngx_webtorch_runner_t *runner)
{
    size_t                 size;
    webtorch_schema_t     *schema;
    ngx_webtorch_batch_t  *batch;

    schema = &runner->handler->schema;
    size = sizeof(ngx_webtorch_batch_t)
           + (schema->naxes ? sizeof(webtorch_schema_t) : 0);

    batch = ngx_calloc(size, ngx_webtorch_worker.log);
    if (batch == NULL) {
        return NULL;
    }

    batch->schema = schema;

    if (schema->naxes) {
        batch->schema = (webtorch_schema_t *) &batch[1];
        *batch->schema = *schema;
    }

    batch->max_rows = (uint32_t) runner->handler->max_batch;
    batch->weight = 1;

    batch->runner = runner;
    batch->api.handler = (uint32_t) runner->handler->index;
    batch->api.slot = runner->nslots++;

    return batch;
}


/* makes room for as many rows in all, those that are there are kept */

static ngx_int_t
ngx_webtorch_batch_grow(ngx_webtorch_batch_t *batch, uint32_t rows)
{
    void               *data[WEBTORCH_MAX_TENSORS];
    uint32_t            i, capacity;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = batch->schema;

    if (rows <= api->capacity) {
        return NGX_OK;
    }

    capacity = ngx_min(NGX_WEBTORCH_FIRST_ROWS,
                       NGX_WEBTORCH_FIRST_SIZE / batch->weight);
    capacity = ngx_max(2 * api->capacity, capacity);
    capacity = ngx_max(rows, ngx_min(capacity, batch->max_rows));

    for (i = 0; i < schema->ninputs; i++) {
        data[i] = ngx_alloc((size_t) capacity
                            * (size_t) schema->inputs[i].row_size,
                            ngx_webtorch_worker.log);

        if (data[i] == NULL) {
            while (i) {
                ngx_free(data[--i]);
            }

            return NGX_ERROR;
        }
    }

    for (i = 0; i < schema->ninputs; i++) {
        if (api->rows) {
            ngx_memcpy(data[i], api->inputs[i],
                       api->rows * (size_t) schema->inputs[i].row_size);
        }

        /* what Python has seen, it frees with the last tensor over it */

        if (!batch->adopted && api->inputs[i]) {
            ngx_free(api->inputs[i]);
        }

        api->inputs[i] = data[i];
        api->allocated[i] = (size_t) capacity
                            * (size_t) schema->inputs[i].row_size;
    }

    batch->adopted = 0;
    api->generation++;
    api->capacity = capacity;

    return NGX_OK;
}


static ngx_int_t
ngx_webtorch_batch_grow_jobs(ngx_webtorch_batch_t *batch)
{
    uint32_t         i, n;
    webtorch_job_t  *jobs;

    if (batch->api.njobs < batch->max_jobs) {
        return NGX_OK;
    }

    n = batch->max_jobs ? 2 * batch->max_jobs : NGX_WEBTORCH_FIRST_ROWS;

    jobs = ngx_alloc(n * sizeof(webtorch_job_t), ngx_webtorch_worker.log);
    if (jobs == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < batch->api.njobs; i++) {
        jobs[i] = batch->api.jobs[i];
        ngx_webtorch_job_moved(&jobs[i]);
    }

    if (batch->api.jobs) {
        ngx_free(batch->api.jobs);
    }

    batch->api.jobs = jobs;
    batch->max_jobs = n;

    return NGX_OK;
}


/* strings are in rows by their offsets in the text, which may move */

static ngx_int_t
ngx_webtorch_batch_grow_text(ngx_webtorch_batch_t *batch, size_t len)
{
    char    *text;
    size_t   size;

    if (len <= batch->max_text) {
        return NGX_OK;
    }

    size = ngx_max(len, 2 * batch->max_text);

    text = realloc(batch->api.text, size);
    if (text == NULL) {
        return NGX_ERROR;
    }

    batch->api.text = text;
    batch->max_text = size;

    return NGX_OK;
}


/* an empty batch is for rows of other sizes from now on */

static void
ngx_webtorch_batch_resize(ngx_webtorch_batch_t *batch, const int64_t *sizes)
{
    uint32_t            i;
    uint64_t            size, capacity;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = &batch->runner->handler->schema;

    ngx_memzero(api->sizes, sizeof(api->sizes));
    ngx_memcpy(api->sizes, sizes, schema->nbound * sizeof(int64_t));

    capacity = UINT32_MAX;
    batch->weight = 0;

    for (i = 0; i < schema->ninputs; i++) {
        ngx_webtorch_resolve(&batch->schema->inputs[i], &schema->inputs[i],
                             sizes);

        size = (uint64_t) batch->schema->inputs[i].row_size;
        batch->weight += size;
        capacity = ngx_min(capacity, api->allocated[i] / size);
    }

    api->capacity = (uint32_t) capacity;

    batch->max_rows = (uint32_t) ngx_min(batch->runner->handler->max_batch,
                                         NGX_WEBTORCH_MAX_SIZE / batch->weight);
    batch->max_rows = ngx_max(batch->max_rows, 1);
}


static ngx_uint_t
ngx_webtorch_batch_has_sizes(ngx_webtorch_batch_t *batch, const int64_t *sizes)
{
    uint32_t  i;

    for (i = 0; i < batch->schema->nbound; i++) {
        if (batch->api.sizes[i] != sizes[i]) {
            return 0;
        }
    }

    return 1;
}


/* what the time of a call is taken to grow with */

static uint64_t
ngx_webtorch_batch_load(ngx_webtorch_batch_t *batch)
{
    return batch->api.rows * batch->weight;
}


static ngx_int_t
ngx_webtorch_batch_open(ngx_webtorch_runner_t *runner, const int64_t *sizes)
{
    ngx_webtorch_batch_t  *batch;

    batch = ngx_webtorch_batch_reclaim(runner, sizes);

    if (batch == NULL) {
        batch = ngx_webtorch_batch_take(runner, sizes);
        if (batch == NULL) {
            return NGX_ERROR;
        }
    }

    batch->state = NGX_WEBTORCH_BATCH_OPEN;
    runner->open = batch;

    if (batch->api.njobs) {
        ngx_webtorch_batch_schedule(batch);
    }

    return NGX_OK;
}


/* an empty one */

static ngx_webtorch_batch_t *
ngx_webtorch_batch_take(ngx_webtorch_runner_t *runner, const int64_t *sizes)
{
    ngx_webtorch_batch_t  *batch;

    batch = runner->free;

    if (batch) {
        runner->free = batch->next;
        runner->nkept -= (batch->api.capacity != 0);

    } else {
        batch = ngx_webtorch_batch_create(runner);
        if (batch == NULL) {
            return NULL;
        }
    }

    if (batch->schema->naxes) {
        ngx_webtorch_batch_resize(batch, sizes);
    }

    ngx_queue_insert_tail(&runner->batches, &batch->queue);

    return batch;
}


/*
 * Takes the youngest batch back, if the thread has not yet begun with it; with
 * variable axes the youngest of these sizes, among as many as may be open.
 */

static ngx_webtorch_batch_t *
ngx_webtorch_batch_reclaim(ngx_webtorch_runner_t *runner, const int64_t *sizes)
{
    ngx_uint_t             n;
    ngx_queue_t           *q;
    ngx_webtorch_batch_t  *batch, *found;

    if (!runner->started) {
        return NULL;
    }

    found = NULL;
    n = runner->handler->schema.nbound ? NGX_WEBTORCH_MAX_OPEN : 1;

    (void) pthread_mutex_lock(&ngx_webtorch_worker.mutex);

    for (q = ngx_queue_last(&runner->batches);
         n && runner->pending.head && q != ngx_queue_sentinel(&runner->batches);
         q = ngx_queue_prev(q), n--)
    {
        batch = ngx_queue_data(q, ngx_webtorch_batch_t, queue);

        if (batch->state == NGX_WEBTORCH_BATCH_PENDING
            && batch->api.rows < batch->max_rows
            && ngx_webtorch_batch_has_sizes(batch, sizes))
        {
            ngx_webtorch_fifo_remove(&runner->pending, batch);
            found = batch;
            break;
        }
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_worker.mutex);

    if (found) {
        runner->nthreaded--;
        ngx_webtorch_worker.nthreaded--;
    }

    return found;
}


ngx_int_t
ngx_webtorch_batch_reserve(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink)
{
    const int64_t         *sizes;
    ngx_webtorch_batch_t  *batch;

    sizes = layout->sizes;

    if (runner->handler->schema.nbound) {
        ngx_webtorch_runner_select(runner, sizes);
    }

    if (runner->open == NULL
        && ngx_webtorch_batch_open(runner, sizes) != NGX_OK)
    {
        return NGX_ERROR;
    }

    batch = runner->open;

    /* a request with more rows than max_batch is a batch by itself */

    while (batch->api.rows != 0
           && (batch->api.rows + (uint64_t) layout->rows > batch->max_rows
               || batch->api.text_len + layout->text > NGX_WEBTORCH_MAX_TEXT))
    {
        ngx_webtorch_runner_close(runner);
        ngx_post_event(&runner->close.event, &ngx_posted_events);

        if (ngx_webtorch_batch_open(runner, sizes) != NGX_OK) {
            return NGX_ERROR;
        }

        batch = runner->open;
    }

    return ngx_webtorch_batch_room(batch, layout, sink);
}


static ngx_int_t
ngx_webtorch_batch_room(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_sink_t *sink)
{
    uint32_t            i;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = batch->schema;

    if (ngx_webtorch_batch_grow(batch, api->rows + layout->rows) != NGX_OK
        || ngx_webtorch_batch_grow_jobs(batch) != NGX_OK)
    {
        return NGX_ERROR;
    }

    sink->text = NULL;
    sink->at = api->text_len;

    if (layout->text) {
        if (ngx_webtorch_batch_grow_text(batch, api->text_len + layout->text)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        sink->text = api->text + api->text_len;
    }

    for (i = 0; i < schema->ninputs; i++) {
        sink->data[i] = (u_char *) api->inputs[i]
                        + api->rows * (size_t) schema->inputs[i].row_size;
    }

    return NGX_OK;
}


webtorch_job_t *
ngx_webtorch_batch_add(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter)
{
    webtorch_job_t        *job;
    ngx_webtorch_batch_t  *batch;

    batch = runner->open;
    job = ngx_webtorch_batch_append(batch, layout, waiter);
    runner->nadded++;

    /* what is full need not wait for max_delay */

    if (batch->api.rows >= batch->max_rows) {
        ngx_webtorch_runner_close(runner);
        ngx_post_event(&runner->close.event, &ngx_posted_events);

    } else {
        ngx_webtorch_batch_schedule(batch);
    }

    return job;
}


ngx_int_t
ngx_webtorch_batch_now(ngx_webtorch_runner_t *runner,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter,
    void (*fill)(ngx_webtorch_waiter_t *waiter, ngx_webtorch_sink_t *sink))
{
    ngx_webtorch_sink_t    sink;
    ngx_webtorch_batch_t  *batch;

    if (!ngx_webtorch_runner_may_run_now(runner)) {
        return NGX_DECLINED;
    }

    batch = ngx_webtorch_batch_take(runner, layout->sizes);
    if (batch == NULL) {
        return NGX_ERROR;
    }

    if (ngx_webtorch_batch_room(batch, layout, &sink) != NGX_OK) {
        ngx_webtorch_batch_recycle(batch);
        return NGX_ERROR;
    }

    fill(waiter, &sink);

    (void) ngx_webtorch_batch_append(batch, layout, waiter);

    ngx_webtorch_runner_inline(runner, batch);
    ngx_webtorch_batch_finish(batch);

    return NGX_OK;
}


static webtorch_job_t *
ngx_webtorch_batch_append(ngx_webtorch_batch_t *batch,
    const ngx_webtorch_layout_t *layout, ngx_webtorch_waiter_t *waiter)
{
    webtorch_job_t         *job;
    ngx_webtorch_runner_t  *runner;

    runner = batch->runner;

    if (batch->api.njobs == 0) {
        batch->opened = ngx_current_msec;
    }

    job = &batch->api.jobs[batch->api.njobs++];

    ngx_memzero(job, sizeof(webtorch_job_t));

    job->first = batch->api.rows;
    job->rows = layout->rows;
    job->waiter = waiter;

    batch->api.rows += layout->rows;
    batch->api.text_len += layout->text;

    if (waiter) {
        waiter->job = job;
        waiter->batch = batch;
        waiter->deadline = ngx_current_msec + runner->handler->timeout;

    } else {
        batch->nposted++;
    }

    runner->njobs++;
    runner->nwaiters++;

    return job;
}


void
ngx_webtorch_batch_cancel(ngx_webtorch_waiter_t *waiter)
{
    webtorch_job_t         *job;
    ngx_webtorch_batch_t   *batch;
    ngx_webtorch_runner_t  *runner;

    job = waiter->job;

    if (job == NULL) {
        return;
    }

    batch = waiter->batch;
    runner = batch->runner;

    ngx_webtorch_runner_forget(runner, waiter);

    (void) pthread_mutex_lock(&ngx_webtorch_worker.mutex);

    switch (batch->state) {

    case NGX_WEBTORCH_BATCH_PENDING:
    case NGX_WEBTORCH_BATCH_OPEN:
    case NGX_WEBTORCH_BATCH_READY:
        ngx_webtorch_batch_drop(batch, job);
        runner->njobs--;
        break;

    default:
        /* it runs or has run: what waits is gone, what was done is done */
        break;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_worker.mutex);
}


/*
 * Takes a job's rows out of a batch: the last job's are put in their place.
 * A batch may become empty, it is run as one then, which costs nothing.
 */

static void
ngx_webtorch_batch_drop(ngx_webtorch_batch_t *batch, webtorch_job_t *job)
{
    size_t              size;
    u_char             *p;
    uint32_t            i, first, rows;
    webtorch_job_t     *last;
    webtorch_batch_t   *api;
    webtorch_schema_t  *schema;

    api = &batch->api;
    schema = batch->schema;
    last = &api->jobs[api->njobs - 1];
    first = job->first;
    rows = job->rows;

    ngx_webtorch_job_free(job);

    for (i = 0; i < schema->ninputs; i++) {
        size = (size_t) schema->inputs[i].row_size;
        p = (u_char *) api->inputs[i] + first * size;

        if (last->rows == rows) {
            ngx_memcpy(p, (u_char *) api->inputs[i] + last->first * size,
                       (job == last) ? 0 : rows * size);

        } else {
            ngx_memmove(p, p + rows * size,
                        (api->rows - first - rows) * size);
        }
    }

    if (last->rows == rows) {
        if (job != last) {
            *job = *last;
            job->first = first;
        }

    } else {
        ngx_memmove(job, job + 1, (u_char *) last - (u_char *) job);
    }

    api->njobs--;
    api->rows -= rows;

    for (i = 0, first = 0; i < api->njobs; i++) {
        api->jobs[i].first = first;
        first += api->jobs[i].rows;
        ngx_webtorch_job_moved(&api->jobs[i]);
    }
}


webtorch_spec_t *
ngx_webtorch_batch_specs(ngx_webtorch_waiter_t *waiter)
{
    return waiter->batch->schema->outputs;
}


const void *
ngx_webtorch_batch_output(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job,
    ngx_uint_t i)
{
    static const u_char  none[1];

    ngx_webtorch_batch_t  *batch;

    batch = waiter->batch;

    /* a tensor without elements has no memory, which functions of C want */

    if (batch->api.outputs[i] == 0) {
        return none;
    }

    return (const u_char *) batch->api.outputs[i]
           + job->first * (size_t) batch->schema->outputs[i].row_size;
}


static void
ngx_webtorch_job_moved(webtorch_job_t *job)
{
    ngx_webtorch_waiter_t  *waiter;

    waiter = job->waiter;

    if (waiter) {
        waiter->job = job;
    }
}


static void
ngx_webtorch_job_free(webtorch_job_t *job)
{
    if (job->request) {
        ngx_webtorch_release(job->request->shared);
    }

    free(job->message.data);
    free(job->request);
    free(job->reply);
}


static void
ngx_webtorch_batch_recycle(ngx_webtorch_batch_t *batch)
{
    ngx_webtorch_runner_t  *runner;

    runner = batch->runner;

    ngx_queue_remove(&batch->queue);

    batch->state = NGX_WEBTORCH_BATCH_FREE;
    batch->api.njobs = 0;
    batch->api.rows = 0;
    batch->api.shared = 0;
    batch->api.text_len = 0;
    batch->nposted = 0;

    if (batch->max_text > NGX_WEBTORCH_KEPT_TEXT) {
        free(batch->api.text);
        batch->api.text = NULL;
        batch->max_text = 0;
    }

    if (batch->api.retained) {
        /* a tensor over the input lives on: the next rows go elsewhere */
        batch->api.retained = 0;
        batch->api.capacity = 0;
        ngx_memzero(batch->api.inputs, sizeof(batch->api.inputs));
        ngx_memzero(batch->api.allocated, sizeof(batch->api.allocated));
    }

    batch->next = runner->free;
    runner->free = batch;
    runner->nkept += (batch->api.capacity != 0);
}


/*
 * Gives back what slow clients or a long queue made necessary, before a run of
 * the only batch that is in use: C's buffers here, Python's at the slot's mark.
 */

static void
ngx_webtorch_runner_trim(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *only)
{
    uint32_t               i;
    webtorch_schema_t     *schema;
    ngx_webtorch_batch_t  *batch;

    only->api.slot &= ~WEBTORCH_ONLY_SLOT;

    if (runner->nkept <= NGX_WEBTORCH_KEPT_BATCHES
        || runner->nheld
        || ngx_queue_head(&runner->batches) != ngx_queue_last(&runner->batches))
    {
        return;
    }

    schema = &runner->handler->schema;

    for (batch = runner->free; batch; batch = batch->next) {

        for (i = 0; !batch->adopted && i < schema->ninputs; i++) {
            if (batch->api.inputs[i]) {
                ngx_free(batch->api.inputs[i]);
            }
        }

        ngx_memzero(batch->api.inputs, sizeof(batch->api.inputs));
        ngx_memzero(batch->api.allocated, sizeof(batch->api.allocated));

        free(batch->api.text);
        batch->api.text = NULL;
        batch->max_text = 0;

        batch->adopted = 0;
        batch->api.capacity = 0;
    }

    runner->nkept = 0;
    only->api.slot |= WEBTORCH_ONLY_SLOT;
}


/* answers who still waits */

static void
ngx_webtorch_batch_finish(ngx_webtorch_batch_t *batch)
{
    uint32_t                i;
    webtorch_job_t         *job;
    ngx_webtorch_runner_t  *runner;
    ngx_webtorch_waiter_t  *waiter;

    runner = batch->runner;
    batch->state = NGX_WEBTORCH_BATCH_DONE;

    ngx_webtorch_batch_count(batch);

    if (batch->schema->naxes) {
        ngx_webtorch_batch_resolve(batch);
    }

    for (i = 0; i < batch->api.njobs; i++) {
        job = &batch->api.jobs[i];
        waiter = job->waiter;

        if (waiter) {
            ngx_webtorch_runner_forget(runner, waiter);
            waiter->done(waiter, job);
        }

        ngx_webtorch_job_free(job);
    }

    runner->njobs -= batch->api.njobs;
    ngx_webtorch_runner_leave(runner, batch->nposted);

    if (batch->nholds == 0) {
        ngx_webtorch_batch_recycle(batch);
        return;
    }

    batch->state = NGX_WEBTORCH_BATCH_HELD;
    batch->api.njobs = 0;

    ngx_queue_remove(&batch->queue);
    ngx_queue_init(&batch->queue);
}


/* outputs have the sizes that inputs or Python told */

static void
ngx_webtorch_batch_resolve(ngx_webtorch_batch_t *batch)
{
    uint32_t            i;
    webtorch_schema_t  *schema;

    schema = &batch->runner->handler->schema;

    for (i = 0; i < schema->noutputs; i++) {
        ngx_webtorch_resolve(&batch->schema->outputs[i], &schema->outputs[i],
                             batch->api.sizes);
    }
}


static void
ngx_webtorch_batch_count(ngx_webtorch_batch_t *batch)
{
    uint32_t               i;
    ngx_time_t            *tp;
    webtorch_job_t        *job;
    ngx_webtorch_stats_t  *stats;

    stats = &batch->runner->handler->stats;
    tp = ngx_timeofday();

    stats->batches++;
    stats->last = (uint64_t) tp->sec * 1000 + tp->msec;

    for (i = 0; i < batch->api.njobs; i++) {
        job = &batch->api.jobs[i];

        if (job->status != 0) {
            stats->failed++;
            continue;
        }

        stats->served++;
        stats->rows += job->rows;
    }
}


ngx_int_t
ngx_webtorch_batch_hold(ngx_webtorch_batch_t *batch)
{
    size_t                  size;
    ngx_webtorch_runner_t  *runner;

    /* what the handler keeps may change while it is sent */

    if (batch->api.shared) {
        return NGX_DECLINED;
    }

    if (batch->nholds == 0) {

        runner = batch->runner;
        size = ngx_webtorch_batch_size(batch);

        if (runner->nheld == NGX_WEBTORCH_MAX_HELD
            || (runner->nheld
                && runner->held + size > NGX_WEBTORCH_MAX_HELD_SIZE))
        {
            return NGX_DECLINED;
        }

        runner->nheld++;
        runner->held += size;
    }

    batch->nholds++;

    return NGX_OK;
}


void
ngx_webtorch_batch_release(void *data)
{
    ngx_webtorch_batch_t *batch = data;

    if (--batch->nholds) {
        return;
    }

    batch->runner->nheld--;
    batch->runner->held -= ngx_webtorch_batch_size(batch);

    /* a request may be gone before the others of its batch are answered */

    if (batch->state == NGX_WEBTORCH_BATCH_HELD) {
        ngx_webtorch_batch_recycle(batch);
    }
}


static size_t
ngx_webtorch_batch_size(ngx_webtorch_batch_t *batch)
{
    size_t              size;
    uint32_t            i;
    webtorch_schema_t  *schema;

    size = 0;
    schema = batch->schema;

    for (i = 0; i < schema->noutputs; i++) {
        size += batch->api.rows * (size_t) schema->outputs[i].row_size;
    }

    return size;
}


/* handlers */

/*
 * Makes the batch of these sizes the one that takes rows.  If there are too
 * many, that which has been without a new row for the longest time is closed.
 */

static void
ngx_webtorch_runner_select(ngx_webtorch_runner_t *runner, const int64_t *sizes)
{
    ngx_webtorch_batch_t  *batch;

    batch = runner->open;

    if (batch) {

        if (ngx_webtorch_batch_has_sizes(batch, sizes)) {
            return;
        }

        runner->open = NULL;

        if (batch->api.njobs) {
            ngx_webtorch_fifo_put(&runner->others, batch);
            runner->nothers++;

        } else {
            ngx_webtorch_batch_recycle(batch);
        }
    }

    for (batch = runner->others.head; batch; batch = batch->next) {

        if (ngx_webtorch_batch_has_sizes(batch, sizes)) {
            ngx_webtorch_fifo_remove(&runner->others, batch);
            runner->nothers--;
            runner->open = batch;
            return;
        }
    }

    if (runner->nothers >= NGX_WEBTORCH_MAX_OPEN) {
        runner->open = ngx_webtorch_fifo_get(&runner->others);
        runner->nothers--;

        ngx_webtorch_runner_close(runner);
        ngx_post_event(&runner->close.event, &ngx_posted_events);
    }
}


/* how long an open batch waits still, in milliseconds */

static ngx_msec_int_t
ngx_webtorch_batch_delay(ngx_webtorch_batch_t *batch)
{
    return (ngx_msec_int_t) (batch->opened + batch->runner->handler->max_delay
                             - ngx_current_msec);
}


static void
ngx_webtorch_batch_schedule(ngx_webtorch_batch_t *batch)
{
    ngx_msec_int_t          delay;
    ngx_webtorch_runner_t  *runner;

    runner = batch->runner;
    delay = ngx_webtorch_batch_delay(batch);

    if (delay <= 0) {
        /*
         * The event is after those of the connections that are ready now: the
         * batch closes when the loop has read them all.
         */

        if (!runner->close.event.posted) {
            ngx_post_event(&runner->close.event, &ngx_posted_events);
        }

        return;
    }

    /* of several that are open another one may have to be closed later */

    if (runner->close.event.timer_set
        && (ngx_msec_int_t) (runner->close.event.timer.key
                             - (ngx_current_msec + delay))
           > 0)
    {
        ngx_del_timer(&runner->close.event);
    }

    if (!runner->close.event.timer_set) {
        ngx_add_timer(&runner->close.event, delay);
    }

    ngx_webtorch_runner_watch(runner);
}


/*
 * Requests that are proxied, too, come a few in each turn of the loop, between
 * events of upstreams and clients.  A batch of them stays open while each turn
 * brings some; a turn does not wait for events here.
 */

static ngx_uint_t
ngx_webtorch_runner_keep_open(ngx_webtorch_runner_t *runner)
{
    if (!runner->handler->keep_open
        || runner->handler->max_delay
        || runner->ready.head
        || runner->nadded == runner->nseen
        || ++runner->nlooks > NGX_WEBTORCH_MAX_LOOKS)
    {
        runner->nseen = runner->nadded;
        runner->nlooks = 0;
        return 0;
    }

    runner->nseen = runner->nadded;

    /* a worker that shuts down gracefully waits for timers */
    ngx_webtorch_runner_watch(runner);
    ngx_post_event(&runner->close.event, &ngx_posted_next_events);

    return 1;
}


static void
ngx_webtorch_runner_close(ngx_webtorch_runner_t *runner)
{
    runner->open->state = NGX_WEBTORCH_BATCH_READY;
    ngx_webtorch_fifo_put(&runner->ready, runner->open);
    runner->open = NULL;
}


/* those whose time has come, and those that have become empty */

static void
ngx_webtorch_runner_close_others(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_fifo_t    others;
    ngx_webtorch_batch_t  *batch;

    others.head = runner->others.head;

    ngx_webtorch_fifo_init(&runner->others);
    runner->nothers = 0;

    while ((batch = others.head) != NULL) {
        others.head = batch->next;

        if (batch->api.njobs == 0 || ngx_webtorch_batch_delay(batch) <= 0) {
            batch->state = NGX_WEBTORCH_BATCH_READY;
            ngx_webtorch_fifo_put(&runner->ready, batch);
            continue;
        }

        ngx_webtorch_fifo_put(&runner->others, batch);
        runner->nothers++;

        ngx_webtorch_batch_schedule(batch);
    }
}


static void
ngx_webtorch_runner_close_handler(ngx_event_t *ev)
{
    ngx_uint_t              spent;
    ngx_webtorch_fifo_t     done;
    ngx_webtorch_batch_t   *batch;
    ngx_webtorch_place_e    place;
    ngx_webtorch_runner_t  *runner;

    runner = ngx_webtorch_timer_data(ev);

    if (ngx_webtorch_runner_keep_open(runner)) {
        return;
    }

    if (runner->nothers) {
        ngx_webtorch_runner_close_others(runner);
    }

    if (runner->open && runner->open->api.njobs) {

        if (ngx_webtorch_batch_delay(runner->open) <= 0) {
            ngx_webtorch_runner_close(runner);

        } else {
            /* the timer may have been of a batch that became full before */
            ngx_webtorch_batch_schedule(runner->open);
        }
    }

    if (runner->open == NULL && runner->nothers == 0 && ev->timer_set) {
        ngx_del_timer(ev);
    }

    spent = 0;
    ngx_webtorch_fifo_init(&done);

    while ((batch = runner->ready.head) != NULL) {

        if (batch->api.njobs == 0) {
            (void) ngx_webtorch_fifo_get(&runner->ready);
            ngx_webtorch_batch_recycle(batch);
            continue;
        }

        place = ngx_webtorch_runner_place(runner, batch);

        if (place == NGX_WEBTORCH_PLACE_LATER) {
            ngx_webtorch_runner_reopen(runner);
            ngx_webtorch_runner_watch(runner);
            break;
        }

        if (place == NGX_WEBTORCH_PLACE_LOOP
            && spent >= NGX_WEBTORCH_INLINE_LIMIT)
        {
            /* a worker that shuts down gracefully waits for timers */
            ngx_webtorch_runner_watch(runner);
            ngx_post_event(ev, &ngx_posted_next_events);
            break;
        }

        (void) ngx_webtorch_fifo_get(&runner->ready);

        if (place == NGX_WEBTORCH_PLACE_THREAD) {
            ngx_webtorch_thread_submit(runner, batch);
            continue;
        }

        ngx_webtorch_runner_inline(runner, batch);
        ngx_webtorch_fifo_put(&done, batch);
        spent += batch->elapsed;
    }

    /* answered after all calls, each of which finds the caches warm then */

    while ((batch = ngx_webtorch_fifo_get(&done)) != NULL) {
        ngx_webtorch_batch_finish(batch);
    }
}


static void
ngx_webtorch_runner_inline(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch)
{
    ngx_webtorch_runner_trim(runner, batch);

    batch->state = NGX_WEBTORCH_BATCH_RUNNING;
    batch->adopted = 1;
    ngx_webtorch_batch_run(batch, 0);
    batch->state = NGX_WEBTORCH_BATCH_DONE;

    ngx_webtorch_runner_learn(runner, batch, 1);
}


/*
 * "auto" runs in the event loop what was fast at about this size, and only
 * while no thread runs Python: the loop would wait for the GIL otherwise.  If
 * it is the handler's own thread, whose last call was fast, then it waits for
 * that, as in the thread's queue.
 */

static ngx_webtorch_place_e
ngx_webtorch_runner_place(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch)
{
    if (runner->handler->mode == NGX_WEBTORCH_MODE_INLINE) {
        return NGX_WEBTORCH_PLACE_LOOP;
    }

    if (runner->handler->mode == NGX_WEBTORCH_MODE_THREAD
        || runner->debt
        || ngx_webtorch_batch_load(batch) > 2 * runner->fast_load
        || ngx_webtorch_python_learning()
        || ngx_webtorch_worker.nthreaded > runner->nthreaded)
    {
        return NGX_WEBTORCH_PLACE_THREAD;
    }

    return runner->nthreaded ? NGX_WEBTORCH_PLACE_LATER
                             : NGX_WEBTORCH_PLACE_LOOP;
}


/*
 * Whether somebody may wait for a call in the event loop.  "auto" leaves out as
 * many as the fast calls in a thread would be that a slow one asks for.
 */

static ngx_uint_t
ngx_webtorch_runner_may_run_now(ngx_webtorch_runner_t *runner)
{
    if (runner->handler->mode != NGX_WEBTORCH_MODE_AUTO) {
        return runner->handler->mode == NGX_WEBTORCH_MODE_INLINE;
    }

    if (runner->debt) {
        runner->debt--;
        return 0;
    }

    return ngx_webtorch_worker.nthreaded == 0;
}


/* the last batch takes more rows while it waits */

static void
ngx_webtorch_runner_reopen(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_batch_t  *batch;

    batch = runner->ready.head;

    if (runner->handler->schema.nbound) {
        ngx_webtorch_runner_reopen_others(runner);
        return;
    }

    if (runner->open == NULL
        && batch->next == NULL
        && batch->api.rows < batch->max_rows)
    {
        ngx_webtorch_fifo_remove(&runner->ready, batch);
        batch->state = NGX_WEBTORCH_BATCH_OPEN;
        runner->open = batch;
    }
}


/* all or none: they keep their order */

static void
ngx_webtorch_runner_reopen_others(ngx_webtorch_runner_t *runner)
{
    ngx_uint_t             n;
    ngx_webtorch_batch_t  *batch, *next;

    n = runner->nothers + (runner->open != NULL);

    for (batch = runner->ready.head; batch; batch = batch->next) {
        n += (batch->api.rows < batch->max_rows);
    }

    if (n > NGX_WEBTORCH_MAX_OPEN) {
        return;
    }

    for (batch = runner->ready.head; batch; batch = next) {
        next = batch->next;

        if (batch->api.rows < batch->max_rows) {
            ngx_webtorch_fifo_remove(&runner->ready, batch);
            batch->state = NGX_WEBTORCH_BATCH_OPEN;

            ngx_webtorch_fifo_put(&runner->others, batch);
            runner->nothers++;
        }
    }
}


/*
 * What a call's time tells "auto".  A batch is taken to be fast if one of half
 * its rows was, or of half its bytes where rows differ.  A slow call in the loop has to be made up for by fast ones in
 * the thread, by ever more if it happens again soon, and is forgotten after
 * enough fast ones in the loop.
 */

static void
ngx_webtorch_runner_learn(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch, ngx_uint_t in_loop)
{
    uint64_t  load;

    load = ngx_webtorch_batch_load(batch);

    if (batch->elapsed > NGX_WEBTORCH_INLINE_LIMIT) {

        runner->fast_load = ngx_min(runner->fast_load, load / 4);

        if (in_loop) {
            runner->penalty = ngx_min(2 * runner->penalty + 1,
                                      NGX_WEBTORCH_MAX_PENALTY);
            runner->debt = runner->penalty;
            runner->streak = 0;
        }

        return;
    }

    runner->fast_load = ngx_max(runner->fast_load, load);

    if (!in_loop) {
        if (runner->debt) {
            runner->debt--;
        }

    } else if (++runner->streak == NGX_WEBTORCH_AMNESTY) {
        runner->streak = 0;
        runner->penalty /= 2;
    }
}


/* what runs in the event loop at once cannot time out, all else is watched */

static void
ngx_webtorch_runner_watch(ngx_webtorch_runner_t *runner)
{
    if (!runner->timeout.event.timer_set) {
        ngx_add_timer(&runner->timeout.event, runner->handler->timeout);
    }
}


static void
ngx_webtorch_runner_timeout_handler(ngx_event_t *ev)
{
    ngx_webtorch_runner_t  *runner;
    ngx_webtorch_waiter_t  *waiter;

    runner = ngx_webtorch_timer_data(ev);

    for ( ;; ) {
        waiter = ngx_webtorch_runner_oldest(runner);

        if (waiter == NULL) {
            return;
        }

        if ((ngx_msec_int_t) (waiter->deadline - ngx_current_msec) > 0) {
            break;
        }

        ngx_webtorch_batch_cancel(waiter);

        waiter->done(waiter, NULL);
    }

    if (!ev->timer_set) {
        ngx_add_timer(ev, waiter->deadline - ngx_current_msec);
    }
}


/*
 * Batches are in the order of their first jobs, not quite of their last: of
 * several that were open at a time, each has taken younger jobs.
 */

static ngx_webtorch_waiter_t *
ngx_webtorch_runner_oldest(ngx_webtorch_runner_t *runner)
{
    uint32_t                i;
    ngx_uint_t              n;
    ngx_queue_t            *q;
    ngx_webtorch_batch_t   *batch;
    ngx_webtorch_waiter_t  *waiter, *oldest;

    oldest = NULL;
    n = runner->handler->schema.nbound ? NGX_WEBTORCH_MAX_OPEN : 1;

    for (q = ngx_queue_head(&runner->batches);
         q != ngx_queue_sentinel(&runner->batches);
         q = ngx_queue_next(q))
    {
        batch = ngx_queue_data(q, ngx_webtorch_batch_t, queue);

        for (i = 0; i < batch->api.njobs; i++) {
            waiter = batch->api.jobs[i].waiter;

            if (waiter
                && (oldest == NULL
                    || (ngx_msec_int_t) (waiter->deadline - oldest->deadline)
                       < 0))
            {
                oldest = waiter;
            }
        }

        if (oldest && --n == 0) {
            break;
        }
    }

    return oldest;
}


static void
ngx_webtorch_runner_forget(ngx_webtorch_runner_t *runner,
    ngx_webtorch_waiter_t *waiter)
{
    waiter->job->waiter = NULL;
    waiter->job = NULL;

    ngx_webtorch_runner_leave(runner, 1);
}


static void
ngx_webtorch_runner_leave(ngx_webtorch_runner_t *runner, ngx_uint_t n)
{
    runner->nwaiters -= n;

    if (runner->nwaiters) {
        return;
    }

    /* a worker that shuts down gracefully waits for timers */

    if (runner->timeout.event.timer_set) {
        ngx_del_timer(&runner->timeout.event);
    }

    if (runner->close.event.timer_set) {
        ngx_del_timer(&runner->close.event);
    }
}


/* in the event loop or in the thread; who dies here is told of by another */

static void
ngx_webtorch_batch_run(ngx_webtorch_batch_t *batch, ngx_uint_t wait)
{
    ngx_webtorch_run_t  *run;

    run = batch->runner->run;

    run->batch++;
    run->jobs = batch->api.njobs;

    batch->elapsed = ngx_webtorch_python_run(&batch->api, wait);

    run->jobs = 0;
}


/*
 * Threads: one for each handler that needs one, so that a slow handler holds
 * up no other for longer than the GIL; torch gives it up in its operators.
 */

static ngx_int_t
ngx_webtorch_thread_start(ngx_webtorch_runner_t *runner)
{
    if (ngx_webtorch_thread_create(&runner->thread, ngx_webtorch_thread_cycle,
                                   runner, ngx_webtorch_worker.log)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    runner->started = 1;

    return NGX_OK;
}


static void
ngx_webtorch_thread_submit(ngx_webtorch_runner_t *runner,
    ngx_webtorch_batch_t *batch)
{
    uint32_t    i;
    ngx_uint_t  wake;

    if (!runner->started && ngx_webtorch_thread_start(runner) != NGX_OK) {
        for (i = 0; i < batch->api.njobs; i++) {
            batch->api.jobs[i].status = 500;
        }

        ngx_webtorch_batch_finish(batch);
        return;
    }

    ngx_webtorch_runner_watch(runner);
    ngx_webtorch_runner_trim(runner, batch);

    batch->state = NGX_WEBTORCH_BATCH_PENDING;
    runner->nthreaded++;
    ngx_webtorch_worker.nthreaded++;

    (void) pthread_mutex_lock(&ngx_webtorch_worker.mutex);

    ngx_webtorch_fifo_put(&runner->pending, batch);

    wake = runner->waiting;
    runner->waiting = 0;

    (void) pthread_mutex_unlock(&ngx_webtorch_worker.mutex);

    if (wake) {
        (void) pthread_cond_signal(&runner->cond);
    }
}


/*
 * "auto": takes back what the thread has not begun with, before all that is
 * ready, if it is such as is run in the event loop.
 */

static void
ngx_webtorch_thread_recall(ngx_webtorch_runner_t *runner)
{
    ngx_webtorch_fifo_t    pending;
    ngx_webtorch_batch_t  *batch;

    if (runner->handler->mode != NGX_WEBTORCH_MODE_AUTO || runner->debt) {
        return;
    }

    ngx_webtorch_fifo_init(&pending);

    (void) pthread_mutex_lock(&ngx_webtorch_worker.mutex);

    batch = runner->pending.head;

    if (batch && ngx_webtorch_batch_load(batch) <= 2 * runner->fast_load) {
        ngx_webtorch_fifo_prepend(&pending, &runner->pending);
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_worker.mutex);

    for (batch = pending.head; batch; batch = batch->next) {
        batch->state = NGX_WEBTORCH_BATCH_READY;
        runner->nthreaded--;
        ngx_webtorch_worker.nthreaded--;
    }

    ngx_webtorch_fifo_prepend(&runner->ready, &pending);
}


static void *
ngx_webtorch_thread_cycle(void *data)
{
    ngx_webtorch_runner_t *runner = data;

    void                   *state;
    uint64_t                one;
    ngx_uint_t              notify;
    pthread_mutex_t        *mutex;
    ngx_webtorch_batch_t   *batch;

    one = 1;
    mutex = &ngx_webtorch_worker.mutex;
    state = ngx_webtorch_python_thread_begin(ngx_webtorch_worker.threads);

    (void) pthread_mutex_lock(mutex);

    for ( ;; ) {

        while (runner->pending.head == NULL && !runner->stop) {
            runner->waiting = 1;
            (void) pthread_cond_wait(&runner->cond, mutex);
        }

        if (runner->stop) {
            break;
        }

        batch = ngx_webtorch_fifo_get(&runner->pending);
        batch->state = NGX_WEBTORCH_BATCH_RUNNING;

        (void) pthread_mutex_unlock(mutex);

        if (batch->api.njobs != 0) {
            batch->adopted = 1;
            ngx_webtorch_batch_run(batch, 1);
        }

        (void) pthread_mutex_lock(mutex);

        notify = (ngx_webtorch_worker.done.head == NULL);
        ngx_webtorch_fifo_put(&ngx_webtorch_worker.done, batch);

        if (notify) {
            (void) pthread_mutex_unlock(mutex);
            (void) !write(ngx_webtorch_worker.fd, &one, sizeof(uint64_t));
            (void) pthread_mutex_lock(mutex);
        }
    }

    (void) pthread_mutex_unlock(mutex);

    ngx_webtorch_python_thread_end(state);

    return NULL;
}


/* NGX_BUSY: it runs still */

static ngx_int_t
ngx_webtorch_thread_stop(ngx_webtorch_runner_t *runner)
{
    if (!runner->started) {
        return NGX_OK;
    }

    (void) pthread_mutex_lock(&ngx_webtorch_worker.mutex);
    runner->stop = 1;
    (void) pthread_mutex_unlock(&ngx_webtorch_worker.mutex);

    (void) pthread_cond_signal(&runner->cond);

    if (ngx_webtorch_thread_join(runner->thread, NGX_WEBTORCH_EXIT_TIMEOUT)
        == NGX_OK)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_WARN, ngx_webtorch_worker.log, 0,
                  "webtorch handler \"%V\" is still running, the worker exits "
                  "without waiting for it", &runner->handler->name);

    return NGX_BUSY;
}


static void
ngx_webtorch_done_handler(ngx_event_t *ev)
{
    ngx_webtorch_fifo_t     done;
    ngx_webtorch_batch_t   *batch, *next;
    ngx_webtorch_runner_t  *runner;

    (void) pthread_mutex_lock(&ngx_webtorch_worker.mutex);
    done = ngx_webtorch_worker.done;
    ngx_webtorch_fifo_init(&ngx_webtorch_worker.done);
    (void) pthread_mutex_unlock(&ngx_webtorch_worker.mutex);

    for (batch = done.head; batch; batch = next) {
        next = batch->next;
        runner = batch->runner;

        runner->nthreaded--;
        ngx_webtorch_worker.nthreaded--;

        if (batch->api.njobs != 0) {
            ngx_webtorch_runner_learn(runner, batch, 0);
        }

        ngx_webtorch_batch_finish(batch);
        ngx_webtorch_thread_recall(runner);

        if ((runner->open || runner->nothers || runner->ready.head)
            && !runner->close.event.posted)
        {
            ngx_post_event(&runner->close.event, &ngx_posted_events);
        }
    }
}
