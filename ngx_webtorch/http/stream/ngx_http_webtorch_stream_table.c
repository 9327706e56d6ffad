
#include "ngx_http_webtorch_stream_table.h"
#include "ngx_http_webtorch_stream_account.h"
#include "ngx_webtorch_metrics_handler.h"
#include "ngx_webtorch_runner.h"


/* rows of the states of a function, which several locations may have */

typedef struct {
    uint32_t      next;                   /* a row that was never used */
    uint32_t     *free;                   /* rows that were */
    ngx_uint_t    nfree;
    ngx_uint_t    size;
} ngx_http_webtorch_stream_rows_t;


struct ngx_http_webtorch_streams_s {
    ngx_uint_t    n;                      /* streams, with ended ones whose rows
                                             are still in use */

    ngx_http_webtorch_stream_rows_t  *rows;
};


static ngx_http_webtorch_streams_t *ngx_http_webtorch_streams_get(
    ngx_webtorch_handler_t *handler);
static ngx_http_webtorch_stream_rows_t *ngx_http_webtorch_stream_find_rows(
    ngx_str_t *name);
static ngx_int_t ngx_http_webtorch_stream_add_rows(
    ngx_http_webtorch_stream_rows_t *rows, ngx_uint_t n);
static uint32_t ngx_http_webtorch_stream_take_row(
    ngx_http_webtorch_stream_rows_t *rows);
static ngx_http_webtorch_stream_t *ngx_http_webtorch_stream_alloc(
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_streams_t *streams);
static void ngx_http_webtorch_stream_leave_record(
    ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_released(ngx_webtorch_job_owner_t *owner,
    webtorch_job_t *job);
static void ngx_http_webtorch_stream_item_released(
    ngx_http_webtorch_stream_t *st, webtorch_job_t *job);
static void ngx_http_webtorch_stream_over_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_webtorch_stream_close(ngx_http_webtorch_stream_t *st);
static void ngx_http_webtorch_stream_free(ngx_http_webtorch_stream_t *st);


/* streams with records to whose clients this worker has sent a head */
static ngx_queue_t  ngx_http_webtorch_stream_list = {
    &ngx_http_webtorch_stream_list, &ngx_http_webtorch_stream_list
};


ngx_int_t
ngx_http_webtorch_stream_create(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_stream_t **stream)
{
    ngx_http_webtorch_stream_t       *st;
    ngx_http_webtorch_streams_t      *streams;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;

    streams = ngx_http_webtorch_streams_get(handler);
    if (streams == NULL) {
        return NGX_ERROR;
    }

    if (streams->n >= conf->max_streams) {
        return NGX_BUSY;
    }

    st = ngx_http_webtorch_stream_alloc(handler, streams);
    if (st == NULL) {
        return NGX_ERROR;
    }

    if (handler->resume == 0) {
        st->state_rows[0] = ngx_http_webtorch_stream_take_row(streams->rows);
        st->state_rows[1] = ngx_http_webtorch_stream_take_row(streams->rows);
        st->write = st->state_rows[0];
    }

    st->request = r;
    *stream = st;

    if (handler->metrics) {
        ngx_webtorch_metrics_add(&handler->metrics->streams, 1);
        ngx_webtorch_metrics_add(&handler->metrics->open, 1);
    }

    return NGX_OK;
}


static ngx_http_webtorch_stream_t *
ngx_http_webtorch_stream_alloc(ngx_webtorch_handler_t *handler,
    ngx_http_webtorch_streams_t *streams)
{
    ngx_http_webtorch_stream_t  *st;

    st = ngx_calloc(sizeof(ngx_http_webtorch_stream_t), ngx_cycle->log);
    if (st == NULL) {
        return NULL;
    }

    st->since = ngx_current_msec;
    st->handler = handler;
    st->account.limit = handler->queue_size;
    st->conf = handler->data;
    st->streams = streams;
    st->owner.released = ngx_http_webtorch_stream_released;

    ngx_queue_init(&st->queue);

    /* not that of the connection, which the stream may outlive */

    ngx_webtorch_timer_init(&st->over, ngx_http_webtorch_stream_over_handler,
                            st, ngx_cycle->log);

    streams->n++;

    return st;
}


ngx_int_t
ngx_http_webtorch_stream_adopt(ngx_webtorch_handler_t *handler,
    ngx_webtorch_claim_t *claim)
{
    ngx_http_webtorch_stream_t   *st;
    ngx_http_webtorch_streams_t  *streams;

    streams = ngx_http_webtorch_streams_get(handler);
    if (streams == NULL) {
        return NGX_ERROR;
    }

    st = ngx_http_webtorch_stream_alloc(handler, streams);
    if (st == NULL) {
        return NGX_ERROR;
    }

    st->claim = *claim;
    st->opened = 1;
    st->fatal = 1;
    st->left = 1;

    ngx_post_event(&st->over.event, &ngx_posted_events);

    return NGX_OK;
}


static ngx_http_webtorch_streams_t *
ngx_http_webtorch_streams_get(ngx_webtorch_handler_t *handler)
{
    ngx_http_webtorch_streams_t      *streams;
    ngx_http_webtorch_stream_conf_t  *conf;
    ngx_http_webtorch_stream_rows_t  *rows;

    if (handler->streams) {
        return handler->streams;
    }

    rows = ngx_http_webtorch_stream_find_rows(&handler->name);

    if (rows == NULL) {
        rows = ngx_pcalloc(ngx_cycle->pool,
                           sizeof(ngx_http_webtorch_stream_rows_t));
        if (rows == NULL) {
            return NULL;
        }

        rows->next = 1;
    }

    conf = handler->data;

    if (ngx_http_webtorch_stream_add_rows(rows, 2 * conf->max_streams)
        != NGX_OK)
    {
        return NULL;
    }

    streams = ngx_pcalloc(ngx_cycle->pool, sizeof(ngx_http_webtorch_streams_t));
    if (streams == NULL) {
        return NULL;
    }

    streams->rows = rows;
    handler->streams = streams;

    return streams;
}


static ngx_http_webtorch_stream_rows_t *
ngx_http_webtorch_stream_find_rows(ngx_str_t *name)
{
    ngx_uint_t                    i;
    ngx_array_t                  *handlers;
    ngx_webtorch_handler_t      **elts;
    ngx_http_webtorch_streams_t  *streams;

    handlers = &ngx_webtorch_get_conf(ngx_cycle)->handlers;
    elts = handlers->elts;

    for (i = 0; i < handlers->nelts; i++) {
        streams = elts[i]->streams;

        if (streams && elts[i]->name.len == name->len
            && ngx_strncmp(elts[i]->name.data, name->data, name->len) == 0)
        {
            return streams->rows;
        }
    }

    return NULL;
}


/* a row that is freed always has a place among the free ones */

static ngx_int_t
ngx_http_webtorch_stream_add_rows(ngx_http_webtorch_stream_rows_t *rows,
    ngx_uint_t n)
{
    uint32_t  *p;

    p = ngx_alloc((rows->size + n) * sizeof(uint32_t), ngx_cycle->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (rows->free) {
        ngx_memcpy(p, rows->free, rows->nfree * sizeof(uint32_t));
        ngx_free(rows->free);
    }

    rows->free = p;
    rows->size += n;

    return NGX_OK;
}


/* the row that was freed last is the one that caches have */

static uint32_t
ngx_http_webtorch_stream_take_row(ngx_http_webtorch_stream_rows_t *rows)
{
    if (rows->nfree) {
        return rows->free[--rows->nfree];
    }

    return rows->next++;
}


void
ngx_http_webtorch_stream_opened(ngx_http_webtorch_stream_t *st)
{
    st->opened = 1;
    st->read = st->state_rows[0];
    st->write = st->state_rows[1];

    if (st->claim.record) {
        ngx_webtorch_records_opened(&st->claim);
    }
}


void
ngx_http_webtorch_stream_enlist(ngx_http_webtorch_stream_t *st)
{
    ngx_queue_insert_tail(&ngx_http_webtorch_stream_list, &st->queue);
}


void
ngx_http_webtorch_stream_each(void (*call)(ngx_http_webtorch_stream_t *st))
{
    ngx_queue_t                  left, *q;
    ngx_http_webtorch_stream_t  *st;

    ngx_queue_init(&left);
    ngx_queue_add(&left, &ngx_http_webtorch_stream_list);
    ngx_queue_init(&ngx_http_webtorch_stream_list);

    /* a stream that ends is removed from the one in which it is */

    while (!ngx_queue_empty(&left)) {
        q = ngx_queue_head(&left);
        st = ngx_queue_data(q, ngx_http_webtorch_stream_t, queue);

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&ngx_http_webtorch_stream_list, q);

        call(st);
    }
}


void
ngx_http_webtorch_stream_release(ngx_http_webtorch_stream_t *st)
{
    ngx_uint_t  i;

    if (st->in_turn) {
        st->in_turn = 0;
        ngx_queue_remove(&st->turn);
    }

    if (st->handler->metrics) {
        ngx_webtorch_metrics_add(&st->handler->metrics->open, (uint64_t) -1);
    }

    /* those of the list have a request */

    ngx_queue_remove(&st->queue);
    ngx_queue_init(&st->queue);

    if (st->pinging.event.timer_set) {
        ngx_del_timer(&st->pinging.event);
    }

    if (st->in_thread) {
        *st->in_thread = NULL;
        st->in_thread = NULL;
    }

    ngx_http_webtorch_stream_free_message(&st->message);

    for (i = 0; i < 2; i++) {
        ngx_http_webtorch_stream_free_message(&st->answers[i].bytes);
    }

    /*
     * The job stays if it is in a call: it is released when that is over.  A
     * call of open is waited for, as what it has opened is to be closed.
     */

    if (!st->opening) {
        (void) ngx_webtorch_batch_cancel(&st->waiter);
        ngx_http_webtorch_stream_leave_record(st);
    }

    ngx_webtorch_queue_release(&st->account, st->account.held);

    st->request = NULL;

    if (st->owner.njobs == 0 && !st->over.event.posted) {
        ngx_post_event(&st->over.event, &ngx_posted_events);
    }
}


/*
 * A client may come back to the record, also while a call has its last chunk,
 * which is not stored any more.  If it has ended for good, close is called, and
 * then only its answers are kept.
 */

static void
ngx_http_webtorch_stream_leave_record(ngx_http_webtorch_stream_t *st)
{
    if (st->claim.record == NULL || st->left) {
        return;
    }

    if (!st->opened && st->owner.njobs) {
        /* open still writes its states */
        return;
    }

    st->left = 1;

    if (!st->opened) {
        ngx_webtorch_records_free(&st->claim);
        st->claim.record = NULL;
        return;
    }

    if (st->request == NULL
        || st->finished || st->fatal || st->conf->orphaned
        || (!ngx_webtorch_record_lost(&st->claim)
            && ngx_webtorch_record_done(&st->claim)))
    {
        if (ngx_webtorch_records_close(&st->claim, !st->fatal) == NGX_OK) {
            return;
        }
    }

    ngx_webtorch_records_leave(&st->claim);

    st->claim.record = NULL;
    st->opened = 0;
}


static void
ngx_http_webtorch_stream_released(ngx_webtorch_job_owner_t *owner,
    webtorch_job_t *job)
{
    ngx_http_webtorch_stream_t *st = (ngx_http_webtorch_stream_t *) owner;

    st->owner.njobs--;

    if (st->over.event.timer_set) {
        ngx_del_timer(&st->over.event);
    }

    if (st->handler->schema.stream & WEBTORCH_STREAM_ITEMS) {
        ngx_http_webtorch_stream_item_released(st, job);

    } else if (job->reply && !st->opened && !st->left) {

        /* open has returned after its time was over */

        ngx_http_webtorch_stream_opened(st);
    }

    if (st->owner.njobs == 0 && st->request == NULL && !st->over.event.posted) {
        ngx_post_event(&st->over.event, &ngx_posted_events);
    }
}


/* a generator is to be closed if it may yield another item */

static void
ngx_http_webtorch_stream_item_released(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job)
{
    if (job->status) {
        st->opened = 0;

    } else if (job->reply && job->reply->more && !st->opened) {
        ngx_http_webtorch_stream_opened(st);
    }
}


static void
ngx_http_webtorch_stream_over_handler(ngx_event_t *ev)
{
    ngx_http_webtorch_stream_t  *st;

    st = ngx_webtorch_timer_data(ev);

    if (st->owner.njobs) {
        /* close has not returned in time: the worker may exit */
        return;
    }

    /* the client has gone while open was called */

    ngx_http_webtorch_stream_leave_record(st);

    if (st->opened
        && (st->handler->schema.stream & WEBTORCH_STREAM_CLOSE)
        && ngx_http_webtorch_stream_close(st) == NGX_OK)
    {
        st->opened = 0;
        return;
    }

    ngx_http_webtorch_stream_free(st);
}


/* a job without a waiter: the rows are free when it is over */

static ngx_int_t
ngx_http_webtorch_stream_close(ngx_http_webtorch_stream_t *st)
{
    webtorch_request_t     *request;
    ngx_webtorch_runner_t  *runner;

    runner = st->handler->life ? st->handler->life->runner
                               : st->handler->runner;

    if (runner == NULL) {
        return NGX_ERROR;
    }

    request = ngx_calloc(sizeof(webtorch_request_t), ngx_cycle->log);
    if (request == NULL) {
        return NGX_ERROR;
    }

    request->size = sizeof(webtorch_request_t);
    request->closing = 1;
    request->state_row = st->read;
    request->old_state_row = (st->read == st->state_rows[0])
                             ? st->state_rows[1] : st->state_rows[0];

    if (st->claim.record) {
        request->states = (char *) ngx_webtorch_record_row(&st->claim);
        request->states_size = st->claim.form->row;
    }

    if (ngx_http_webtorch_stream_add_request(st, runner, request, NULL)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* a worker that exits waits for it */

    ngx_add_timer(&st->over.event, st->handler->timeout);

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_stream_add_request(ngx_http_webtorch_stream_t *st,
    ngx_webtorch_runner_t *runner, webtorch_request_t *request,
    void (*done)(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job))
{
    webtorch_job_t         *job;
    ngx_webtorch_sink_t     sink;
    ngx_webtorch_layout_t   layout;

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));
    layout.rows = 1;

    if (ngx_webtorch_runner_reserve(runner, &layout, &sink) != NGX_OK) {
        ngx_free(request);
        return NGX_ERROR;
    }

    if (done) {
        st->waiter.done = done;
        st->waiter.data = st;

        job = ngx_webtorch_runner_add(runner, &layout, &st->waiter);
        ngx_webtorch_batch_set_request(&st->waiter, request);

    } else {
        job = ngx_webtorch_runner_add(runner, &layout, NULL);
        job->request = request;
    }

    ngx_webtorch_job_own(job, &st->owner);

    return NGX_OK;
}


static void
ngx_http_webtorch_stream_free(ngx_http_webtorch_stream_t *st)
{
    ngx_uint_t                        i;
    ngx_http_webtorch_stream_rows_t  *rows;

    rows = st->streams->rows;

    for (i = 0; i < 2; i++) {
        if (st->state_rows[i]) {
            rows->free[rows->nfree++] = st->state_rows[i];
        }
    }

    if (st->claim.record) {
        if (st->fatal) {
            ngx_webtorch_records_free(&st->claim);

        } else {
            ngx_webtorch_records_leave(&st->claim);
        }
    }

    st->streams->n--;

    ngx_free(st);
}
