
#include "ngx_http_webtorch_scratch.h"

#include <pthread.h>


/* bytes */
#define NGX_HTTP_WEBTORCH_SCRATCH_MAX  (64 * 1024 * 1024)


/* the mutex protects all fields */

typedef struct {
    size_t             used;              /* bytes */
    uint64_t           arrived;           /* threads so far */
    uint64_t           served;
    pthread_cond_t     cond;
    pthread_mutex_t    mutex;
} ngx_http_webtorch_scratch_t;


static ngx_http_webtorch_scratch_t  ngx_http_webtorch_scratch = {
    .cond = PTHREAD_COND_INITIALIZER,
    .mutex = PTHREAD_MUTEX_INITIALIZER
};


/* in the order of arrival: a large body would wait forever otherwise */

void
ngx_http_webtorch_scratch_get(size_t size)
{
    uint64_t                      ticket;
    ngx_http_webtorch_scratch_t  *scratch;

    scratch = &ngx_http_webtorch_scratch;

    (void) pthread_mutex_lock(&scratch->mutex);

    ticket = scratch->arrived++;

    while (ticket != scratch->served
           || (scratch->used
               && scratch->used + size > NGX_HTTP_WEBTORCH_SCRATCH_MAX))
    {
        (void) pthread_cond_wait(&scratch->cond, &scratch->mutex);
    }

    scratch->served++;
    scratch->used += size;

    (void) pthread_cond_broadcast(&scratch->cond);
    (void) pthread_mutex_unlock(&scratch->mutex);
}


void
ngx_http_webtorch_scratch_put(size_t size)
{
    ngx_http_webtorch_scratch_t  *scratch;

    scratch = &ngx_http_webtorch_scratch;

    (void) pthread_mutex_lock(&scratch->mutex);

    scratch->used -= size;

    (void) pthread_cond_broadcast(&scratch->cond);
    (void) pthread_mutex_unlock(&scratch->mutex);
}
