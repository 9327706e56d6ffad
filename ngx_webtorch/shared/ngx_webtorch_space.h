
/*
 * Which part of the zone each block has.  Functions that change a table of
 * blocks are called with the zone's lock.
 */


#ifndef _NGX_WEBTORCH_SPACE_H_INCLUDED_
#define _NGX_WEBTORCH_SPACE_H_INCLUDED_


#include "ngx_webtorch_zone.h"


/* torch aligns its own memory to this, too */
#define NGX_WEBTORCH_SPACE_ALIGN  64


/*
 * Allocates a block in a table, NGX_WEBTORCH_BLOCK_FILLING and else a copy of
 * like.  First frees blocks that no worker uses or will use.  NULL: there is no
 * space.
 */
ngx_webtorch_block_t *ngx_webtorch_space_alloc(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *like);

/* bytes of the layout, the data and the copy of the data */
size_t ngx_webtorch_space_size(ngx_webtorch_block_t *block);

/* whether this process has mapped the block: a later zone may be larger */
ngx_uint_t ngx_webtorch_space_mapped(ngx_webtorch_block_t *block);

char *ngx_webtorch_space_layout(ngx_webtorch_block_t *block);
char *ngx_webtorch_space_data(ngx_webtorch_block_t *block);

/* bytes between the data and its copy */
size_t ngx_webtorch_space_copy_offset(ngx_webtorch_block_t *block);


#endif /* _NGX_WEBTORCH_SPACE_H_INCLUDED_ */
