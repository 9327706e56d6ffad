
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

/*
 * Allocates the copy of a block in the same table, if it has none.  NGX_ERROR:
 * there is no space.
 */
ngx_int_t ngx_webtorch_space_alloc_copy(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *block);

/* bytes for blocks, 0: workers share no models, and bytes in use */
void ngx_webtorch_space_get_use(uint64_t *size, uint64_t *used);

/* frees a block and its copy */
void ngx_webtorch_space_free(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *block);

/* bytes of the layout and the data */
size_t ngx_webtorch_space_size(ngx_webtorch_block_t *block);

/* whether this process has mapped the block: a later zone may be larger */
ngx_uint_t ngx_webtorch_space_mapped(ngx_webtorch_block_t *block);

char *ngx_webtorch_space_layout(ngx_webtorch_block_t *block);
char *ngx_webtorch_space_data(ngx_webtorch_block_t *block);

/* offset of the data in the zone */
uint64_t ngx_webtorch_space_data_offset(ngx_webtorch_block_t *block);


#endif /* _NGX_WEBTORCH_SPACE_H_INCLUDED_ */
