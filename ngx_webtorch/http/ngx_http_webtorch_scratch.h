
/*
 * Memory that threads of the pool need while they inflate and decode bodies.
 */


#ifndef _NGX_HTTP_WEBTORCH_SCRATCH_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_SCRATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * The memory of a parser is many times that of its text.  Threads wait for each
 * other, so that all parsers together need no more than a bound, or what a
 * single one needs.
 */

/* waits until so many bytes may be used; not in the event loop */
void ngx_http_webtorch_scratch_get(size_t size);
void ngx_http_webtorch_scratch_put(size_t size);

/*
 * Memory that is returned to the system when it is freed.  What malloc() gives
 * a thread, it keeps for this thread, and there are many.
 */

/* changes the size of a block, or makes one if p is NULL; NULL: no memory */
void *ngx_http_webtorch_scratch_realloc(void *p, size_t old_size, size_t size);
void ngx_http_webtorch_scratch_free(void *p, size_t size);

/* whether a block of this size is from mmap(), not from malloc() */
#define ngx_http_webtorch_scratch_is_mapped(size)  ((size) >= 128 * 1024)


#endif /* _NGX_HTTP_WEBTORCH_SCRATCH_H_INCLUDED_ */
