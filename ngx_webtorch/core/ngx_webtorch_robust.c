
#include "ngx_webtorch_robust.h"


static ngx_int_t ngx_webtorch_robust_result(pthread_mutex_t *mutex, int rc);


void
ngx_webtorch_robust_init(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t  attr;

    (void) pthread_mutexattr_init(&attr);
    (void) pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    (void) pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    (void) pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    (void) pthread_mutex_init(mutex, &attr);
    (void) pthread_mutexattr_destroy(&attr);
}


ngx_int_t
ngx_webtorch_robust_lock(pthread_mutex_t *mutex)
{
    return ngx_webtorch_robust_result(mutex, pthread_mutex_lock(mutex));
}


ngx_int_t
ngx_webtorch_robust_trylock(pthread_mutex_t *mutex)
{
    return ngx_webtorch_robust_result(mutex, pthread_mutex_trylock(mutex));
}


ngx_uint_t
ngx_webtorch_robust_held(pthread_mutex_t *mutex)
{
    if (ngx_webtorch_robust_trylock(mutex) == NGX_BUSY) {
        return 1;
    }

    (void) pthread_mutex_unlock(mutex);

    return 0;
}


static ngx_int_t
ngx_webtorch_robust_result(pthread_mutex_t *mutex, int rc)
{
    switch (rc) {

    case 0:
        return NGX_OK;

    case EOWNERDEAD:
        (void) pthread_mutex_consistent(mutex);
        return NGX_DECLINED;

    default:
        return NGX_BUSY;
    }
}
