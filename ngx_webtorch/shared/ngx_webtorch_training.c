
/*
 * Training in strict order.  Before a step a block's data is copied, and while
 * counters.undo is set, the copy is valid: if the owner of the lock exits, the
 * next process to lock it copies the data back.  Others may read the data
 * meanwhile; as memcpy() writes whole words, they read numbers from before or
 * after the step, never halves of both.
 *
 * Called by Python in any thread, declared in ngx_webtorch_api.h.
 */

#include "ngx_webtorch_training.h"
#include "ngx_webtorch_log.h"
#include "ngx_webtorch_robust.h"
#include "ngx_webtorch_space.h"

#include <sys/mman.h>


static void ngx_webtorch_training_repair(void);
static void ngx_webtorch_training_undo(ngx_webtorch_block_t *block);


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

        if (block->state == NGX_WEBTORCH_BLOCK_READY && block->counters.undo) {
            ngx_webtorch_training_undo(block);

            ngx_webtorch_log_error(NGX_LOG_NOTICE, ngx_webtorch_zone.log, 0,
                                   "webtorch model \"%s\" is as before the "
                                   "step in which a worker exited",
                                   block->name);
        }
    }
}


void
ngx_webtorch_training_unlock(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->training);
}


void
ngx_webtorch_block_snapshot(uint32_t id)
{
    char                  *data;
    ngx_webtorch_block_t  *block;

    if (id == NGX_WEBTORCH_NO_BLOCK) {
        return;
    }

    block = &ngx_webtorch_zone.shared->blocks[id];
    data = ngx_webtorch_space_data(block);

    ngx_memcpy(data + ngx_webtorch_space_copy_offset(block), data,
               block->size);

    block->undo = block->counters;

    ngx_memory_barrier();
    block->counters.undo = 1;
    ngx_memory_barrier();
}


void
ngx_webtorch_block_commit(uint32_t id)
{
    if (id != NGX_WEBTORCH_NO_BLOCK) {
        ngx_memory_barrier();
        ngx_webtorch_zone.shared->blocks[id].counters.undo = 0;
    }
}


void
ngx_webtorch_block_restore(uint32_t id)
{
    if (id != NGX_WEBTORCH_NO_BLOCK) {
        ngx_webtorch_training_undo(&ngx_webtorch_zone.shared->blocks[id]);
    }
}


static void
ngx_webtorch_training_undo(ngx_webtorch_block_t *block)
{
    char    *data, *all;
    size_t   end;

    all = NULL;
    end = block->offset + ngx_webtorch_space_size(block);
    data = ngx_webtorch_space_data(block);

    if (!ngx_webtorch_space_mapped(block)) {

        all = mmap(NULL, end, PROT_READ|PROT_WRITE, MAP_SHARED,
                   ngx_webtorch_zone.fd, 0);

        if (all == MAP_FAILED) {
            ngx_webtorch_log_error(NGX_LOG_ALERT, ngx_webtorch_zone.log,
                                   ngx_errno,
                                   "could not map %uz bytes of shared memory",
                                   end);
            return;
        }

        data = all + (data - (char *) ngx_webtorch_zone.shared);
    }

    ngx_memcpy(data, data + ngx_webtorch_space_copy_offset(block),
               block->size);

    block->counters.steps = block->undo.steps;

    ngx_memory_barrier();
    block->counters.undo = 0;

    if (all) {
        (void) munmap(all, end);
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
