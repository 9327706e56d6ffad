
/*
 * Memory of bodies, rows and answers, which any thread may allocate and free.
 * Large buffers are returned to the system when they are freed: what malloc()
 * gives a thread, it keeps for this thread, and there are many.
 */


#ifndef _NGX_WEBTORCH_BUFFER_H_INCLUDED_
#define _NGX_WEBTORCH_BUFFER_H_INCLUDED_


#include <stddef.h>

#include "ngx_webtorch_api.h"


/* NULL: no memory */
void *ngx_webtorch_buffer_alloc(size_t size);

/* changes the size of a buffer, or allocates one if p is NULL */
void *ngx_webtorch_buffer_realloc(void *p, size_t size);


#endif /* _NGX_WEBTORCH_BUFFER_H_INCLUDED_ */
