
/* Blocks of the zone with records of streams. */


#ifndef _NGX_WEBTORCH_SEGMENT_H_INCLUDED_
#define _NGX_WEBTORCH_SEGMENT_H_INCLUDED_


#include "ngx_webtorch_records.h"


/* records of a block, which are looked through within 0.2 ms */
#define NGX_WEBTORCH_SEGMENT_MAX  16384


/* the records are followed by their data */

typedef struct {
    uint32_t               n;
    uint32_t               nfree;         /* counted again at times */
    uint64_t               empty;         /* ms, since when; 0: it is not */
    ngx_webtorch_record_t  records[];
} ngx_webtorch_segment_t;


/* all functions below are called with the records lock held */

ngx_webtorch_segment_t *ngx_webtorch_segment_get(uint32_t block);
ngx_webtorch_segment_t *ngx_webtorch_segment_of(ngx_webtorch_claim_t *claim);

/* sets a claim to a record, which it does not own yet */
void ngx_webtorch_segment_claim(ngx_webtorch_records_t *records,
    uint32_t block, uint32_t k, ngx_webtorch_claim_t *claim);

/* finds blocks that others have added or freed; update: if there are any */
void ngx_webtorch_segments_list(ngx_webtorch_records_t *records);
void ngx_webtorch_segments_update(ngx_webtorch_records_t *records);

/* with the zone's lock, too; NGX_ERROR: there is no room */
ngx_int_t ngx_webtorch_segment_add(ngx_webtorch_records_t *records);

/* with the zone's lock: frees blocks without streams, but one */
void ngx_webtorch_segments_free(ngx_webtorch_records_t *records);


#endif /* _NGX_WEBTORCH_SEGMENT_H_INCLUDED_ */
