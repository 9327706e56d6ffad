
#include "ngx_webtorch_block.h"
#include "ngx_webtorch_plan.h"
#include "ngx_webtorch_space.h"
#include "ngx_webtorch_worker.h"


static ngx_int_t ngx_webtorch_block_get(ngx_webtorch_block_t *like,
    const webtorch_wanted_t *wanted, int how, webtorch_block_t *found);
static ngx_webtorch_block_t *ngx_webtorch_block_make(
    ngx_webtorch_block_t *like, const char *layout, webtorch_block_t *found);
static int ngx_webtorch_block_check(ngx_webtorch_block_t *like,
    const webtorch_wanted_t *wanted, int how, webtorch_block_t *found);
static ngx_webtorch_block_t *ngx_webtorch_block_find(
    ngx_webtorch_block_t *like, const char *layout);
static ngx_uint_t ngx_webtorch_block_visible(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *like);
static ngx_uint_t ngx_webtorch_block_fits(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *like, const char *layout);
static void ngx_webtorch_block_get_info(ngx_webtorch_block_t *block,
    webtorch_block_t *found);
static void ngx_webtorch_block_use(ngx_webtorch_block_t *block,
    ngx_uint_t undo);
static void ngx_webtorch_block_leave(ngx_webtorch_block_t *block);
static void ngx_webtorch_block_free(ngx_webtorch_block_t *block);
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
ngx_webtorch_block_attach(const webtorch_wanted_t *wanted, int how,
    webtorch_block_t *found)
{
    ngx_webtorch_block_t  like;

    ngx_memzero(found, sizeof(webtorch_block_t));
    ngx_memzero(&like, sizeof(ngx_webtorch_block_t));

    (void) ngx_cpystrn((u_char *) like.name, (u_char *) wanted->name,
                       WEBTORCH_MODEL_LEN);
    like.kind = wanted->kind;
    like.layout_len = wanted->layout_len;
    like.size = wanted->size;

    if (ngx_webtorch_plan_active()) {
        return ngx_webtorch_block_check(&like, wanted, how, found);
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

    if (ngx_webtorch_block_get(&like, wanted, how, found) != NGX_OK) {
        ngx_webtorch_zone_unlock();
        return -1;
    }

    if (!found->fresh) {
        ngx_webtorch_zone_unlock();
    }

    /* stays locked until the block is ready or discarded */

    return 0;
}


static ngx_int_t
ngx_webtorch_block_get(ngx_webtorch_block_t *like,
    const webtorch_wanted_t *wanted, int how, webtorch_block_t *found)
{
    ngx_int_t              rc;
    ngx_webtorch_block_t  *block, *blocks;

    blocks = ngx_webtorch_zone.shared->blocks;
    block = NULL;

    if (how != WEBTORCH_MAKE) {
        block = ngx_webtorch_block_find(like, wanted->layout);
    }

    if (block) {
        ngx_webtorch_block_use(block, 0);

    } else if (how != WEBTORCH_FIND) {
        block = ngx_webtorch_block_make(like, wanted->layout, found);
    }

    if (block == NULL) {
        return NGX_ERROR;
    }

    ngx_webtorch_block_get_info(block, found);

    if (!wanted->undo) {
        return NGX_OK;
    }

    rc = ngx_webtorch_space_alloc_copy(blocks, block);

    if (rc == NGX_OK && !found->fresh) {
        ngx_webtorch_block_use(block, 1);
    }

    if (rc == NGX_OK || how == WEBTORCH_FIND) {
        /* a worker whose model was replaced goes on without a copy */
        return NGX_OK;
    }

    /* one that is not fresh may be used by code that is being replaced */

    if (found->fresh) {
        ngx_webtorch_block_free(block);
    }

    return NGX_ERROR;
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
ngx_webtorch_block_check(ngx_webtorch_block_t *like,
    const webtorch_wanted_t *wanted, int how, webtorch_block_t *found)
{
    ngx_webtorch_block_t  *block;

    found->id = WEBTORCH_NO_BLOCK;
    found->data = calloc(1, ngx_max(like->size, 1));
    found->size = like->size;
    found->counters = calloc(1, sizeof(webtorch_counters_t));

    if (found->data == NULL || found->counters == NULL) {
        return -1;
    }

    ngx_webtorch_zone_lock();

    block = NULL;

    if (how != WEBTORCH_MAKE) {
        block = ngx_webtorch_block_find(like, wanted->layout);
    }

    if (block) {
        ngx_memcpy(found->data, ngx_webtorch_space_data(block), like->size);
        *found->counters = block->counters;

        ngx_webtorch_plan_use(block, wanted->undo);

    } else {
        found->fresh = 1;
        ngx_webtorch_plan_add(like, wanted->undo);
    }

    ngx_webtorch_zone_unlock();

    return 0;
}


/* finds the last version of this name, kind and layout; NULL: any layout */

static ngx_webtorch_block_t *
ngx_webtorch_block_find(ngx_webtorch_block_t *like, const char *layout)
{
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block, *found;

    found = NULL;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &ngx_webtorch_zone.shared->blocks[i];

        if (!ngx_webtorch_block_visible(block, like)
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
ngx_webtorch_block_visible(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *like)
{
    return block->state == NGX_WEBTORCH_BLOCK_READY
           && block->kind == like->kind
           && !block->superseded
           && ngx_webtorch_space_mapped(block)
           && ngx_strcmp(block->name, like->name) == 0;
}


static ngx_uint_t
ngx_webtorch_block_fits(ngx_webtorch_block_t *block,
    ngx_webtorch_block_t *like, const char *layout)
{
    return block->layout_len == like->layout_len
           && block->size == like->size
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


/* this worker uses a block, or with undo its copy */

static void
ngx_webtorch_block_use(ngx_webtorch_block_t *block, ngx_uint_t undo)
{
    if (undo) {
        block = &ngx_webtorch_zone.shared->blocks[block->copy - 1];
    }

    block->generation = ngx_max(block->generation,
                                ngx_webtorch_zone.generation);

    if (ngx_webtorch_worker_add_user(block->users) != NGX_OK) {
        block->pinned = 1;
    }
}


static void
ngx_webtorch_block_leave(ngx_webtorch_block_t *block)
{
    uint32_t  copy;

    ngx_webtorch_worker_remove_user(block->users);

    copy = block->copy;

    if (copy) {
        block = &ngx_webtorch_zone.shared->blocks[copy - 1];
        ngx_webtorch_worker_remove_user(block->users);
    }
}


static void
ngx_webtorch_block_free(ngx_webtorch_block_t *block)
{
    ngx_webtorch_space_free(ngx_webtorch_zone.shared->blocks, block);
}


void
ngx_webtorch_block_ready(uint32_t id)
{
    ngx_webtorch_block_t        *block, *old;
    ngx_webtorch_shared_zone_t  *shared;

    if (id == WEBTORCH_NO_BLOCK) {
        return;
    }

    shared = ngx_webtorch_zone.shared;
    block = &shared->blocks[id];

    old = ngx_webtorch_block_find(block, ngx_webtorch_space_layout(block));

    block->version = ++shared->version;
    block->state = NGX_WEBTORCH_BLOCK_READY;

    ngx_webtorch_block_use(block, 0);

    if (block->copy) {
        ngx_webtorch_block_use(block, 1);
    }

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

    if (id == WEBTORCH_NO_BLOCK) {
        return;
    }

    block = &ngx_webtorch_zone.shared->blocks[id];

    /* ngx_webtorch_block_attach() has locked a block that is being filled */

    ngx_webtorch_zone_lock();

    if (block->state == NGX_WEBTORCH_BLOCK_FILLING) {
        ngx_webtorch_block_free(block);
        ngx_webtorch_zone_unlock();

    } else {
        ngx_webtorch_block_leave(block);

        if (ngx_webtorch_worker_count_users(block->users) == 0
            && !block->counters.undo)
        {
            ngx_webtorch_block_free(block);
        }
    }

    ngx_webtorch_zone_unlock();
}


void
ngx_webtorch_block_detach(uint32_t id)
{
    if (id != WEBTORCH_NO_BLOCK) {
        ngx_webtorch_block_leave(&ngx_webtorch_zone.shared->blocks[id]);
    }
}


/* the other blocks stay while workers use them, but no lookup finds them */

void
ngx_webtorch_block_supersede(uint32_t id, uint32_t optimizer)
{
    uint64_t               versions[2];
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block, *other, *blocks;

    if (id == WEBTORCH_NO_BLOCK) {
        return;
    }

    ngx_webtorch_zone_lock();

    blocks = ngx_webtorch_zone.shared->blocks;
    block = &blocks[id];

    /* later ones have replaced these */

    versions[WEBTORCH_TENSORS] = block->version;
    versions[WEBTORCH_OPTIMIZER] = (optimizer == WEBTORCH_NO_BLOCK)
                                   ? (uint64_t) -1
                                   : blocks[optimizer].version;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        other = &blocks[i];

        if (other->state == NGX_WEBTORCH_BLOCK_READY
            && other->kind < NGX_WEBTORCH_BLOCK_COPY
            && other->version < versions[other->kind]
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
ngx_webtorch_block_retire(uint32_t id)
{
    if (id == WEBTORCH_NO_BLOCK) {
        return;
    }

    ngx_webtorch_zone_lock();

    ngx_webtorch_zone.shared->blocks[id].superseded = 1;

    /* workers release it when they refresh */
    ngx_webtorch_zone.shared->swaps++;

    ngx_webtorch_zone_unlock();
}


void
ngx_webtorch_block_step(uint32_t id)
{
    uint32_t               successor;
    ngx_webtorch_block_t  *block;

    if (id == WEBTORCH_NO_BLOCK) {
        return;
    }

    block = &ngx_webtorch_zone.shared->blocks[id];

    (void) __sync_fetch_and_add(&block->counters.steps, 1);

    successor = block->successor;

    if (successor) {
        ngx_webtorch_block_step(successor - 1);
    }
}


int
ngx_webtorch_block_strict(uint32_t id)
{
    uint32_t               copy;
    ngx_uint_t             i;
    ngx_webtorch_block_t  *block;

    if (id == WEBTORCH_NO_BLOCK) {
        return 0;
    }

    copy = ngx_webtorch_zone.shared->blocks[id].copy;

    if (copy == 0) {
        return 0;
    }

    block = &ngx_webtorch_zone.shared->blocks[copy - 1];

    for (i = 0; i < NGX_WEBTORCH_MAX_WORKERS / 64; i++) {
        if (block->users[i]) {
            return 1;
        }
    }

    return block->pinned;
}
