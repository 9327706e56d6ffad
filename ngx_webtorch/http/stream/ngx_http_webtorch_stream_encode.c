
#include "ngx_http_webtorch_stream_encode.h"
#include "ngx_http_webtorch_stream_output.h"
#include "ngx_http_webtorch_task.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_defer.h"
#include "ngx_webtorch_queue.h"


#if (NGX_THREADS)

/*
 * A task that outlives the request, which may end while the thread works.  It
 * has all that the thread reads: the batch is kept, and the rest is copied.
 */

typedef struct {
    ngx_http_webtorch_result_t    result;
    ngx_webtorch_batch_t         *batch;
    ngx_webtorch_message_t        message;     /* room for the answers that wait
                                                  now, the frame, its payload */
    size_t                        front;       /* of the frame */
    size_t                        start;       /* of the payload */
    size_t                        room;        /* bytes behind the payload */
    size_t                        held;        /* bytes that are counted */
    ngx_http_webtorch_stream_t   *st;          /* NULL: it has ended */
    ngx_http_webtorch_task_t      task;
} ngx_http_webtorch_encode_task_t;


static ngx_int_t ngx_http_webtorch_stream_encode_init(
    ngx_http_webtorch_stream_t *st, ngx_http_webtorch_encode_task_t *t);
static void ngx_http_webtorch_stream_encode_thread(void *data, ngx_log_t *log);
static void ngx_http_webtorch_stream_encode_done(void *data);
static void ngx_http_webtorch_stream_encode_free(
    ngx_http_webtorch_encode_task_t *t);


ngx_int_t
ngx_http_webtorch_stream_encode_post(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_result_t *result)
{
    ngx_http_webtorch_loc_conf_t     *wlcf;
    ngx_http_webtorch_stream_row_t   *row;
    ngx_http_webtorch_encode_task_t  *t;

    row = &result->row;

    if (row->payload == NGX_HTTP_WEBTORCH_PAYLOAD_JSON) {

        if (ngx_http_webtorch_stream_row_cost(row) < NGX_WEBTORCH_LARGE_TEXT) {
            return NGX_DECLINED;
        }

    } else if (row->bound < NGX_WEBTORCH_LARGE_SIZE) {
        return NGX_DECLINED;
    }

    if (ngx_webtorch_batch_keep(st->waiter.batch) != NGX_OK) {
        return NGX_DECLINED;
    }

    t = ngx_calloc(sizeof(ngx_http_webtorch_encode_task_t), ngx_cycle->log);
    if (t == NULL) {
        ngx_webtorch_batch_release(st->waiter.batch);
        return NGX_DECLINED;
    }

    t->result = *result;
    t->batch = st->waiter.batch;
    t->st = st;

    if (ngx_http_webtorch_stream_encode_init(st, t) != NGX_OK) {
        ngx_webtorch_batch_release(t->batch);
        ngx_free(t);
        return NGX_DECLINED;
    }

    wlcf = ngx_http_get_module_loc_conf(st->request, ngx_http_webtorch_module);

    if (ngx_http_webtorch_task_post(&t->task, wlcf->thread_pool) != NGX_OK) {
        ngx_webtorch_queue_sub(t->held);
        ngx_http_webtorch_stream_encode_free(t);
        return NGX_DECLINED;
    }

    st->in_thread = &t->st;

    return NGX_AGAIN;
}


/*
 * Memory is only mapped here: the thread is the first that writes to most of
 * it, and returns what is not needed.  Until then only the row is counted.
 */

static ngx_int_t
ngx_http_webtorch_stream_encode_init(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_encode_task_t *t)
{
    u_char                          *p;
    size_t                           bound;
    uint32_t                         i;
    ngx_http_webtorch_stream_row_t  *row;

    row = &t->result.row;
    bound = row->bound;

    /* answers are sent meanwhile, but none is added */

    t->front = st->answers[st->filling].bytes.len;
    t->room = ngx_http_webtorch_stream_frame_size(st, bound) - bound;
    t->message.size = t->front + bound + t->room;

    t->message.data = ngx_webtorch_buffer_alloc(t->message.size);
    if (t->message.data == NULL) {
        return NGX_ERROR;
    }

    p = (u_char *) t->message.data;

    t->start = (size_t)
        (ngx_http_webtorch_stream_begin_frame(st, p + t->front, 0) - p);

    t->held = row->layout.text;

    for (i = 0; i < row->n; i++) {
        t->held += (size_t) row->specs[i].row_size;
    }

    ngx_webtorch_queue_add(t->held);

    t->task.data = t;
    t->task.run = ngx_http_webtorch_stream_encode_thread;
    t->task.done = ngx_http_webtorch_stream_encode_done;
    t->task.name = "an answer";

    return NGX_OK;
}


static void
ngx_http_webtorch_stream_encode_thread(void *data, ngx_log_t *log)
{
    ngx_http_webtorch_encode_task_t *t = data;

    char    *p;
    u_char  *start;
    size_t   size;

    start = (u_char *) t->message.data + t->start;

    t->message.len = t->start + (size_t)
        (ngx_http_webtorch_stream_row_encode(&t->result.row, start) - start);

    size = t->message.len + t->room;

    p = ngx_webtorch_buffer_realloc(t->message.data, size);

    if (p) {
        t->message.data = p;
        t->message.size = size;
    }

    ngx_webtorch_queue_add(t->message.size - t->held);
    t->held = t->message.size;
}


static void
ngx_http_webtorch_stream_encode_done(void *data)
{
    ngx_http_webtorch_encode_task_t *t = data;

    ngx_http_webtorch_stream_t  *st;

    st = t->st;

    /* the stream counts its answers */

    ngx_webtorch_queue_sub(t->held);

    if (st) {
        st->in_thread = NULL;

        ngx_http_webtorch_stream_put_answer(st, &t->result.row, &t->message,
                                            t->front, t->start);
        st->encoded(st, &t->result);
    }

    ngx_http_webtorch_stream_encode_free(t);
}


static void
ngx_http_webtorch_stream_encode_free(ngx_http_webtorch_encode_task_t *t)
{
    ngx_webtorch_defer_free(t->message.data, t->message.size);
    ngx_webtorch_batch_release(t->batch);
    ngx_free(t);
}

#else

ngx_int_t
ngx_http_webtorch_stream_encode_post(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_result_t *result)
{
    return NGX_DECLINED;
}

#endif
