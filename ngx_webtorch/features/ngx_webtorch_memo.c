
/* A memo of fixed size. */

#include "ngx_webtorch_memo.h"

#include <string.h>


#define NGX_WEBTORCH_MEMO_MIX  0x9e3779b97f4a7c15ULL


/* before the key and the value, each of a multiple of 8 bytes */

typedef struct {
    uint32_t  key_len;
    uint32_t  len;
} ngx_webtorch_memo_entry_t;


__extension__ typedef unsigned __int128  ngx_webtorch_memo_product_t;


static uint64_t ngx_webtorch_memo_hash(uint64_t seed, const unsigned char *p,
    size_t len);
static inline uint64_t ngx_webtorch_memo_mix(uint64_t a, uint64_t b);
static int ngx_webtorch_memo_kept(const ngx_webtorch_memo_t *memo,
    const ngx_webtorch_memo_slot_t *slot);


static inline size_t
ngx_webtorch_memo_aligned(size_t len)
{
    return (len + 7) & ~(size_t) 7;
}


void
ngx_webtorch_memo_init(ngx_webtorch_memo_t *memo, uint64_t seed)
{
    memo->seed = seed;

    ngx_webtorch_memo_clear(memo);
}


/* a slot of zeros is of an entry that was overwritten long ago */

void
ngx_webtorch_memo_clear(ngx_webtorch_memo_t *memo)
{
    memset(memo->slots, 0, sizeof(memo->slots));
    memset(memo->seen, 0, sizeof(memo->seen));

    memo->head = 2 * NGX_WEBTORCH_MEMO_RING;
}


void
ngx_webtorch_memo_begin(ngx_webtorch_memo_key_t *key, uint32_t kind)
{
    key->len = sizeof(uint32_t);

    memcpy(key->data, &kind, sizeof(uint32_t));
}


void
ngx_webtorch_memo_part(ngx_webtorch_memo_key_t *key, const void *data,
    size_t len)
{
    uint32_t  n;

    if (key->len == 0) {
        return;
    }

    if (len > NGX_WEBTORCH_MEMO_KEY
        || key->len + sizeof(uint32_t) + len > NGX_WEBTORCH_MEMO_KEY)
    {
        key->len = 0;
        return;
    }

    n = (uint32_t) len;

    memcpy(key->data + key->len, &n, sizeof(uint32_t));

    if (len) {
        memcpy(key->data + key->len + sizeof(uint32_t), data, len);
    }

    key->len += (uint32_t) sizeof(uint32_t) + n;
}


const void *
ngx_webtorch_memo_find(ngx_webtorch_memo_t *memo, ngx_webtorch_memo_key_t *key,
    size_t *len)
{
    uint32_t                          i;
    const unsigned char              *p;
    const ngx_webtorch_memo_slot_t   *slot;
    const ngx_webtorch_memo_entry_t  *entry;

    if (key->len == 0) {
        return NULL;
    }

    key->hash = ngx_webtorch_memo_hash(memo->seed, key->data, key->len);
    slot = &memo->slots[key->hash & (NGX_WEBTORCH_MEMO_SLOTS - 1)
                        & ~(NGX_WEBTORCH_MEMO_PROBES - 1ULL)];

    for (i = 0; i < NGX_WEBTORCH_MEMO_PROBES; i++, slot++) {

        if (slot->hash != key->hash || !ngx_webtorch_memo_kept(memo, slot)) {
            continue;
        }

        p = memo->ring + slot->at % NGX_WEBTORCH_MEMO_RING;
        entry = (const ngx_webtorch_memo_entry_t *) p;
        p += sizeof(ngx_webtorch_memo_entry_t);

        if (entry->key_len == key->len
            && memcmp(p, key->data, key->len) == 0)
        {
            *len = entry->len;
            return p + ngx_webtorch_memo_aligned(key->len);
        }
    }

    return NULL;
}


void
ngx_webtorch_memo_add(ngx_webtorch_memo_t *memo,
    const ngx_webtorch_memo_key_t *key, const void *value, size_t len)
{
    size_t                      size, left;
    uint32_t                    i, *seen;
    unsigned char              *p;
    ngx_webtorch_memo_slot_t   *slot, *oldest;
    ngx_webtorch_memo_entry_t  *entry;

    if (key->len == 0 || len > NGX_WEBTORCH_MEMO_VALUE) {
        return;
    }

    seen = &memo->seen[(key->hash >> 32) & (NGX_WEBTORCH_MEMO_SEEN - 1)];

    if (*seen != (uint32_t) key->hash) {
        *seen = (uint32_t) key->hash;
        return;
    }

    slot = &memo->slots[key->hash & (NGX_WEBTORCH_MEMO_SLOTS - 1)
                        & ~(NGX_WEBTORCH_MEMO_PROBES - 1ULL)];
    oldest = slot;

    for (i = 1; i < NGX_WEBTORCH_MEMO_PROBES; i++) {
        oldest = (slot[i].at < oldest->at) ? &slot[i] : oldest;
    }

    size = sizeof(ngx_webtorch_memo_entry_t)
           + ngx_webtorch_memo_aligned(key->len)
           + ngx_webtorch_memo_aligned(len);

    /* an entry is in one piece */

    left = NGX_WEBTORCH_MEMO_RING - memo->head % NGX_WEBTORCH_MEMO_RING;

    if (left < size) {
        memo->head += left;
    }

    oldest->hash = key->hash;
    oldest->at = memo->head;

    p = memo->ring + memo->head % NGX_WEBTORCH_MEMO_RING;
    entry = (ngx_webtorch_memo_entry_t *) p;
    entry->key_len = key->len;
    entry->len = (uint32_t) len;
    p += sizeof(ngx_webtorch_memo_entry_t);

    memcpy(p, key->data, key->len);

    if (len) {
        memcpy(p + ngx_webtorch_memo_aligned(key->len), value, len);
    }

    memo->head += size;
}


/* whether no entry has been written over it */

static int
ngx_webtorch_memo_kept(const ngx_webtorch_memo_t *memo,
    const ngx_webtorch_memo_slot_t *slot)
{
    return memo->head - slot->at <= NGX_WEBTORCH_MEMO_RING;
}


/*
 * Both halves of products with the seed count: without it no keys of the same
 * hash can be made.
 */

static uint64_t
ngx_webtorch_memo_hash(uint64_t seed, const unsigned char *p, size_t len)
{
    uint64_t  h, word;

    h = seed ^ len * NGX_WEBTORCH_MEMO_MIX;

    for ( /* void */ ; len >= 8; p += 8, len -= 8) {
        memcpy(&word, p, 8);
        h = ngx_webtorch_memo_mix(word ^ seed, h ^ NGX_WEBTORCH_MEMO_MIX);
    }

    word = 0;

    if (len) {
        memcpy(&word, p, len);
    }

    h = ngx_webtorch_memo_mix(word ^ seed, h ^ NGX_WEBTORCH_MEMO_MIX);

    return ngx_webtorch_memo_mix(h ^ NGX_WEBTORCH_MEMO_MIX, seed | 1);
}


static inline uint64_t
ngx_webtorch_memo_mix(uint64_t a, uint64_t b)
{
    ngx_webtorch_memo_product_t  product;

    product = (ngx_webtorch_memo_product_t) a * b;

    return (uint64_t) product ^ (uint64_t) (product >> 64);
}
