
#include "ngx_webtorch_space.h"
#include "ngx_webtorch_worker.h"


static void ngx_webtorch_space_free_unused(ngx_webtorch_block_t *blocks);
static ngx_uint_t ngx_webtorch_space_used(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *block);
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


/* if the owner crashes in between, the copy is of no block and unused */

ngx_int_t
ngx_webtorch_space_alloc_copy(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *block)
{
    ngx_webtorch_block_t  like, *copy;

    if (block->copy) {
        return NGX_OK;
    }

    ngx_memzero(&like, sizeof(ngx_webtorch_block_t));

    like.kind = NGX_WEBTORCH_BLOCK_COPY;
    like.owner = (uint32_t) (block - blocks) + 1;
    like.size = block->size;
    like.generation = block->generation;
    ngx_memcpy(like.name, block->name, WEBTORCH_MODEL_LEN);

    copy = ngx_webtorch_space_alloc(blocks, &like);
    if (copy == NULL) {
        return NGX_ERROR;
    }

    copy->state = NGX_WEBTORCH_BLOCK_READY;
    block->copy = (uint32_t) (copy - blocks) + 1;

    return NGX_OK;
}


void
ngx_webtorch_space_free(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *block)
{
    block->state = NGX_WEBTORCH_BLOCK_FREE;

    if (block->copy) {
        blocks[block->copy - 1].state = NGX_WEBTORCH_BLOCK_FREE;
        block->copy = 0;
    }

    if (block->owner && blocks[block->owner - 1].copy
                        == (uint32_t) (block - blocks) + 1)
    {
        blocks[block->owner - 1].copy = 0;
    }
}


static void
ngx_webtorch_space_free_unused(ngx_webtorch_block_t *blocks)
{
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &blocks[i];

        if (block->state == NGX_WEBTORCH_BLOCK_READY
            && !ngx_webtorch_space_used(blocks, block))
        {
            ngx_webtorch_space_free(blocks, block);
        }
    }
}


/* whether a worker uses the block, or will when it is started again */

static ngx_uint_t
ngx_webtorch_space_used(ngx_webtorch_block_t *blocks,
    ngx_webtorch_block_t *block)
{
    ngx_webtorch_block_t  *owner;

    owner = block;

    if (block->kind == NGX_WEBTORCH_BLOCK_COPY) {
        owner = &blocks[block->owner - 1];

        if (owner->state == NGX_WEBTORCH_BLOCK_FREE
            || owner->copy != (uint32_t) (block - blocks) + 1)
        {
            return 0;
        }
    }

    /* the step of a worker that crashed will be undone */

    if (block->pinned || owner->counters.undo) {
        return 1;
    }

    if (!owner->superseded
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
           + ngx_align(block->size, NGX_WEBTORCH_SPACE_ALIGN);
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
    return (char *) ngx_webtorch_zone.shared
           + ngx_webtorch_space_data_offset(block);
}


uint64_t
ngx_webtorch_space_data_offset(ngx_webtorch_block_t *block)
{
    return block->offset
           + ngx_align(block->layout_len, NGX_WEBTORCH_SPACE_ALIGN);
}


/* without the lock: what changes meanwhile is counted or not */

void
ngx_webtorch_space_get_use(uint64_t *size, uint64_t *used)
{
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    *size = ngx_webtorch_zone.size;
    *used = 0;

    if (*size == 0) {
        return;
    }

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &ngx_webtorch_zone.shared->blocks[i];

        if (block->state != NGX_WEBTORCH_BLOCK_FREE) {
            *used += ngx_webtorch_space_size(block);
        }
    }
}
