
#include "ngx_webtorch_spans.h"

#include <pthread.h>


/* spans of this process; protected by the mutex */

typedef struct {
    pthread_mutex_t        mutex;
    pthread_cond_t         cond;
    ngx_uint_t             stop;
    ngx_uint_t             first;
    ngx_uint_t             n;
    webtorch_trace_span_t  spans[NGX_WEBTORCH_MAX_SPANS];
} ngx_webtorch_spans_t;


static ngx_webtorch_spans_t  ngx_webtorch_spans = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .cond = PTHREAD_COND_INITIALIZER
};

/* a thread takes them */
static ngx_atomic_t          ngx_webtorch_spans_taken;


void
ngx_webtorch_spans_add(const webtorch_trace_span_t *span)
{
    ngx_uint_t             i;
    ngx_webtorch_spans_t  *spans;

    if (!ngx_webtorch_spans_taken) {
        return;
    }

    spans = &ngx_webtorch_spans;

    (void) pthread_mutex_lock(&spans->mutex);

    if (spans->n < NGX_WEBTORCH_MAX_SPANS) {
        i = (spans->first + spans->n++) % NGX_WEBTORCH_MAX_SPANS;
        spans->spans[i] = *span;
    }

    (void) pthread_mutex_unlock(&spans->mutex);

    (void) pthread_cond_signal(&spans->cond);
}


/* called without the GIL, which cffi releases */

uint32_t
ngx_webtorch_spans_take(webtorch_trace_span_t *to, uint32_t n)
{
    uint32_t               i;
    ngx_webtorch_spans_t  *spans;

    spans = &ngx_webtorch_spans;

    (void) pthread_mutex_lock(&spans->mutex);

    ngx_webtorch_spans_taken = 1;

    while (n && spans->n == 0 && !spans->stop) {
        (void) pthread_cond_wait(&spans->cond, &spans->mutex);
    }

    for (i = 0; i < n && spans->n; i++) {
        to[i] = spans->spans[spans->first];
        spans->first = (spans->first + 1) % NGX_WEBTORCH_MAX_SPANS;
        spans->n--;
    }

    (void) pthread_mutex_unlock(&spans->mutex);

    return i;
}


void
ngx_webtorch_spans_stop(void)
{
    (void) pthread_mutex_lock(&ngx_webtorch_spans.mutex);
    ngx_webtorch_spans.stop = 1;
    (void) pthread_mutex_unlock(&ngx_webtorch_spans.mutex);

    (void) pthread_cond_broadcast(&ngx_webtorch_spans.cond);
}
