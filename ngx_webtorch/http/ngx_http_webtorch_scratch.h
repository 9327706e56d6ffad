
/*
 * The memory of parsers in the thread pool, which is many times that of their
 * texts.  Threads wait for each other, so that all of them together need no
 * more than a bound, or what a single one needs.
 */


#ifndef _NGX_HTTP_WEBTORCH_SCRATCH_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_SCRATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* bytes that parsers of text allocate at most for each byte of it */
#define NGX_HTTP_WEBTORCH_SCRATCH_FACTOR  14


/* waits until so many bytes may be used; not in the event loop */
void ngx_http_webtorch_scratch_get(size_t size);
void ngx_http_webtorch_scratch_put(size_t size);


#endif /* _NGX_HTTP_WEBTORCH_SCRATCH_H_INCLUDED_ */
