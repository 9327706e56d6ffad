
/*
 * The memory of models, as Python uses it; the calls that it makes are in
 * ngx_webtorch_api.h.
 */


#ifndef _NGX_WEBTORCH_BLOCK_H_INCLUDED_
#define _NGX_WEBTORCH_BLOCK_H_INCLUDED_


#include "ngx_webtorch_zone.h"


/* called after ngx_webtorch_zone_use() */
void ngx_webtorch_block_init(void);

/* whether blocks were replaced since the last call */
ngx_uint_t ngx_webtorch_block_replaced(void);


#endif /* _NGX_WEBTORCH_BLOCK_H_INCLUDED_ */
