
#include "ngx_webtorch_space.h"
#include "ngx_webtorch_worker.h"


static void ngx_webtorch_space_free_unused(ngx_webtorch_block_t *blocks);
static ngx_uint_t ngx_webtorch_space_used(ngx_webtorch_block_t *block);
static uint64_t ngx_webtorch_space_find(ngx_webtorch_block_t *blocks,
    size_t size);


/* the owner may crash at any line: no lookup finds a block being filled */

ngx_webtorch_block_t *
ngx_webtorch_space_alloc(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *like)
{
    uint64_t               offset;
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    ngx_webtorch_space_free_unused(blocks);

    offset = ngx_webtorch_space_find(blocks, ngx_webtorch_space_size(like));

    if (offset == 0) {
        return NULL;
    }

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &blocks[i];

        if (block->state == NGX_WEBTORCH_BLOCK_FREE) {
            *block = *like;
            block->offset = offset;
            block->state = NGX_WEBTORCH_BLOCK_FILLING;
            return block;
        }
    }

    return NULL;
}


static void
ngx_webtorch_space_free_unused(ngx_webtorch_block_t *blocks)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {

        if (blocks[i].state == NGX_WEBTORCH_BLOCK_READY
            && !ngx_webtorch_space_used(&blocks[i]))
        {
            blocks[i].state = NGX_WEBTORCH_BLOCK_FREE;
        }
    }
}


/* whether a worker uses the block, or will when it is started again */

static ngx_uint_t
ngx_webtorch_space_used(ngx_webtorch_block_t *block)
{
    if (block->pinned) {
        return 1;
    }

    if (!block->superseded
        && block->generation >= ngx_webtorch_zone.shared->previous)
    {
        return 1;
    }

    return ngx_webtorch_worker_count_users(block->users) != 0;
}


/* returns the offset of the first gap that is large enough; 0: there is none */

static uint64_t
ngx_webtorch_space_find(ngx_webtorch_block_t *blocks, size_t size)
{
    uint64_t               offset, end;
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    offset = NGX_WEBTORCH_ZONE_BASE;
    end = offset + ngx_webtorch_zone.size;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {

        if (size > end - offset) {
            return 0;
        }

        block = &blocks[i];

        if (block->state != NGX_WEBTORCH_BLOCK_FREE
            && block->offset < offset + size
            && block->offset + ngx_webtorch_space_size(block) > offset)
        {
            offset = block->offset + ngx_webtorch_space_size(block);

            if (offset > end) {
                return 0;
            }

            /* blocks before this one in the table may also be here */
            i = (ngx_uint_t) -1;
        }
    }

    return offset;
}


size_t
ngx_webtorch_space_size(ngx_webtorch_block_t *block)
{
    return ngx_align(block->layout_len, NGX_WEBTORCH_SPACE_ALIGN)
           + ngx_webtorch_space_copy_offset(block)
             * (block->has_undo ? 2 : 1);
}


ngx_uint_t
ngx_webtorch_space_mapped(ngx_webtorch_block_t *block)
{
    return block->offset + ngx_webtorch_space_size(block)
           <= ngx_webtorch_zone.mapped;
}


char *
ngx_webtorch_space_layout(ngx_webtorch_block_t *block)
{
    return (char *) ngx_webtorch_zone.shared + block->offset;
}


char *
ngx_webtorch_space_data(ngx_webtorch_block_t *block)
{
    return ngx_webtorch_space_layout(block)
           + ngx_align(block->layout_len, NGX_WEBTORCH_SPACE_ALIGN);
}


size_t
ngx_webtorch_space_copy_offset(ngx_webtorch_block_t *block)
{
    return ngx_align(block->size, NGX_WEBTORCH_SPACE_ALIGN);
}
