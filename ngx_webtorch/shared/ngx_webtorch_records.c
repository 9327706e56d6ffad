
#include "ngx_webtorch_records.h"
#include "ngx_webtorch_robust.h"
#include "ngx_webtorch_segment.h"
#include "ngx_webtorch_worker.h"

#include <sys/random.h>


/* places are block and index of a record in it */
#define NGX_WEBTORCH_RECORDS_PLACE  (NGX_WEBTORCH_RECORD_ID                   \
                                     - 2 * NGX_WEBTORCH_RECORD_SECRET)


/* one round over all records */

typedef struct {
    uint64_t               now;
    uint64_t               worker;        /* that was looked at last */
    ngx_uint_t             runs;          /* whether it does */
    ngx_uint_t             locked;        /* the zone: workers can be seen */
    ngx_uint_t             all;
    ngx_webtorch_claim_t  *claims;
    ngx_uint_t             n;
    ngx_uint_t             found;
} ngx_webtorch_expiry_t;


static void ngx_webtorch_records_lock(void);
static void ngx_webtorch_records_unlock(void);
static ngx_int_t ngx_webtorch_records_find_free(
    ngx_webtorch_records_t *records, ngx_webtorch_claim_t *claim);
static ngx_int_t ngx_webtorch_records_evict(ngx_webtorch_records_t *records,
    ngx_webtorch_claim_t *claim);
static ngx_int_t ngx_webtorch_records_find(ngx_webtorch_records_t *records,
    ngx_str_t *id, ngx_webtorch_claim_t *claim);
static ngx_uint_t ngx_webtorch_records_same(const u_char *a, const u_char *b);
static ngx_int_t ngx_webtorch_records_check(ngx_webtorch_claim_t *claim,
    uint64_t from);
static void ngx_webtorch_records_own(ngx_webtorch_claim_t *claim,
    ngx_webtorch_record_state_e state);
static void ngx_webtorch_records_set_free(ngx_webtorch_record_t *record);
static void ngx_webtorch_records_expire_segment(
    ngx_webtorch_records_t *records, uint32_t block,
    ngx_webtorch_expiry_t *expiry);
static ngx_uint_t ngx_webtorch_records_expired(ngx_webtorch_record_t *record,
    ngx_webtorch_expiry_t *expiry);
static ngx_uint_t ngx_webtorch_records_abandoned(
    ngx_webtorch_record_t *record, ngx_webtorch_expiry_t *expiry);


ngx_webtorch_records_t *
ngx_webtorch_records_create(ngx_webtorch_record_form_t *form, ngx_str_t *name,
    u_char *digest, ngx_log_t *log)
{
    ngx_webtorch_records_t  *records;

    records = ngx_calloc(sizeof(ngx_webtorch_records_t), log);
    if (records == NULL) {
        return NULL;
    }

    records->form = *form;
    ngx_memcpy(records->digest, digest, NGX_WEBTORCH_RECORD_DIGEST);
    (void) ngx_cpystrn(records->name, name->data,
                       ngx_min(name->len + 1, WEBTORCH_MODEL_LEN));

    /* in this order: other workers' event loops need the lock of records */

    ngx_webtorch_zone_lock();
    ngx_webtorch_records_lock();

    ngx_webtorch_segments_list(records);

    if (records->nblocks == 0) {
        (void) ngx_webtorch_segment_add(records);
    }

    ngx_webtorch_records_unlock();
    ngx_webtorch_zone_unlock();

    return records;
}


/*
 * The state of a record changes by one store: a process that is killed leaves
 * it as it was, or as it is to be.
 */

static void
ngx_webtorch_records_lock(void)
{
    (void) ngx_webtorch_robust_lock(&ngx_webtorch_zone.shared->streams);
}


static void
ngx_webtorch_records_unlock(void)
{
    (void) pthread_mutex_unlock(&ngx_webtorch_zone.shared->streams);
}


ngx_int_t
ngx_webtorch_records_add(ngx_webtorch_records_t *records, uint64_t time,
    ngx_webtorch_claim_t *claim)
{
    u_char                  secret[NGX_WEBTORCH_RECORD_SECRET];
    ngx_int_t               rc;
    ngx_webtorch_record_t  *record;

    if (ngx_webtorch_worker_serial() == 0
        || getrandom(secret, sizeof(secret), 0) != sizeof(secret))
    {
        return NGX_BUSY;
    }

    ngx_webtorch_records_lock();

    ngx_webtorch_segments_update(records);

    rc = ngx_webtorch_records_find_free(records, claim);

    /* a worker that fills a block of the zone is not waited for */

    if (rc != NGX_OK && ngx_webtorch_zone_trylock() != NGX_BUSY) {
        (void) ngx_webtorch_segment_add(records);
        ngx_webtorch_zone_unlock();

        rc = ngx_webtorch_records_find_free(records, claim);
    }

    if (rc != NGX_OK) {
        rc = ngx_webtorch_records_evict(records, claim);
    }

    if (rc == NGX_OK) {
        record = claim->record;

        record->progress = 0;
        record->reserved = 0;
        record->opened = 0;
        record->closed = 0;
        record->kept = 0;
        record->time = time;
        ngx_memcpy(record->secret, secret, sizeof(secret));
        ngx_memzero(claim->data, records->form.row);

        ngx_webtorch_records_own(claim, NGX_WEBTORCH_RECORD_ACTIVE);
    }

    ngx_webtorch_records_unlock();

    return rc;
}


static ngx_int_t
ngx_webtorch_records_find_free(ngx_webtorch_records_t *records,
    ngx_webtorch_claim_t *claim)
{
    uint32_t                 i, j, k;
    ngx_webtorch_segment_t  *segment;

    for (i = 0; i < records->nblocks; i++) {
        segment = ngx_webtorch_segment_get(records->blocks[i]);

        if (segment->nfree == 0) {
            continue;
        }

        for (j = 0; j < segment->n; j++) {
            k = (records->next + j) % segment->n;

            if (segment->records[k].state == NGX_WEBTORCH_RECORD_FREE) {
                segment->nfree--;
                records->next = k + 1;
                ngx_webtorch_segment_claim(records, records->blocks[i], k,
                                           claim);
                return NGX_OK;
            }
        }

        /* the count of a worker that was killed */
        segment->nfree = 0;
    }

    return NGX_BUSY;
}


/* the oldest of those that have ended and only keep their answers */

static ngx_int_t
ngx_webtorch_records_evict(ngx_webtorch_records_t *records,
    ngx_webtorch_claim_t *claim)
{
    uint32_t                 i, k;
    ngx_int_t                rc;
    uint64_t                 oldest;
    ngx_webtorch_record_t   *record;
    ngx_webtorch_segment_t  *segment;

    rc = NGX_BUSY;
    oldest = (uint64_t) -1;

    for (i = 0; i < records->nblocks; i++) {
        segment = ngx_webtorch_segment_get(records->blocks[i]);

        for (k = 0; k < segment->n; k++) {
            record = &segment->records[k];

            if (record->state == NGX_WEBTORCH_RECORD_IDLE
                && record->closed
                && record->expires < oldest)
            {
                oldest = record->expires;
                ngx_webtorch_segment_claim(records, records->blocks[i], k,
                                           claim);
                rc = NGX_OK;
            }
        }
    }

    return rc;
}


void
ngx_webtorch_records_id(ngx_webtorch_claim_t *claim, u_char *id)
{
    u_char  *p;

    p = ngx_hex_dump(id, claim->record->secret, NGX_WEBTORCH_RECORD_SECRET);

    (void) ngx_sprintf(p, "%08xD", (uint32_t) claim->number);
}


ngx_int_t
ngx_webtorch_records_take(ngx_webtorch_records_t *records, ngx_str_t *id,
    uint64_t from, ngx_webtorch_claim_t *claim)
{
    ngx_int_t               rc;
    ngx_webtorch_record_t  *record;

    ngx_webtorch_records_lock();

    ngx_webtorch_segments_update(records);

    rc = NGX_DECLINED;

    if (ngx_webtorch_worker_serial()) {
        rc = ngx_webtorch_records_find(records, id, claim);
    }

    if (rc == NGX_OK) {
        record = claim->record;

        /* no chunk is added meanwhile */

        (void) ngx_webtorch_robust_lock(&record->mutex);

        rc = ngx_webtorch_records_check(claim, from);

        if (rc == NGX_OK && record->state == NGX_WEBTORCH_RECORD_CLOSING) {
            claim->guest = 1;
            claim->owner = record->owner;

        } else if (rc == NGX_OK) {
            if (record->state == NGX_WEBTORCH_RECORD_ACTIVE) {
                ngx_webtorch_zone.shared->taken++;
            }

            ngx_webtorch_records_own(claim, NGX_WEBTORCH_RECORD_ACTIVE);
        }

        (void) pthread_mutex_unlock(&record->mutex);
    }

    ngx_webtorch_records_unlock();

    if (rc != NGX_OK) {
        claim->record = NULL;
    }

    return rc;
}


static ngx_int_t
ngx_webtorch_records_check(ngx_webtorch_claim_t *claim, uint64_t from)
{
    if (from > ngx_webtorch_record_offset(claim)) {
        return NGX_ERROR;
    }

    return ngx_webtorch_record_keeps(claim, from) ? NGX_OK : NGX_ABORT;
}


static ngx_int_t
ngx_webtorch_records_find(ngx_webtorch_records_t *records, ngx_str_t *id,
    ngx_webtorch_claim_t *claim)
{
    u_char                   digits[NGX_WEBTORCH_RECORD_ID];
    uint32_t                 i, block, k;
    ngx_int_t                place;
    ngx_webtorch_record_t   *record;
    ngx_webtorch_segment_t  *segment;

    if (id->len != NGX_WEBTORCH_RECORD_ID) {
        return NGX_DECLINED;
    }

    place = ngx_hextoi(id->data + 2 * NGX_WEBTORCH_RECORD_SECRET,
                       NGX_WEBTORCH_RECORDS_PLACE);

    if (place == NGX_ERROR) {
        return NGX_DECLINED;
    }

    block = ngx_webtorch_record_block(place);
    k = ngx_webtorch_record_number(place);

    for (i = 0; i < records->nblocks; i++) {
        if (records->blocks[i] == block) {
            break;
        }
    }

    if (i == records->nblocks) {
        return NGX_DECLINED;
    }

    segment = ngx_webtorch_segment_get(block);

    if (k >= segment->n) {
        return NGX_DECLINED;
    }

    record = &segment->records[k];

    if (record->state == NGX_WEBTORCH_RECORD_FREE
        || (record->state == NGX_WEBTORCH_RECORD_CLOSING && !record->kept)
        || !record->opened)
    {
        return NGX_DECLINED;
    }

    (void) ngx_hex_dump(digits, record->secret, NGX_WEBTORCH_RECORD_SECRET);

    if (!ngx_webtorch_records_same(digits, id->data)) {
        return NGX_DECLINED;
    }

    ngx_webtorch_segment_claim(records, block, k, claim);

    return NGX_OK;
}


/* the time does not say how many digits are right */

static ngx_uint_t
ngx_webtorch_records_same(const u_char *a, const u_char *b)
{
    u_char      differ;
    ngx_uint_t  i;

    differ = 0;

    for (i = 0; i < 2 * NGX_WEBTORCH_RECORD_SECRET; i++) {
        differ |= a[i] ^ b[i];
    }

    return differ == 0;
}


uint64_t
ngx_webtorch_records_taken(void)
{
    return *(volatile uint64_t *) &ngx_webtorch_zone.shared->taken;
}


/* waits for a chunk that the owner before is writing, for microseconds */

static void
ngx_webtorch_records_own(ngx_webtorch_claim_t *claim,
    ngx_webtorch_record_state_e state)
{
    ngx_webtorch_record_t  *record;

    record = claim->record;
    claim->owner = ++ngx_webtorch_zone.shared->owner;

    (void) ngx_webtorch_robust_lock(&record->mutex);

    record->worker = ngx_webtorch_worker_serial();
    record->owner = claim->owner;
    record->state = state;

    (void) pthread_mutex_unlock(&record->mutex);
}


void
ngx_webtorch_records_opened(ngx_webtorch_claim_t *claim)
{
    claim->record->opened = 1;
}


void
ngx_webtorch_records_leave(ngx_webtorch_claim_t *claim)
{
    ngx_webtorch_record_t  *record;

    record = claim->record;

    ngx_webtorch_records_lock();

    if (!claim->guest && !ngx_webtorch_record_lost(claim)) {
        record->expires = ngx_current_msec + record->time;
        record->state = NGX_WEBTORCH_RECORD_IDLE;
    }

    ngx_webtorch_records_unlock();
}


ngx_int_t
ngx_webtorch_records_close(ngx_webtorch_claim_t *claim, ngx_uint_t keep)
{
    ngx_int_t               rc;
    ngx_webtorch_record_t  *record;

    rc = NGX_DECLINED;
    record = claim->record;

    ngx_webtorch_records_lock();

    if (!ngx_webtorch_record_lost(claim) && !record->closed) {
        record->closed = 1;
        record->kept = (uint32_t) keep;
        record->state = NGX_WEBTORCH_RECORD_CLOSING;
        rc = NGX_OK;
    }

    ngx_webtorch_records_unlock();

    return rc;
}


void
ngx_webtorch_records_free(ngx_webtorch_claim_t *claim)
{
    ngx_webtorch_records_lock();

    if (!ngx_webtorch_record_lost(claim)) {
        ngx_webtorch_records_set_free(claim->record);
        ngx_webtorch_segment_of(claim)->nfree++;
    }

    ngx_webtorch_records_unlock();
}


/* no id is that of a free record */

static void
ngx_webtorch_records_set_free(ngx_webtorch_record_t *record)
{
    ngx_memzero(record->secret, NGX_WEBTORCH_RECORD_SECRET);
    record->opened = 0;
    record->owner = 0;
    record->state = NGX_WEBTORCH_RECORD_FREE;
}


ngx_uint_t
ngx_webtorch_records_orphaned(ngx_webtorch_records_t *records)
{
    ngx_uint_t                   i, orphaned;
    ngx_webtorch_shared_zone_t  *shared;

    shared = ngx_webtorch_zone.shared;

    if (shared->in_force <= ngx_webtorch_zone.generation) {
        return 0;
    }

    ngx_webtorch_records_lock();

    ngx_webtorch_segments_update(records);

    orphaned = 1;

    for (i = 0; i < records->nblocks; i++) {
        if (shared->blocks[records->blocks[i]].generation >= shared->in_force) {
            orphaned = 0;
            break;
        }
    }

    ngx_webtorch_records_unlock();

    return orphaned;
}


ngx_uint_t
ngx_webtorch_records_expire(ngx_webtorch_records_t *records, ngx_uint_t all,
    ngx_webtorch_claim_t *claims, ngx_uint_t n)
{
    size_t                 seen;
    uint32_t               block;
    ngx_uint_t             i;
    ngx_webtorch_expiry_t  expiry;

    seen = 0;

    ngx_memzero(&expiry, sizeof(ngx_webtorch_expiry_t));

    expiry.now = ngx_current_msec;
    expiry.all = all;
    expiry.claims = claims;
    expiry.n = n;

    ngx_webtorch_records_lock();

    expiry.locked = (ngx_webtorch_zone_trylock() != NGX_BUSY);

    ngx_webtorch_segments_update(records);

    /* a worker that exits looks at all of them, and only once */

    for (i = 0; i < records->nblocks; i++) {
        records->upkeep = (records->upkeep + 1) % records->nblocks;
        block = records->blocks[records->upkeep];
        seen += ngx_webtorch_segment_get(block)->n;

        if (i && seen > NGX_WEBTORCH_SEGMENT_MAX && !all) {
            records->upkeep += records->nblocks - 1;
            break;
        }

        ngx_webtorch_records_expire_segment(records, block, &expiry);
    }

    if (expiry.locked) {
        ngx_webtorch_segments_free(records);
        ngx_webtorch_zone_unlock();
    }

    ngx_webtorch_records_unlock();

    return expiry.found;
}


static void
ngx_webtorch_records_expire_segment(ngx_webtorch_records_t *records,
    uint32_t block, ngx_webtorch_expiry_t *expiry)
{
    uint32_t                 k, nfree;
    ngx_webtorch_claim_t    *claim;
    ngx_webtorch_record_t   *record;
    ngx_webtorch_segment_t  *segment;

    nfree = 0;
    segment = ngx_webtorch_segment_get(block);

    for (k = 0; k < segment->n; k++) {
        record = &segment->records[k];

        if (ngx_webtorch_records_expired(record, expiry)) {

            if (!record->opened || record->closed) {
                ngx_webtorch_records_set_free(record);

            } else if (expiry->found < expiry->n) {
                claim = &expiry->claims[expiry->found++];

                ngx_webtorch_segment_claim(records, block, k, claim);
                record->closed = 1;
                ngx_webtorch_records_own(claim, NGX_WEBTORCH_RECORD_CLOSING);
            }
        }

        nfree += (record->state == NGX_WEBTORCH_RECORD_FREE);
    }

    segment->nfree = nfree;
}


static ngx_uint_t
ngx_webtorch_records_expired(ngx_webtorch_record_t *record,
    ngx_webtorch_expiry_t *expiry)
{
    switch (record->state) {

    case NGX_WEBTORCH_RECORD_IDLE:
        return expiry->all || record->expires <= expiry->now;

    case NGX_WEBTORCH_RECORD_ACTIVE:

        if (!ngx_webtorch_records_abandoned(record, expiry)) {
            return 0;
        }

        if (!record->opened || expiry->all) {
            return 1;
        }

        record->expires = expiry->now + record->time;
        record->state = NGX_WEBTORCH_RECORD_IDLE;

        return 0;

    case NGX_WEBTORCH_RECORD_CLOSING:

        /* the worker was killed in the call, which is not repeated */

        return ngx_webtorch_records_abandoned(record, expiry);

    default: /* NGX_WEBTORCH_RECORD_FREE */
        return 0;
    }
}


static ngx_uint_t
ngx_webtorch_records_abandoned(ngx_webtorch_record_t *record,
    ngx_webtorch_expiry_t *expiry)
{
    if (!expiry->locked) {
        return 0;
    }

    if (record->worker != expiry->worker) {
        expiry->worker = record->worker;
        expiry->runs = ngx_webtorch_worker_runs(record->worker);
    }

    return !expiry->runs;
}
