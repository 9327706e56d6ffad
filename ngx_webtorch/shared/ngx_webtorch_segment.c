
#include "ngx_webtorch_segment.h"
#include "ngx_webtorch_robust.h"
#include "ngx_webtorch_space.h"
#include "ngx_webtorch_worker.h"


/* bytes of a block at least, if there is room */
#define NGX_WEBTORCH_SEGMENT_SIZE  131072

/* a block has this part of the records that there are already */
#define NGX_WEBTORCH_SEGMENT_PART  4

/* ms for which it has had no stream when it is freed */
#define NGX_WEBTORCH_SEGMENT_EMPTY 10000


static ngx_int_t ngx_webtorch_segment_create(ngx_webtorch_records_t *records,
    uint32_t n);
static void ngx_webtorch_segment_use(ngx_webtorch_block_t *block);
static size_t ngx_webtorch_segment_head(uint32_t n);


ngx_webtorch_segment_t *
ngx_webtorch_segment_get(uint32_t block)
{
    ngx_webtorch_block_t  *blocks;

    blocks = ngx_webtorch_zone.shared->blocks;

    return (ngx_webtorch_segment_t *) ngx_webtorch_space_data(&blocks[block]);
}


ngx_webtorch_segment_t *
ngx_webtorch_segment_of(ngx_webtorch_claim_t *claim)
{
    return ngx_webtorch_segment_get(ngx_webtorch_record_block(claim->number));
}


void
ngx_webtorch_segment_claim(ngx_webtorch_records_t *records, uint32_t block,
    uint32_t k, ngx_webtorch_claim_t *claim)
{
    ngx_webtorch_segment_t  *segment;

    segment = ngx_webtorch_segment_get(block);

    claim->record = &segment->records[k];
    claim->form = &records->form;
    claim->data = (u_char *) segment + ngx_webtorch_segment_head(segment->n)
                  + k * records->form.size;
    claim->number = ngx_webtorch_record_place(block, k);
    claim->version = ngx_webtorch_zone.shared->blocks[block].version;
    claim->guest = 0;
}


void
ngx_webtorch_segments_update(ngx_webtorch_records_t *records)
{
    if (records->seen != ngx_webtorch_zone.shared->segments) {
        ngx_webtorch_segments_list(records);
    }
}


/*
 * Without the zone's lock: blocks of this kind become ready and free under the
 * records lock alone, but those that no worker and no configuration uses.
 */

void
ngx_webtorch_segments_list(ngx_webtorch_records_t *records)
{
    uint32_t                     i;
    ngx_webtorch_block_t        *block;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    records->nblocks = 0;
    records->seen = shared->segments;

    for (i = 0; i < NGX_WEBTORCH_MAX_BLOCKS; i++) {
        block = &shared->blocks[i];

        if (block->state == NGX_WEBTORCH_BLOCK_READY
            && block->kind == NGX_WEBTORCH_BLOCK_STREAMS
            && ngx_webtorch_space_mapped(block)
            && ngx_strcmp(block->name, records->name) == 0
            && ngx_memcmp(ngx_webtorch_space_layout(block), records->digest,
                          NGX_WEBTORCH_RECORD_DIGEST)
               == 0)
        {
            ngx_webtorch_segment_use(block);
            records->blocks[records->nblocks++] = i;
        }
    }
}


ngx_int_t
ngx_webtorch_segment_add(ngx_webtorch_records_t *records)
{
    uint32_t    i, n, least;
    uint64_t    total;

    least = (uint32_t) (NGX_WEBTORCH_SEGMENT_SIZE
                        / (records->form.size + sizeof(ngx_webtorch_record_t)));
    least = ngx_max(least, 1);

    total = 0;

    for (i = 0; i < records->nblocks; i++) {
        total += ngx_webtorch_segment_get(records->blocks[i])->n;
    }

    n = (uint32_t) ngx_min(ngx_max(total / NGX_WEBTORCH_SEGMENT_PART, least),
                           NGX_WEBTORCH_SEGMENT_MAX);

    for ( ;; ) {

        if (ngx_webtorch_segment_create(records, n) == NGX_OK) {
            return NGX_OK;
        }

        if (n == 1) {
            return NGX_ERROR;
        }

        n = (n > least) ? least : 1;
    }
}


static ngx_int_t
ngx_webtorch_segment_create(ngx_webtorch_records_t *records, uint32_t n)
{
    uint32_t                     i;
    ngx_webtorch_block_t         like, *block;
    ngx_webtorch_segment_t      *segment;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    ngx_memzero(&like, sizeof(ngx_webtorch_block_t));

    like.kind = NGX_WEBTORCH_BLOCK_STREAMS;
    like.layout_len = NGX_WEBTORCH_RECORD_DIGEST;
    like.size = ngx_webtorch_segment_head(n) + n * records->form.size;
    ngx_memcpy(like.name, records->name, WEBTORCH_MODEL_LEN);

    block = ngx_webtorch_space_alloc(shared->blocks, &like);
    if (block == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(ngx_webtorch_space_layout(block), records->digest,
               NGX_WEBTORCH_RECORD_DIGEST);

    segment = (ngx_webtorch_segment_t *) ngx_webtorch_space_data(block);

    ngx_memzero(segment, ngx_webtorch_segment_head(n));
    segment->n = n;
    segment->nfree = n;

    for (i = 0; i < n; i++) {
        ngx_webtorch_robust_init(&segment->records[i].mutex);
    }

    ngx_webtorch_segment_use(block);
    block->version = ++shared->version;

    ngx_memory_barrier();

    block->state = NGX_WEBTORCH_BLOCK_READY;
    shared->segments++;

    ngx_webtorch_segments_list(records);

    return NGX_OK;
}


/* the configuration of this worker has it, too */

static void
ngx_webtorch_segment_use(ngx_webtorch_block_t *block)
{
    block->generation = ngx_max(block->generation,
                                ngx_webtorch_zone.generation);

    (void) ngx_webtorch_worker_add_user(block->users);
}


static size_t
ngx_webtorch_segment_head(uint32_t n)
{
    return ngx_align(sizeof(ngx_webtorch_segment_t)
                     + n * sizeof(ngx_webtorch_record_t),
                     NGX_WEBTORCH_RECORD_ALIGN);
}


/*
 * A stream whose record was taken over may have a claim on it.  It compares
 * versions before it locks a mutex, which is there for some time after that.
 */

void
ngx_webtorch_segments_free(ngx_webtorch_records_t *records)
{
    uint32_t                     i, spare;
    ngx_webtorch_block_t        *block;
    ngx_webtorch_segment_t      *segment;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;
    spare = 0;

    for (i = 0; i < records->nblocks; i++) {
        block = &shared->blocks[records->blocks[i]];
        segment = ngx_webtorch_segment_get(records->blocks[i]);

        if (segment->nfree != segment->n) {
            segment->empty = 0;
            continue;
        }

        if (segment->empty == 0) {
            segment->empty = ngx_current_msec;
        }

        if (spare++ == 0
            || ngx_current_msec - segment->empty < NGX_WEBTORCH_SEGMENT_EMPTY)
        {
            continue;
        }

        block->version = 0;
        ngx_webtorch_space_free(shared->blocks, block);
        shared->segments++;
    }

    ngx_webtorch_segments_update(records);
}
