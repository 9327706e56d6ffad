
/*
 * Training in strict order.  Before a step the tensors of a model are copied,
 * and the state of its optimizer, which is the partner.  While counters.undo
 * of the model's block is set, both copies are valid: if the owner of the lock
 * exits, the next process to lock it copies the data back.  That of the partner
 * keeps its block from being freed.  Others may read the data meanwhile; as
 * memcpy() writes whole words, they read numbers from before or after the step,
 * never halves of both.
 *
 * Called by Python in any thread, declared in ngx_webtorch_api.h.
 */

#include "ngx_webtorch_training.h"
#include "ngx_webtorch_log.h"
#include "ngx_webtorch_robust.h"
#include "ngx_webtorch_space.h"

#include <sys/mman.h>


static void ngx_webtorch_training_repair(void);
static ngx_uint_t ngx_webtorch_training_is_copied(ngx_webtorch_block_t *block);
static ngx_uint_t ngx_webtorch_training_can_copy(ngx_webtorch_block_t *block);
static void ngx_webtorch_training_copy(ngx_webtorch_block_t *block);
static void ngx_webtorch_training_drop(ngx_webtorch_block_t *block);
static void ngx_webtorch_training_undo(ngx_webtorch_block_t *block);
static void ngx_webtorch_training_copy_back(ngx_webtorch_block_t *block);


void
ngx_webtorch_training_lock(void)
{
    if (ngx_webtorch_robust_lock(&ngx_webtorch_zone.shared->training)
        == NGX_DECLINED)
    {
        ngx_webtorch_training_repair();
    }
}


void
ngx_webtorch_training_recover(void)
{
    ngx_int_t  rc;

    rc = ngx_webtorch_robust_trylock(&ngx_webtorch_zone.shared->training);

    if (rc == NGX_BUSY) {
        return;
    }

    if (rc == NGX_DECLINED) {
        ngx_webtorch_training_repair();
    }

    ngx_webtorch_training_unlock();
}


/* called with the lock of training, whose last owner exited */

static void
ngx_webtorch_training_repair(void)
{
    ngx_uint_t                   i;
    ngx_webtorch_block_t        *block;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &shared->blocks[i];

        if (ngx_webtorch_training_is_copied(block)) {
            ngx_webtorch_training_undo(block);

            ngx_webtorch_log_error(NGX_LOG_NOTICE, ngx_webtorch_zone.log, 0,
                                   "webtorch model \"%s\" is as before the "
                                   "step in which a worker exited",
                                   block->name);
        }
    }

    /* it may have exited before both copies were complete */

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        shared->blocks[i].counters.undo = 0;
    }
}


void
ngx_webtorch_training_unlock(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->training);
}


/* a partner is not: it is restored and dropped with its model */

static ngx_uint_t
ngx_webtorch_training_is_copied(ngx_webtorch_block_t *block)
{
    return block->state == NGX_WEBTORCH_BLOCK_READY
           && block->kind == WEBTORCH_TENSORS
           && block->counters.undo;
}


void
ngx_webtorch_block_snapshot(uint32_t id, uint32_t optimizer)
{
    ngx_webtorch_block_t  *block, *blocks;

    if (id == WEBTORCH_NO_BLOCK) {
        return;
    }

    blocks = ngx_webtorch_zone.shared->blocks;
    block = &blocks[id];

    if (!ngx_webtorch_training_can_copy(block)) {
        return;
    }

    block->partner = 0;

    if (optimizer != WEBTORCH_NO_BLOCK
        && ngx_webtorch_training_can_copy(&blocks[optimizer]))
    {
        block->partner = optimizer + 1;
        blocks[optimizer].counters.undo = 1;
        ngx_webtorch_training_copy(&blocks[optimizer]);
    }

    ngx_webtorch_training_copy(block);

    block->undo_steps = block->counters.steps;
    block->undo_applied = block->counters.applied;

    ngx_memory_barrier();
    block->counters.undo = 1;
    ngx_memory_barrier();
}


/*
 * A model that was replaced may have no copy, as there was no space, or one
 * that this process has not mapped.
 */

static ngx_uint_t
ngx_webtorch_training_can_copy(ngx_webtorch_block_t *block)
{
    uint32_t  copy;

    copy = block->copy;

    return copy != 0
           && ngx_webtorch_space_mapped(
                  &ngx_webtorch_zone.shared->blocks[copy - 1]);
}


static void
ngx_webtorch_training_copy(ngx_webtorch_block_t *block)
{
    ngx_webtorch_block_t  *copy;

    copy = &ngx_webtorch_zone.shared->blocks[block->copy - 1];

    ngx_memcpy(ngx_webtorch_space_data(copy), ngx_webtorch_space_data(block),
               block->size);
}


void
ngx_webtorch_block_commit(uint32_t id)
{
    if (id != WEBTORCH_NO_BLOCK) {
        ngx_memory_barrier();
        ngx_webtorch_training_drop(&ngx_webtorch_zone.shared->blocks[id]);
    }
}


static void
ngx_webtorch_training_drop(ngx_webtorch_block_t *block)
{
    block->counters.undo = 0;

    ngx_memory_barrier();

    if (block->partner) {
        ngx_webtorch_zone.shared->blocks[block->partner - 1].counters.undo = 0;
        block->partner = 0;
    }
}


void
ngx_webtorch_block_restore(uint32_t id)
{
    ngx_webtorch_block_t  *block;

    if (id == WEBTORCH_NO_BLOCK) {
        return;
    }

    block = &ngx_webtorch_zone.shared->blocks[id];

    if (ngx_webtorch_training_is_copied(block)) {
        ngx_webtorch_training_undo(block);
    }
}


static void
ngx_webtorch_training_undo(ngx_webtorch_block_t *block)
{
    if (block->partner) {
        ngx_webtorch_training_copy_back(
            &ngx_webtorch_zone.shared->blocks[block->partner - 1]);
    }

    ngx_webtorch_training_copy_back(block);

    block->counters.steps = block->undo_steps;
    block->counters.applied = block->undo_applied;

    ngx_memory_barrier();
    ngx_webtorch_training_drop(block);
}


static void
ngx_webtorch_training_copy_back(ngx_webtorch_block_t *block)
{
    char                  *base;
    size_t                 end;
    ngx_webtorch_block_t  *copy;

    if (block->copy == 0) {
        return;
    }

    copy = &ngx_webtorch_zone.shared->blocks[block->copy - 1];
    base = (char *) ngx_webtorch_zone.shared;
    end = 0;

    if (!ngx_webtorch_space_mapped(block)
        || !ngx_webtorch_space_mapped(copy))
    {
        end = ngx_max(block->offset + ngx_webtorch_space_size(block),
                      copy->offset + ngx_webtorch_space_size(copy));

        base = mmap(NULL, end, PROT_READ|PROT_WRITE, MAP_SHARED,
                    ngx_webtorch_zone.fd, 0);

        if (base == MAP_FAILED) {
            ngx_webtorch_log_error(NGX_LOG_ALERT, ngx_webtorch_zone.log,
                                   ngx_errno,
                                   "could not map %uz bytes of shared memory",
                                   end);
            return;
        }
    }

    ngx_memcpy(base + ngx_webtorch_space_data_offset(block),
               base + ngx_webtorch_space_data_offset(copy), block->size);

    if (end) {
        (void) munmap(base, end);
    }
}


int
ngx_webtorch_saver_elect(void)
{
    return ngx_webtorch_robust_trylock(&ngx_webtorch_zone.shared->saver)
           != NGX_BUSY;
}


void
ngx_webtorch_saver_resign(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->saver);
}


int
ngx_webtorch_uploader_elect(void)
{
    return ngx_webtorch_robust_trylock(&ngx_webtorch_zone.shared->uploader)
           != NGX_BUSY;
}


void
ngx_webtorch_uploader_resign(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->uploader);
}


void
ngx_webtorch_rounds_join(int joined)
{
    __atomic_store_n(&ngx_webtorch_zone.shared->joined, joined != 0,
                     __ATOMIC_RELAXED);
}


ngx_uint_t
ngx_webtorch_rounds_joined(void)
{
    return ngx_webtorch_zone.shared
           && __atomic_load_n(&ngx_webtorch_zone.shared->joined,
                              __ATOMIC_RELAXED);
}


int
ngx_webtorch_rounds_elect(void)
{
    return ngx_webtorch_robust_trylock(&ngx_webtorch_zone.shared->rounds)
           != NGX_BUSY;
}


void
ngx_webtorch_rounds_resign(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->rounds);
}
