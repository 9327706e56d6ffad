
#include "ngx_webtorch_record.h"
#include "ngx_webtorch_robust.h"


#define ngx_webtorch_record_align(n)                                          \
    ngx_align(n, NGX_WEBTORCH_RECORD_ALIGN)


static uint64_t *ngx_webtorch_record_index(ngx_webtorch_claim_t *claim,
    uint64_t n);
static uint64_t ngx_webtorch_record_end(ngx_webtorch_claim_t *claim,
    uint64_t n);
static u_char *ngx_webtorch_record_ring(ngx_webtorch_claim_t *claim);
static void ngx_webtorch_record_write(ngx_webtorch_claim_t *claim,
    uint64_t at, const u_char *answer, size_t len);


void
ngx_webtorch_record_form_init(ngx_webtorch_record_form_t *form,
    webtorch_spec_t *states, uint32_t n, size_t ring)
{
    uint32_t  i;

    ngx_memzero(form, sizeof(ngx_webtorch_record_form_t));

    form->nstates = n;
    form->ring = ring;
    form->nindex = ring / NGX_WEBTORCH_RECORD_ANSWER + 2;

    for (i = 0; i < n; i++) {
        form->at[i] = form->row;
        form->state_size[i] = (size_t) states[i].row_size;
        form->row += ngx_webtorch_record_align(form->state_size[i]);
    }

    form->size = 2 * form->row
                 + ngx_webtorch_record_align(form->nindex * sizeof(uint64_t))
                 + ngx_webtorch_record_align(ring);
}


uint64_t
ngx_webtorch_record_offset(ngx_webtorch_claim_t *claim)
{
    return claim->record->progress / 2;
}


ngx_uint_t
ngx_webtorch_record_done(ngx_webtorch_claim_t *claim)
{
    return claim->record->progress % 2;
}


u_char *
ngx_webtorch_record_row(ngx_webtorch_claim_t *claim)
{
    return claim->data
           + ngx_webtorch_record_offset(claim) % 2 * claim->form->row;
}


ngx_uint_t
ngx_webtorch_record_lost(ngx_webtorch_claim_t *claim)
{
    uint32_t  block;

    block = ngx_webtorch_record_block(claim->number);

    return ngx_webtorch_zone.shared->blocks[block].version != claim->version
           || *(volatile uint64_t *) &claim->record->owner != claim->owner;
}


ngx_int_t
ngx_webtorch_record_lock(ngx_webtorch_claim_t *claim)
{
    ngx_webtorch_record_t  *record;

    record = claim->record;

    /* the mutex may be gone */

    if (ngx_webtorch_record_lost(claim)) {
        return NGX_DECLINED;
    }

    /* the mutex of an owner that was killed is of a record that is whole */

    (void) ngx_webtorch_robust_lock(&record->mutex);

    if (record->owner != claim->owner) {
        (void) pthread_mutex_unlock(&record->mutex);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


void
ngx_webtorch_record_unlock(ngx_webtorch_claim_t *claim)
{
    (void) pthread_mutex_unlock(&claim->record->mutex);
}


ngx_int_t
ngx_webtorch_record_commit(ngx_webtorch_claim_t *claim,
    ngx_webtorch_record_chunk_t *chunk)
{
    u_char                      *row;
    uint32_t                     i;
    uint64_t                     n, at;
    ngx_webtorch_record_t       *record;
    ngx_webtorch_record_form_t  *form;

    record = claim->record;
    form = claim->form;

    if (ngx_webtorch_record_lock(claim) != NGX_OK) {
        return NGX_DECLINED;
    }

    n = record->progress / 2;
    row = claim->data + (n + 1) % 2 * form->row;

    for (i = 0; i < form->nstates; i++) {
        ngx_memcpy(row + form->at[i], chunk->states[i], form->state_size[i]);
    }

    at = n ? ngx_webtorch_record_end(claim, n - 1) : 0;

    /*
     * Bytes that may have been overwritten are not read any more, also those
     * that an owner has overwritten who was killed then.
     */

    if (chunk->len <= form->ring) {
        record->reserved = ngx_max(record->reserved, at + chunk->len);
    }

    ngx_memory_barrier();

    *ngx_webtorch_record_index(claim, n) =
                 (at + chunk->len) << NGX_WEBTORCH_RECORD_KIND | chunk->kind;

    if (chunk->len <= form->ring) {
        ngx_webtorch_record_write(claim, at, chunk->answer, chunk->len);
    }

    ngx_memory_barrier();

    *(volatile uint64_t *) &record->progress = 2 * (n + 1) + chunk->done;

    ngx_webtorch_record_unlock(claim);

    return NGX_OK;
}


/*
 * The answer before it says where it begins.  The entry of the oldest answer
 * may be that of one that is being written.
 */

ngx_uint_t
ngx_webtorch_record_keeps(ngx_webtorch_claim_t *claim, uint64_t n)
{
    uint64_t  at, end, done;

    done = ngx_webtorch_record_offset(claim);

    if (n >= done) {
        return n == done;
    }

    if (done - n > claim->form->nindex - 2) {
        return 0;
    }

    at = n ? ngx_webtorch_record_end(claim, n - 1) : 0;

    end = ngx_webtorch_record_end(claim, done - 1);

    return ngx_max(end, claim->record->reserved) - at <= claim->form->ring;
}


size_t
ngx_webtorch_record_answer(ngx_webtorch_claim_t *claim, uint64_t n,
    ngx_uint_t *kind)
{
    uint64_t  at;

    at = n ? ngx_webtorch_record_end(claim, n - 1) : 0;

    *kind = (ngx_uint_t) (*ngx_webtorch_record_index(claim, n)
                          & ((1 << NGX_WEBTORCH_RECORD_KIND) - 1));

    return (size_t) (ngx_webtorch_record_end(claim, n) - at);
}


u_char *
ngx_webtorch_record_copy(ngx_webtorch_claim_t *claim, uint64_t n, u_char *p)
{
    size_t       len, left;
    u_char      *ring;
    uint64_t     at;
    ngx_uint_t   kind;

    len = ngx_webtorch_record_answer(claim, n, &kind);
    at = (n ? ngx_webtorch_record_end(claim, n - 1) : 0) % claim->form->ring;

    ring = ngx_webtorch_record_ring(claim);
    left = ngx_min(len, claim->form->ring - at);

    p = ngx_cpymem(p, ring + at, left);

    return ngx_cpymem(p, ring, len - left);
}


static uint64_t *
ngx_webtorch_record_index(ngx_webtorch_claim_t *claim, uint64_t n)
{
    uint64_t  *index;

    index = (uint64_t *) (claim->data + 2 * claim->form->row);

    return &index[n % claim->form->nindex];
}


/* bytes of all answers up to this one */

static uint64_t
ngx_webtorch_record_end(ngx_webtorch_claim_t *claim, uint64_t n)
{
    return *ngx_webtorch_record_index(claim, n) >> NGX_WEBTORCH_RECORD_KIND;
}


static u_char *
ngx_webtorch_record_ring(ngx_webtorch_claim_t *claim)
{
    ngx_webtorch_record_form_t  *form;

    form = claim->form;

    return claim->data + 2 * form->row
           + ngx_webtorch_record_align(form->nindex * sizeof(uint64_t));
}


static void
ngx_webtorch_record_write(ngx_webtorch_claim_t *claim, uint64_t at,
    const u_char *answer, size_t len)
{
    size_t   left;
    u_char  *ring;

    at %= claim->form->ring;

    ring = ngx_webtorch_record_ring(claim);
    left = ngx_min(len, claim->form->ring - at);

    ngx_memcpy(ring + at, answer, left);
    ngx_memcpy(ring, answer + left, len - left);
}
