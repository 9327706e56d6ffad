
/*
 * Memory is released in a thread of nginx's pool "default": it takes several
 * milliseconds to return 64 MB to the system.
 */


#ifndef _NGX_WEBTORCH_DEFER_H_INCLUDED_
#define _NGX_WEBTORCH_DEFER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * bytes that the event loop copies, moves or releases within a millisecond,
 * with page faults
 */
#define NGX_WEBTORCH_LARGE_SIZE  (1024 * 1024)


/*
 * Calls a handler in a thread, after all that this turn of the event loop does.
 * It releases bytes, of which so many are counted until then, see
 * ngx_webtorch_queue_leave().  Called in the event loop.
 */
void ngx_webtorch_defer(void (*handler)(void *data), void *data, size_t size);

/* frees a buffer of so many bytes, a large one in a thread */
void ngx_webtorch_defer_free(void *p, size_t size);


#endif /* _NGX_WEBTORCH_DEFER_H_INCLUDED_ */
