
/* FNV-1a, the hash of n-grams, tokens, targets and keys; and one of numbers. */


#ifndef _NGX_WEBTORCH_HASH_H_INCLUDED_
#define _NGX_WEBTORCH_HASH_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#define NGX_WEBTORCH_FNV_BASIS    2166136261U
#define NGX_WEBTORCH_FNV_PRIME    16777619U

#define NGX_WEBTORCH_FNV64_BASIS  14695981039346656037ULL
#define NGX_WEBTORCH_FNV64_PRIME  1099511628211ULL


/* continues the hash h, which begins with NGX_WEBTORCH_FNV_BASIS */

static inline uint32_t
ngx_webtorch_fnv(uint32_t h, const void *data, size_t len)
{
    size_t                i;
    const unsigned char  *p;

    p = data;

    for (i = 0; i < len; i++) {
        h = (h ^ p[i]) * NGX_WEBTORCH_FNV_PRIME;
    }

    return h;
}


/* continues a hash of the numbers of an n-gram */

static inline uint32_t
ngx_webtorch_mix(uint32_t h, uint32_t symbol)
{
    h = (h ^ symbol) * 2654435769U;

    return h ^ h >> 15;
}


#endif /* _NGX_WEBTORCH_HASH_H_INCLUDED_ */
