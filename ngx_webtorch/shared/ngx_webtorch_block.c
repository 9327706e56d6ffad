
#include "ngx_webtorch_block.h"
#include "ngx_webtorch_plan.h"
#include "ngx_webtorch_space.h"
#include "ngx_webtorch_worker.h"


static ngx_webtorch_block_t *ngx_webtorch_block_make(
    ngx_webtorch_block_t *like, const char *layout, webtorch_block_t *found);
static int ngx_webtorch_block_check(ngx_webtorch_block_t *like,
    const char *layout, webtorch_block_t *found);
static ngx_webtorch_block_t *ngx_webtorch_block_find(
    ngx_webtorch_block_t *like, const char *layout);
static ngx_uint_t ngx_webtorch_block_visible(ngx_webtorch_block_t *block,
    const char *name);
static ngx_uint_t ngx_webtorch_block_fits(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *like, const char *layout);
static void ngx_webtorch_block_get_info(ngx_webtorch_block_t *block,
    webtorch_block_t *found);
static void ngx_webtorch_block_use(ngx_webtorch_block_t *block);
static void ngx_webtorch_block_replace(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *old);


/* shared->swaps at the last call of ngx_webtorch_block_replaced() */
static uint64_t  ngx_webtorch_block_swaps;


void
ngx_webtorch_block_init(void)
{
    ngx_webtorch_block_swaps = ngx_webtorch_zone.shared->swaps;
}


ngx_uint_t
ngx_webtorch_block_replaced(void)
{
    uint64_t  swaps;

    if (ngx_webtorch_zone.shared == NULL) {
        return 0;
    }

    swaps = ngx_webtorch_zone.shared->swaps;

    if (swaps == ngx_webtorch_block_swaps) {
        return 0;
    }

    ngx_webtorch_block_swaps = swaps;

    return 1;
}


int
ngx_webtorch_block_attach(const char *name, const char *layout, size_t len,
    size_t size, int undo, int how, webtorch_block_t *found)
{
    ngx_webtorch_block_t  like, *block;

    ngx_memzero(found, sizeof(webtorch_block_t));
    ngx_memzero(&like, sizeof(ngx_webtorch_block_t));

    (void) ngx_cpystrn((u_char *) like.name, (u_char *) name,
                       WEBTORCH_MODEL_LEN);
    like.layout_len = len;
    like.size = size;
    like.has_undo = (undo != 0);

    if (ngx_webtorch_plan_active()) {
        return ngx_webtorch_block_check(&like, layout, found);
    }

    /*
     * A lookup must not wait for a worker that fills a block: the event loop
     * does lookups.
     */

    if (how != WEBTORCH_FIND) {
        ngx_webtorch_zone_lock();

    } else if (ngx_webtorch_zone_trylock() == NGX_BUSY) {
        return 1;
    }

    block = NULL;

    if (how != WEBTORCH_MAKE) {
        block = ngx_webtorch_block_find(&like, layout);
    }

    if (block) {
        ngx_webtorch_block_use(block);
        ngx_webtorch_block_get_info(block, found);
        ngx_webtorch_zone_unlock();
        return 0;
    }

    if (how != WEBTORCH_FIND) {
        block = ngx_webtorch_block_make(&like, layout, found);
    }

    if (block == NULL) {
        ngx_webtorch_zone_unlock();
        return -1;
    }

    /* stays locked until the block is ready or discarded */

    return 0;
}


static ngx_webtorch_block_t *
ngx_webtorch_block_make(ngx_webtorch_block_t *like, const char *layout,
    webtorch_block_t *found)
{
    char                  *p;
    ngx_webtorch_block_t  *block, *other;

    block = ngx_webtorch_space_alloc(ngx_webtorch_zone.shared->blocks, like);
    if (block == NULL) {
        return NULL;
    }

    p = ngx_webtorch_space_layout(block);

    ngx_memzero(p, ngx_webtorch_space_size(block));
    ngx_memcpy(p, layout, block->layout_len);

    ngx_webtorch_block_get_info(block, found);
    found->fresh = 1;

    other = ngx_webtorch_block_find(like, NULL);

    if (other) {
        found->old_layout = ngx_webtorch_space_layout(other);
        found->old_len = other->layout_len;
        found->old_data = ngx_webtorch_space_data(other);
        found->old_counters = &other->counters;
    }

    return block;
}


/*
 * In a check of the configuration a model has memory of the process's own, with
 * the data that the zone has for it.
 */

static int
ngx_webtorch_block_check(ngx_webtorch_block_t *like, const char *layout,
    webtorch_block_t *found)
{
    ngx_webtorch_block_t  *block;

    found->id = NGX_WEBTORCH_NO_BLOCK;
    found->data = calloc(1, ngx_max(like->size, 1));
    found->size = like->size;
    found->counters = calloc(1, sizeof(webtorch_counters_t));

    if (found->data == NULL || found->counters == NULL) {
        return -1;
    }

    ngx_webtorch_zone_lock();

    block = ngx_webtorch_block_find(like, layout);

    if (block) {
        ngx_memcpy(found->data, ngx_webtorch_space_data(block), like->size);
        *found->counters = block->counters;

    } else {
        found->fresh = 1;
        ngx_webtorch_plan_add(like);
    }

    ngx_webtorch_zone_unlock();

    return 0;
}


/* finds the last version with this name and layout; NULL: any layout */

static ngx_webtorch_block_t *
ngx_webtorch_block_find(ngx_webtorch_block_t *like, const char *layout)
{
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block, *found;

    found = NULL;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &ngx_webtorch_zone.shared->blocks[i];

        if (!ngx_webtorch_block_visible(block, like->name)
            || (found && block->version < found->version))
        {
            continue;
        }

        if (layout == NULL || ngx_webtorch_block_fits(block, like, layout)) {
            found = block;
        }
    }

    return found;
}


static ngx_uint_t
ngx_webtorch_block_visible(ngx_webtorch_block_t *block, const char *name)
{
    return block->state == NGX_WEBTORCH_BLOCK_READY
           && !block->superseded
           && ngx_webtorch_space_mapped(block)
           && ngx_strcmp(block->name, name) == 0;
}


static ngx_uint_t
ngx_webtorch_block_fits(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *like, const char *layout)
{
    return block->layout_len == like->layout_len
           && block->size == like->size
           && block->has_undo == like->has_undo
           && ngx_memcmp(ngx_webtorch_space_layout(block), layout,
                         like->layout_len)
              == 0;
}


static void
ngx_webtorch_block_get_info(ngx_webtorch_block_t *block,
    webtorch_block_t *found)
{
    found->id = (uint32_t) (block - ngx_webtorch_zone.shared->blocks);
    found->data = ngx_webtorch_space_data(block);
    found->size = block->size;
    found->counters = &block->counters;
}


static void
ngx_webtorch_block_use(ngx_webtorch_block_t *block)
{
    block->generation = ngx_max(block->generation,
                                ngx_webtorch_zone.generation);

    if (ngx_webtorch_worker_add_user(block->users) != NGX_OK) {
        block->pinned = 1;
    }
}


void
ngx_webtorch_block_ready(uint32_t id)
{
    ngx_webtorch_block_t        *block, *old;
    ngx_webtorch_shared_zone_t  *shared;

    if (id == NGX_WEBTORCH_NO_BLOCK) {
        return;
    }

    shared = ngx_webtorch_zone.shared;
    block = &shared->blocks[id];

    old = ngx_webtorch_block_find(block, ngx_webtorch_space_layout(block));

    block->version = ++shared->version;
    block->state = NGX_WEBTORCH_BLOCK_READY;

    ngx_webtorch_block_use(block);

    if (old) {
        ngx_webtorch_block_replace(block, old);
    }

    /* locked by ngx_webtorch_block_attach() */

    ngx_webtorch_zone_unlock();
}


/*
 * A block replaces another one with the same layout.  Steps on the old block,
 * until workers have noticed, are counted in both.
 */

static void
ngx_webtorch_block_replace(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *old)
{
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    old->successor = (uint32_t) (block - shared->blocks) + 1;
    old->superseded = 1;

    ngx_memory_barrier();

    if (block->counters.steps == WEBTORCH_SAME_STEPS) {
        block->counters.steps = old->counters.steps;
    }

    /* when this changes, workers look the block up again */
    ngx_memory_barrier();
    shared->swaps++;
}


void
ngx_webtorch_block_discard(uint32_t id)
{
    ngx_webtorch_block_t  *block;

    if (id == NGX_WEBTORCH_NO_BLOCK) {
        return;
    }

    block = &ngx_webtorch_zone.shared->blocks[id];

    /* ngx_webtorch_block_attach() has locked a block that is being filled */

    ngx_webtorch_zone_lock();

    if (block->state == NGX_WEBTORCH_BLOCK_FILLING) {
        block->state = NGX_WEBTORCH_BLOCK_FREE;
        ngx_webtorch_zone_unlock();

    } else {
        ngx_webtorch_worker_remove_user(block->users);

        if (ngx_webtorch_worker_count_users(block->users) == 0) {
            block->state = NGX_WEBTORCH_BLOCK_FREE;
        }
    }

    ngx_webtorch_zone_unlock();
}


void
ngx_webtorch_block_detach(uint32_t id)
{
    ngx_webtorch_block_t  *block;

    if (id != NGX_WEBTORCH_NO_BLOCK) {
        block = &ngx_webtorch_zone.shared->blocks[id];
        ngx_webtorch_worker_remove_user(block->users);
    }
}


/* older blocks stay while workers use them, but no lookup finds them */

void
ngx_webtorch_block_supersede(uint32_t id)
{
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block, *other;

    if (id == NGX_WEBTORCH_NO_BLOCK) {
        return;
    }

    ngx_webtorch_zone_lock();

    block = &ngx_webtorch_zone.shared->blocks[id];

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        other = &ngx_webtorch_zone.shared->blocks[i];

        if (other->state == NGX_WEBTORCH_BLOCK_READY
            && other->version < block->version
            && other->generation <= block->generation
            && ngx_strcmp(other->name, block->name) == 0)
        {
            other->superseded = 1;
        }
    }

    /* a worker whose code was replaced releases its blocks when it refreshes */
    ngx_webtorch_zone.shared->swaps++;

    ngx_webtorch_zone_unlock();
}


void
ngx_webtorch_block_step(uint32_t id)
{
    uint32_t               successor;
    ngx_webtorch_block_t  *block;

    if (id == NGX_WEBTORCH_NO_BLOCK) {
        return;
    }

    block = &ngx_webtorch_zone.shared->blocks[id];

    (void) __sync_fetch_and_add(&block->counters.steps, 1);

    successor = block->successor;

    if (successor) {
        ngx_webtorch_block_step(successor - 1);
    }
}
