
/*
 * The records of a stream function: which worker has each, and which are free.
 * They are in blocks of the zone, which are added when there are more streams,
 * and freed when they have none.
 */


#ifndef _NGX_WEBTORCH_RECORDS_H_INCLUDED_
#define _NGX_WEBTORCH_RECORDS_H_INCLUDED_


#include "ngx_webtorch_record.h"


/* hexadecimal digits of a record's id: its secret, then its place */
#define NGX_WEBTORCH_RECORD_ID  40

#define NGX_WEBTORCH_RECORD_DIGEST  16


typedef struct {
    ngx_webtorch_record_form_t  form;
    u_char                      name[WEBTORCH_MODEL_LEN];
    u_char                      digest[NGX_WEBTORCH_RECORD_DIGEST];
    uint64_t                    seen;     /* shared->segments of the list */
    ngx_uint_t                  nblocks;
    uint32_t                    blocks[NGX_WEBTORCH_MAX_BLOCKS];
    ngx_uint_t                  upkeep;   /* in "blocks": the one that was looked
                                             through last */
    uint32_t                    next;     /* where a free one is looked for: not
                                             among those that were taken last */
} ngx_webtorch_records_t;


/*
 * In a worker, before its event loop: records are found by the function's name
 * and the digest of its signature.  It has room for a stream at least if the
 * zone has.  NULL: no memory.
 */
ngx_webtorch_records_t *ngx_webtorch_records_create(
    ngx_webtorch_record_form_t *form, ngx_str_t *name, u_char *digest,
    ngx_log_t *log);

/*
 * Takes a record for a new stream, which is not opened yet; its states are
 * zeros.  Its client may come back within the time, in ms.  NGX_BUSY: the zone
 * has no room.
 */
ngx_int_t ngx_webtorch_records_add(ngx_webtorch_records_t *records,
    uint64_t time, ngx_webtorch_claim_t *claim);

/* writes its id */
void ngx_webtorch_records_id(ngx_webtorch_claim_t *claim, u_char *id);

/*
 * Takes the record of an id, from whichever stream has it, for a client that
 * has so many answers.  That of an ended stream whose close function is called
 * stays with the worker that does so, and the claim is a guest's.
 * NGX_DECLINED: there is none; NGX_ABORT: it does not keep answers from there
 * on; NGX_ERROR: it has not answered so many chunks.
 */
ngx_int_t ngx_webtorch_records_take(ngx_webtorch_records_t *records,
    ngx_str_t *id, uint64_t from, ngx_webtorch_claim_t *claim);

/* changes when a record was taken from another stream */
uint64_t ngx_webtorch_records_taken(void);

/* open has succeeded */
void ngx_webtorch_records_opened(ngx_webtorch_claim_t *claim);

/*
 * The request has ended.  Unless the record was lost: its client may come back;
 * its close function is called, and its answers are kept or not; it is free.
 */
void ngx_webtorch_records_leave(ngx_webtorch_claim_t *claim);
ngx_int_t ngx_webtorch_records_close(ngx_webtorch_claim_t *claim,
    ngx_uint_t keep);
void ngx_webtorch_records_free(ngx_webtorch_claim_t *claim);

/*
 * Whether the configuration in force does not use the records, and this worker
 * is of an earlier one.
 */
ngx_uint_t ngx_webtorch_records_orphaned(ngx_webtorch_records_t *records);

/*
 * Finds records that have expired, or with "all" that are idle, and those of
 * workers that have exited, which expire from now on; looks through a part of
 * the records in each call if they are many.  Frees them, but those
 * whose close function is to be called: takes up to n of them into claims, and
 * returns how many.
 */
ngx_uint_t ngx_webtorch_records_expire(ngx_webtorch_records_t *records,
    ngx_uint_t all, ngx_webtorch_claim_t *claims, ngx_uint_t n);


#endif /* _NGX_WEBTORCH_RECORDS_H_INCLUDED_ */
