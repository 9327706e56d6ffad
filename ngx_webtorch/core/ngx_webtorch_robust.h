
/*
 * Robust mutexes in shared memory: when their owner exits, in whatever way, the
 * kernel gives them to the next process that locks them.  So a process that
 * holds one for its life proves that it is alive, which its pid does not: pids
 * are used again.
 */


#ifndef _NGX_WEBTORCH_ROBUST_H_INCLUDED_
#define _NGX_WEBTORCH_ROBUST_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include <pthread.h>


/* the owner may lock it again */
void ngx_webtorch_robust_init(pthread_mutex_t *mutex);

/*
 * NGX_DECLINED: it is locked, and its last owner exited with it, so what it
 * protects may need repair; NGX_BUSY: it is not locked
 */
ngx_int_t ngx_webtorch_robust_lock(pthread_mutex_t *mutex);
ngx_int_t ngx_webtorch_robust_trylock(pthread_mutex_t *mutex);

/* whether another thread or process holds it */
ngx_uint_t ngx_webtorch_robust_held(pthread_mutex_t *mutex);


#endif /* _NGX_WEBTORCH_ROBUST_H_INCLUDED_ */
