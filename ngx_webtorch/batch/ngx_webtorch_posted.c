
#include "ngx_webtorch_posted.h"
#include "ngx_webtorch_async.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_done.h"
#include "ngx_webtorch_tensor.h"


static void ngx_webtorch_posted_add(ngx_webtorch_posted_t *first,
    ngx_webtorch_posted_t *last);
static ngx_webtorch_posted_t *ngx_webtorch_posted_copy(
    const webtorch_rows_t *rows);


ngx_webtorch_posted_lists_t  ngx_webtorch_posted;

__thread ngx_webtorch_runner_t  *ngx_webtorch_posted_runner;


/*
 * The event loop cannot wait for a batch, nor can a thread that the event loop
 * may be waiting for, as a function of requests that it calls may.  Such a
 * function runs in threads from then on.  A call of a function of tensors is a
 * batch already.
 */

int
ngx_webtorch_rows_direct(void)
{
    ngx_webtorch_runner_t  *runner;

    runner = ngx_webtorch_posted_runner;

    if (runner && runner->handler->schema.kind != WEBTORCH_HANDLER) {
        return 1;
    }

    if (runner == NULL) {
        runner = __atomic_load_n(&ngx_webtorch_posted.in_loop,
                                 __ATOMIC_RELAXED);
    }

    if (runner) {
        __atomic_store_n(&runner->waits, 1, __ATOMIC_RELAXED);
    }

    return pthread_equal(pthread_self(), ngx_webtorch_posted.loop)
           || (runner && runner != ngx_webtorch_posted_runner);
}


int
ngx_webtorch_rows_make(uint32_t number, const char *name,
    const webtorch_schema_t *schema)
{
    ngx_webtorch_posted_t   *posted;
    ngx_webtorch_handler_t  *handler;

    if (ngx_webtorch_schema_valid(schema) != 0) {
        return -1;
    }

    posted = calloc(1, sizeof(ngx_webtorch_posted_t)
                       + sizeof(ngx_webtorch_handler_t) + ngx_strlen(name) + 1);
    if (posted == NULL) {
        return -1;
    }

    handler = (ngx_webtorch_handler_t *) &posted[1];
    posted->made = handler;

    ngx_webtorch_handler_init(handler);

    handler->name.len = ngx_strlen(name);
    handler->name.data = (u_char *) &handler[1];
    ngx_memcpy(handler->name.data, name, handler->name.len + 1);

    handler->index = number;
    handler->schema = *schema;
    handler->threads = ngx_webtorch_handler_threads(handler);

    ngx_webtorch_handler_adapt(handler);

    ngx_webtorch_posted_add(posted, posted);

    return 0;
}


webtorch_rows_t *
ngx_webtorch_rows_post(const webtorch_rows_t *rows)
{
    ngx_webtorch_posted_t  *posted;

    posted = ngx_webtorch_posted_copy(rows);
    if (posted == NULL) {
        return NULL;
    }

    if (rows->gather) {
        posted->next = ngx_webtorch_posted.gathered;
        ngx_webtorch_posted.gathered = posted;

    } else {
        (void) sem_init(&posted->done, 0, 0);
        ngx_webtorch_posted_add(posted, posted);
    }

    return &posted->api;
}


void
ngx_webtorch_rows_post_gathered(void)
{
    ngx_webtorch_posted_t  *first, *last;

    first = ngx_webtorch_posted.gathered;

    if (first == NULL) {
        return;
    }

    ngx_webtorch_posted.gathered = NULL;

    for (last = first; last->next; last = last->next) { /* void */ }

    ngx_webtorch_posted_add(first, last);
}


/* adds a list, the youngest first */

static void
ngx_webtorch_posted_add(ngx_webtorch_posted_t *first,
    ngx_webtorch_posted_t *last)
{
    ngx_uint_t              closed, notify;
    ngx_webtorch_posted_t  *next;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    closed = ngx_webtorch_posted.closed;
    notify = (ngx_webtorch_posted.added == NULL);

    if (!closed) {
        last->next = ngx_webtorch_posted.added;
        ngx_webtorch_posted.added = first;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (closed) {
        last->next = NULL;

        for ( /* void */ ; first; first = next) {
            next = first->next;
            ngx_webtorch_posted_end(first, WEBTORCH_ROWS_EXIT);
        }

    } else if (notify) {
        ngx_webtorch_done_notify();
    }
}


/* large inputs are buffers, of which a batch is made without another copy */

static ngx_webtorch_posted_t *
ngx_webtorch_posted_copy(const webtorch_rows_t *rows)
{
    size_t                  size;
    u_char                 *p;
    uint32_t                i;
    ngx_webtorch_posted_t  *posted;

    size = rows->text_len;

    for (i = 0; i < rows->ninputs; i++) {
        size += ngx_align(rows->input_size[i], 16);
    }

    posted = malloc(sizeof(ngx_webtorch_posted_t) + 16
                    + (size < NGX_WEBTORCH_LARGE_SIZE ? size : 0));
    if (posted == NULL) {
        return NULL;
    }

    ngx_memzero(posted, sizeof(ngx_webtorch_posted_t));

    posted->api = *rows;
    ngx_memzero(posted->api.inputs, sizeof(posted->api.inputs));
    posted->api.text = NULL;

    posted->adopted = (size >= NGX_WEBTORCH_LARGE_SIZE);

    p = ngx_align_ptr((u_char *) &posted[1], 16);

    for (i = 0; i < rows->ninputs; i++) {
        posted->api.inputs[i] = posted->adopted
                                ? ngx_webtorch_buffer_alloc(rows->input_size[i])
                                : (void *) p;

        if (posted->api.inputs[i] == NULL) {
            ngx_webtorch_rows_free(&posted->api);
            return NULL;
        }

        ngx_memcpy(posted->api.inputs[i], rows->inputs[i],
                   rows->input_size[i]);

        p += ngx_align(rows->input_size[i], 16);
    }

    if (rows->text_len) {
        posted->api.text = posted->adopted
                           ? ngx_webtorch_buffer_alloc(rows->text_len)
                           : (void *) p;

        if (posted->api.text == NULL) {
            ngx_webtorch_rows_free(&posted->api);
            return NULL;
        }

        ngx_memcpy(posted->api.text, rows->text, rows->text_len);
    }

    return posted;
}


void
ngx_webtorch_rows_wait(webtorch_rows_t *rows)
{
    ngx_webtorch_posted_t  *posted;

    posted = ngx_queue_data(rows, ngx_webtorch_posted_t, api);

    while (sem_wait(&posted->done) == -1 && ngx_errno == NGX_EINTR) {
        /* void */
    }
}


void
ngx_webtorch_rows_cancel(webtorch_rows_t *rows)
{
    ngx_uint_t              notify;
    ngx_webtorch_posted_t  *posted;

    posted = ngx_queue_data(rows, ngx_webtorch_posted_t, api);
    notify = 0;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    if (!posted->ended && !posted->cancelled) {
        notify = ngx_queue_empty(&ngx_webtorch_posted.cancelled);
        posted->cancelled = 1;
        ngx_queue_insert_tail(&ngx_webtorch_posted.cancelled, &posted->cancel);
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (notify) {
        ngx_webtorch_done_notify();
    }
}


uint32_t
ngx_webtorch_rows_finished(webtorch_rows_t **rows, uint32_t n)
{
    uint32_t                i;
    ngx_webtorch_posted_t  *posted;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    for (i = 0; i < n && (posted = ngx_webtorch_posted.finished) != NULL; i++) {
        ngx_webtorch_posted.finished = posted->next;
        rows[i] = &posted->api;
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    return i;
}


void
ngx_webtorch_rows_free(webtorch_rows_t *rows)
{
    uint32_t                i;
    ngx_webtorch_posted_t  *posted;

    posted = ngx_queue_data(rows, ngx_webtorch_posted_t, api);

    if (posted->adopted) {
        for (i = 0; i < rows->ninputs; i++) {
            ngx_webtorch_buffer_free(rows->inputs[i]);
        }

        ngx_webtorch_buffer_free(rows->text);
    }

    ngx_webtorch_buffer_free(rows->result);
    free(rows->failure);
    free(posted);
}


void
ngx_webtorch_posted_end(ngx_webtorch_posted_t *posted, int32_t status)
{
    uint32_t  gather;

    if (posted->made) {
        free(posted);
        return;
    }

    posted->api.status = status;
    gather = posted->api.gather;

    (void) pthread_mutex_lock(&ngx_webtorch_done.mutex);

    posted->ended = 1;

    if (posted->cancelled) {
        ngx_queue_remove(&posted->cancel);
    }

    if (gather) {
        posted->next = ngx_webtorch_posted.finished;
        ngx_webtorch_posted.finished = posted;

        ngx_webtorch_async_notify();
    }

    (void) pthread_mutex_unlock(&ngx_webtorch_done.mutex);

    if (!gather) {
        (void) sem_post(&posted->done);
    }
}
