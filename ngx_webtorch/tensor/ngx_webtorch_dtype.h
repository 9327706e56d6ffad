
/*
 * Data types of elements.
 */


#ifndef _NGX_WEBTORCH_DTYPE_H_INCLUDED_
#define _NGX_WEBTORCH_DTYPE_H_INCLUDED_


#include "ngx_webtorch_api.h"


#ifdef __cplusplus
extern "C" {
#endif


/* dtypes of numbers, which come first, and all dtypes */
#define NGX_WEBTORCH_NDTYPES     13
#define NGX_WEBTORCH_NTYPES      15


typedef enum {
    NGX_WEBTORCH_KIND_BOOL = 0,
    NGX_WEBTORCH_KIND_INTEGER,
    NGX_WEBTORCH_KIND_FLOAT,
    NGX_WEBTORCH_KIND_STRING
} ngx_webtorch_kind_e;


typedef struct {
    const char           *name;
    uint32_t              size;           /* bytes of an element */
    ngx_webtorch_kind_e   kind;
} ngx_webtorch_dtype_t;


/* indexed by WEBTORCH_BOOL and the other dtypes */
extern const ngx_webtorch_dtype_t  ngx_webtorch_dtypes[NGX_WEBTORCH_NTYPES];


static inline int
ngx_webtorch_is_string(int32_t dtype)
{
    return dtype >= WEBTORCH_STR;
}

/* converts to the nearest float of 16 bits, ties to even, or to an infinity */
uint16_t ngx_webtorch_float16(double v);
uint16_t ngx_webtorch_bfloat16(double v);

float ngx_webtorch_from_float16(uint16_t bits);
float ngx_webtorch_from_bfloat16(uint16_t bits);

/* returns an element of a numeric dtype as the nearest double */
double ngx_webtorch_number(int32_t dtype, const void *p);

/* returns 1 if all bytes are 0 or 1, the only values that a bool may have */
int ngx_webtorch_bytes_bool(const void *data, size_t len);

/* returns 1 if none of n elements is a NaN or an infinity */
int ngx_webtorch_finite(int32_t dtype, const void *data, uint64_t n);

/* returns 1 if none of n elements is an infinity; NaNs may be among them */
int ngx_webtorch_not_infinite(int32_t dtype, const void *data, uint64_t n);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_DTYPE_H_INCLUDED_ */
