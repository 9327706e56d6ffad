
/*
 * The record of a stream in the zone, which another worker can continue.
 *
 * The states have two rows.  A chunk's new states are written to the row that
 * is not current, then its answer is added to a ring, and then the number of
 * chunks is published, which says which row is current.  So a worker that is
 * killed at any line leaves the states and answers of the last whole chunk.
 */


#ifndef _NGX_WEBTORCH_RECORD_H_INCLUDED_
#define _NGX_WEBTORCH_RECORD_H_INCLUDED_


#include "ngx_webtorch_zone.h"


#define NGX_WEBTORCH_RECORD_SECRET  16

/* bytes of answers for which there is an entry in the index */
#define NGX_WEBTORCH_RECORD_ANSWER  16

#define NGX_WEBTORCH_RECORD_ALIGN   64

/* bits of an answer's kind */
#define NGX_WEBTORCH_RECORD_KIND    3


typedef enum {
    NGX_WEBTORCH_RECORD_FREE = 0,
    NGX_WEBTORCH_RECORD_ACTIVE,           /* a worker has a request for it */
    NGX_WEBTORCH_RECORD_IDLE,             /* its client may come back */
    NGX_WEBTORCH_RECORD_CLOSING           /* a worker calls close */
} ngx_webtorch_record_state_e;


/* in the zone; the records lock protects what is not under the mutex */

typedef struct {
    pthread_mutex_t               mutex;  /* robust */

    /* under the mutex, written by the owner */
    uint64_t                      owner;  /* of this one; a higher one is a
                                             later one */
    uint64_t                      progress;   /* twice the chunks that were
                                             done, plus 1 if the function has
                                             ended the stream */
    uint64_t                      reserved;   /* bytes of answers ever that are
                                             or may be in the ring */

    uint64_t                      worker; /* serial of the owner's */
    uint64_t                      time;   /* ms, in which it may come back */
    uint64_t                      expires;    /* ms, of an idle one */
    uint32_t                      state;
    uint32_t                      opened; /* its close function is to be
                                             called */
    uint32_t                      closed; /* it was: only answers are left */
    u_char                        secret[NGX_WEBTORCH_RECORD_SECRET];
    uint32_t                      kept;   /* answers outlive the call of its
                                             close function */
} ngx_webtorch_record_t;


/* layout shared by all records of a function */

typedef struct {
    size_t                        row;    /* bytes of all states, aligned */
    size_t                        ring;   /* bytes of answers that are kept */
    uint64_t                      nindex; /* answers that are kept, at most */
    size_t                        size;   /* bytes of a record's data */

    uint32_t                      nstates;
    size_t                        at[WEBTORCH_MAX_TENSORS];     /* in a row */
    size_t                        state_size[WEBTORCH_MAX_TENSORS];
} ngx_webtorch_record_form_t;


/* a record as this worker uses it */

typedef struct {
    ngx_webtorch_record_t        *record; /* NULL: none */
    ngx_webtorch_record_form_t   *form;
    u_char                       *data;   /* two rows, the index, the ring */
    uint64_t                      owner;
    uint64_t                      number; /* of its place, for its id */
    uint64_t                      version;    /* of its block */
    ngx_uint_t                    guest;  /* it only reads the answers, while
                                             the owner calls close */
} ngx_webtorch_claim_t;


/* a record's place: the number of its block, and its own in that */
#define ngx_webtorch_record_place(block, k)  ((uint64_t) (block) << 20 | (k))
#define ngx_webtorch_record_block(place)     ((uint32_t) ((place) >> 20))
#define ngx_webtorch_record_number(place)    ((uint32_t) ((place) & 0xfffff))


/* update of a record by one chunk */

typedef struct {
    const void                  **states;
    const u_char                 *answer;
    size_t                        len;
    ngx_uint_t                    kind;
    ngx_uint_t                    done;   /* it is the last one */
} ngx_webtorch_record_chunk_t;


void ngx_webtorch_record_form_init(ngx_webtorch_record_form_t *form,
    webtorch_spec_t *states, uint32_t n, size_t ring);

/* chunks that are done, and whether the function has ended the stream */
uint64_t ngx_webtorch_record_offset(ngx_webtorch_claim_t *claim);
ngx_uint_t ngx_webtorch_record_done(ngx_webtorch_claim_t *claim);

/* the current states, one after the other as the form says */
u_char *ngx_webtorch_record_row(ngx_webtorch_claim_t *claim);

/*
 * Whether another stream, here or in another worker, has the record by now, or
 * none has it.
 */
ngx_uint_t ngx_webtorch_record_lost(ngx_webtorch_claim_t *claim);

/* NGX_DECLINED: another one has it; nothing changes while it is locked */
ngx_int_t ngx_webtorch_record_lock(ngx_webtorch_claim_t *claim);
void ngx_webtorch_record_unlock(ngx_webtorch_claim_t *claim);

/* NGX_DECLINED: another one has it, nothing was changed */
ngx_int_t ngx_webtorch_record_commit(ngx_webtorch_claim_t *claim,
    ngx_webtorch_record_chunk_t *chunk);

/*
 * Whether answers are kept from number n on.  They have a kind and a length,
 * and are copied, for as long as the owner adds none.
 */
ngx_uint_t ngx_webtorch_record_keeps(ngx_webtorch_claim_t *claim, uint64_t n);
size_t ngx_webtorch_record_answer(ngx_webtorch_claim_t *claim, uint64_t n,
    ngx_uint_t *kind);
u_char *ngx_webtorch_record_copy(ngx_webtorch_claim_t *claim, uint64_t n,
    u_char *p);


#endif /* _NGX_WEBTORCH_RECORD_H_INCLUDED_ */
