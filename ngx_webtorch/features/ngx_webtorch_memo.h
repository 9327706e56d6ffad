
/*
 * A memo: values that were computed for keys, in memory of fixed size.  A key
 * is kept when it comes for the second time, so that what is there once, as
 * most values of a client are, takes no room; a new entry takes the place of
 * the oldest ones.  A key is compared as a whole, so two of them are never
 * mistaken for each other; the hash of a process's own seed only finds places,
 * of which a key has few.
 */


#ifndef _NGX_WEBTORCH_MEMO_H_INCLUDED_
#define _NGX_WEBTORCH_MEMO_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


/* bytes of all entries, a power of two */
#define NGX_WEBTORCH_MEMO_RING    (4 * 1024 * 1024)

/* places, a power of two; a key may be in as many that follow each other */
#define NGX_WEBTORCH_MEMO_SLOTS   32768
#define NGX_WEBTORCH_MEMO_PROBES  4

/* keys that came once are known by their hashes, a power of two */
#define NGX_WEBTORCH_MEMO_SEEN    32768

/* bytes of a key, and of a value */
#define NGX_WEBTORCH_MEMO_KEY     8192
#define NGX_WEBTORCH_MEMO_VALUE   8192


typedef struct {
    uint64_t        at;                   /* of its entry in all that was ever
                                             written */
    uint64_t        hash;
} ngx_webtorch_memo_slot_t;


typedef struct {
    uint64_t                  seed;
    uint64_t                  head;       /* bytes that were ever written */
    uint32_t                  seen[NGX_WEBTORCH_MEMO_SEEN];
    /* all places of a key are in one cache line */
    _Alignas(64) ngx_webtorch_memo_slot_t  slots[NGX_WEBTORCH_MEMO_SLOTS];
    unsigned char             ring[NGX_WEBTORCH_MEMO_RING];
} ngx_webtorch_memo_t;


/* the key of a lookup, or of the entry to add */

typedef struct {
    uint32_t        len;                  /* 0: none, or it was too long */
    uint64_t        hash;
    _Alignas(8) unsigned char  data[NGX_WEBTORCH_MEMO_KEY];
} ngx_webtorch_memo_key_t;


/* the seed is a secret: clients choose keys */
void ngx_webtorch_memo_init(ngx_webtorch_memo_t *memo, uint64_t seed);

void ngx_webtorch_memo_clear(ngx_webtorch_memo_t *memo);

/* begins a key with the number of its kind */
void ngx_webtorch_memo_begin(ngx_webtorch_memo_key_t *key, uint32_t kind);

/* adds a part with its length */
void ngx_webtorch_memo_part(ngx_webtorch_memo_key_t *key, const void *data,
    size_t len);

/* returns the value, at a multiple of 8, until another one is added; or NULL */
const void *ngx_webtorch_memo_find(ngx_webtorch_memo_t *memo,
    ngx_webtorch_memo_key_t *key, size_t *len);

/* after a search for the key; what comes once, or is too long, is not kept */
void ngx_webtorch_memo_add(ngx_webtorch_memo_t *memo,
    const ngx_webtorch_memo_key_t *key, const void *value, size_t len);


#endif /* _NGX_WEBTORCH_MEMO_H_INCLUDED_ */
