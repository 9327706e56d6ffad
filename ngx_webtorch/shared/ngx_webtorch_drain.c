
#include "ngx_webtorch_drain.h"

#include <sys/mman.h>


/* kept over reloads, the module is linked with -z nodelete */

static ngx_atomic_t  *ngx_webtorch_drain;


void
ngx_webtorch_drain_init(ngx_log_t *log)
{
    void  *p;

    if (ngx_webtorch_drain) {
        return;
    }

    p = mmap(NULL, sizeof(ngx_atomic_t), PROT_READ|PROT_WRITE,
             MAP_SHARED|MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_errno, "mmap() failed");
        return;
    }

    ngx_webtorch_drain = p;
}


int
ngx_webtorch_drain_set(int drain)
{
    if (ngx_webtorch_drain == NULL) {
        return 0;
    }

    return (int) __atomic_exchange_n(ngx_webtorch_drain,
                                     (ngx_atomic_uint_t) (drain != 0),
                                     __ATOMIC_RELAXED);
}


int
ngx_webtorch_drain_get(void)
{
    return ngx_webtorch_drain
           && __atomic_load_n(ngx_webtorch_drain, __ATOMIC_RELAXED);
}
