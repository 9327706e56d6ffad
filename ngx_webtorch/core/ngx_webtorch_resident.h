
/*
 * The memory of this process.
 */


#ifndef _NGX_WEBTORCH_RESIDENT_H_INCLUDED_
#define _NGX_WEBTORCH_RESIDENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Lets the C library keep freed memory of as many bytes as tensors of a batch
 * mostly have: a call would otherwise get its pages from the system each time.
 */
void ngx_webtorch_resident_keep(void);

/* bytes of resident memory, shared memory included; 0: unknown */
size_t ngx_webtorch_resident(ngx_log_t *log);


#endif /* _NGX_WEBTORCH_RESIDENT_H_INCLUDED_ */
