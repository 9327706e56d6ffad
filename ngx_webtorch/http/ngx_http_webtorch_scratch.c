
#include "ngx_http_webtorch_scratch.h"

#include <pthread.h>
#include <sys/mman.h>


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


void *
ngx_http_webtorch_scratch_realloc(void *p, size_t old_size, size_t size)
{
    void  *new;

    if (!ngx_http_webtorch_scratch_is_mapped(size)
        && !ngx_http_webtorch_scratch_is_mapped(old_size))
    {
        return realloc(p, size);
    }

    if (ngx_http_webtorch_scratch_is_mapped(size)
        && ngx_http_webtorch_scratch_is_mapped(old_size))
    {
        new = mremap(p, old_size, size, MREMAP_MAYMOVE);

        return (new == MAP_FAILED) ? NULL : new;
    }

    if (ngx_http_webtorch_scratch_is_mapped(size)) {
        new = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS,
                   -1, 0);

        if (new == MAP_FAILED) {
            return NULL;
        }

    } else {
        new = malloc(size);

        if (new == NULL) {
            return NULL;
        }
    }

    if (p) {
        ngx_memcpy(new, p, ngx_min(old_size, size));
        ngx_http_webtorch_scratch_free(p, old_size);
    }

    return new;
}


void
ngx_http_webtorch_scratch_free(void *p, size_t size)
{
    if (ngx_http_webtorch_scratch_is_mapped(size)) {
        (void) munmap(p, size);

    } else {
        free(p);
    }
}
