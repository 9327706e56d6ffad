
#include "ngx_webtorch_plan.h"
#include "ngx_webtorch_space.h"


static void ngx_webtorch_plan_keep(ngx_webtorch_block_t *block,
    ngx_uint_t undo);


/* NULL: this process does not plan */
static ngx_webtorch_block_t  *ngx_webtorch_plan_blocks;

/* bytes of models that have no space */
static size_t                 ngx_webtorch_plan_missing;


ngx_int_t
ngx_webtorch_plan_init(ngx_log_t *log)
{
    size_t  size;

    size = NGX_WEBTORCH_MAX_BLOCKS * sizeof(ngx_webtorch_block_t);

    ngx_webtorch_plan_blocks = ngx_alloc(size, log);
    if (ngx_webtorch_plan_blocks == NULL) {
        return NGX_ERROR;
    }

    ngx_webtorch_zone_lock();

    ngx_memcpy(ngx_webtorch_plan_blocks, ngx_webtorch_zone.shared->blocks,
               size);

    ngx_webtorch_zone_unlock();

    return NGX_OK;
}


ngx_uint_t
ngx_webtorch_plan_active(void)
{
    return ngx_webtorch_plan_blocks != NULL;
}


void
ngx_webtorch_plan_use(ngx_webtorch_block_t *block, ngx_uint_t undo)
{
    ngx_uint_t  i;

    i = block - ngx_webtorch_zone.shared->blocks;

    ngx_webtorch_plan_keep(&ngx_webtorch_plan_blocks[i], undo);
}


void
ngx_webtorch_plan_add(ngx_webtorch_block_t *like, ngx_uint_t undo)
{
    ngx_webtorch_block_t  *block;

    block = ngx_webtorch_space_alloc(ngx_webtorch_plan_blocks, like);

    if (block == NULL) {
        ngx_webtorch_plan_missing += ngx_webtorch_space_size(like);

        if (undo) {
            ngx_webtorch_plan_missing += ngx_align(like->size,
                                                   NGX_WEBTORCH_SPACE_ALIGN);
        }

        return;
    }

    block->state = NGX_WEBTORCH_BLOCK_READY;

    ngx_webtorch_plan_keep(block, undo);
}


static void
ngx_webtorch_plan_keep(ngx_webtorch_block_t *block, ngx_uint_t undo)
{
    block->pinned = 1;

    if (!undo) {
        return;
    }

    if (ngx_webtorch_space_alloc_copy(ngx_webtorch_plan_blocks, block)
        != NGX_OK)
    {
        ngx_webtorch_plan_missing += ngx_align(block->size,
                                               NGX_WEBTORCH_SPACE_ALIGN);
        return;
    }

    ngx_webtorch_plan_blocks[block->copy - 1].pinned = 1;
}


size_t
ngx_webtorch_plan_needed(void)
{
    size_t                 size;
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    size = ngx_webtorch_plan_missing;

    if (size == 0) {
        return 0;
    }

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &ngx_webtorch_plan_blocks[i];

        if (block->state != NGX_WEBTORCH_BLOCK_FREE) {
            size += ngx_webtorch_space_size(block);
        }
    }

    return size;
}
