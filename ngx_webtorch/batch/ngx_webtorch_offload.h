
/*
 * A worker offloads its batches of a function to the one that runs it, the
 * owner, and waits for the results in the threads of the function, which touch
 * neither Python nor the GIL.
 */


#ifndef _NGX_WEBTORCH_OFFLOAD_H_INCLUDED_
#define _NGX_WEBTORCH_OFFLOAD_H_INCLUDED_


#include "ngx_webtorch_batch.h"


/* in place of a call; n: number of the runner's thread */
void ngx_webtorch_offload_run(ngx_webtorch_batch_t *batch, ngx_uint_t n);

/*
 * Whether a batch with these rows and bytes of strings beside those that it has
 * takes more than half of a slot, with the rows that come back.  A request that
 * does so alone is a batch by itself.
 */
ngx_uint_t ngx_webtorch_offload_exceeds(ngx_webtorch_batch_t *batch,
    uint64_t rows, uint64_t text);


#endif /* _NGX_WEBTORCH_OFFLOAD_H_INCLUDED_ */
