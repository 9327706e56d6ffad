
/*
 * Nets that C evaluates itself, of ngx_webtorch_api.h.  Between the two "cdef"
 * marks the text is also cffi's cdef: declarations only.
 */


#ifndef _NGX_WEBTORCH_API_NET_H_INCLUDED_
#define _NGX_WEBTORCH_API_NET_H_INCLUDED_


#include <stdint.h>


/* cdef: begin */

/* bytes of the name of a kind of attack */
#define WEBTORCH_KIND_LEN     8

/* columns of what a field holds: values, kinds of characters, lengths, logits */
#define WEBTORCH_ALPHABET     31
#define WEBTORCH_LENGTHS      16
#define WEBTORCH_LOGITS       18
#define WEBTORCH_COUNTS       66

/* bins of a location's histogram of scores; its count comes first */
#define WEBTORCH_BINS         128


/*
 * A net over windows of fields.  A window has the sum of the rows of its
 * numbers: the first column is added to the first output, the others, with a
 * bias, go through a layer of ReLU.  The first output is the logit, the others
 * are those of kinds.
 */

typedef struct {
    uint32_t        nknown;               /* numbers that have rows */
    uint32_t        hidden;
    uint32_t        outputs;
    float           shift;                /* of the logits of requests */
    const int32_t  *known;                /* increasing */
    const float    *table;                /* [1 + nknown, 1 + hidden]; the first
                                             row is of no number */
    const float    *bias;                 /* [hidden] */
    const float    *weight;               /* [outputs, hidden] */
    const float    *out_bias;             /* [outputs] */
    const char     *kinds;                /* [outputs - 1, WEBTORCH_KIND_LEN],
                                             with zeros after them */
} webtorch_net_t;


/*
 * Tables of what the fields of a site hold, which other threads and workers
 * write meanwhile.  Sizes are powers of two; a key of 0 is none.
 */

typedef struct {
    uint32_t        nfields;
    uint32_t        nlocations;
    uint32_t        nmarks;
    const int64_t  *fields;
    const float    *counts;               /* [nfields, WEBTORCH_COUNTS] */
    const int64_t  *locations;
    const float    *scores;               /* [nlocations, 1 + WEBTORCH_BINS] */
    const int64_t  *marks;
    const int8_t   *verdicts;             /* [nmarks], -1: normal, 1: attack */
    const int64_t  *holders;              /* [nmarks], fields that may hold
                                             what scores as high, 0: none */
    const float    *levels;               /* [nmarks], these logits */
} webtorch_learned_t;


/* codes of ngx_webtorch_native_set() */

#define WEBTORCH_NATIVE_SET        0
#define WEBTORCH_NATIVE_MISSING    1    /* there is no net to keep */
#define WEBTORCH_NATIVE_REFUSED    2    /* no net that C can evaluate */
#define WEBTORCH_NATIVE_NO_MEMORY  3


/*
 * Sets a net by its number, from 0 to 15, which C copies, and tables, which it
 * uses until it gets others.  net: NULL to keep the one before; learned: NULL
 * if there are no tables.  Unless it is set, all is as it was.
 */
int ngx_webtorch_native_set(uint32_t native, const webtorch_net_t *net,
    const webtorch_learned_t *learned);

/* C uses neither net nor tables any more: it calls the handlers again */
void ngx_webtorch_native_clear(uint32_t native);

/* which net scores the requests of a handler; -1: there are too many */
int ngx_webtorch_native_use(uint32_t handler, uint32_t native);

/* cdef: end */


#endif /* _NGX_WEBTORCH_API_NET_H_INCLUDED_ */
