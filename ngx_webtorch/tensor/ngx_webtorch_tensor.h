
/*
 * Data types, shapes, rows.  Neither nginx nor Python is known here, so that
 * codecs can be tested and fuzzed alone.
 */


#ifndef _NGX_WEBTORCH_TENSOR_H_INCLUDED_
#define _NGX_WEBTORCH_TENSOR_H_INCLUDED_


#include "ngx_webtorch_api.h"


#ifdef __cplusplus
extern "C" {
#endif


#if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
#error "binary formats are little-endian, and so must be this machine"
#endif


/* of numbers, and of all elements */
#define NGX_WEBTORCH_NDTYPES     13
#define NGX_WEBTORCH_NTYPES      15

/* "[batch, channels, 224]": names, or numbers of 20 digits, and commas */
#define NGX_WEBTORCH_SHAPE_LEN                                                \
    ((WEBTORCH_MAX_DIMS + 1) * (WEBTORCH_NAME_LEN + sizeof(", ")))


typedef enum {
    NGX_WEBTORCH_KIND_BOOL = 0,
    NGX_WEBTORCH_KIND_INTEGER,
    NGX_WEBTORCH_KIND_FLOAT,
    NGX_WEBTORCH_KIND_STRING
} ngx_webtorch_kind_e;


typedef struct {
    const char           *name;
    uint32_t              size;           /* of an element, in bytes */
    ngx_webtorch_kind_e   kind;
} ngx_webtorch_dtype_t;


extern const ngx_webtorch_dtype_t  ngx_webtorch_dtypes[NGX_WEBTORCH_NTYPES];


/* elements of a row whose axes all have a size */
uint64_t ngx_webtorch_row_elements(const webtorch_spec_t *spec);

/* bytes of a row with the sizes of variable axes; UINT64_MAX: too many */
uint64_t ngx_webtorch_row_size(const webtorch_spec_t *spec,
    const int64_t *sizes);

/* how many rows so many elements are, with the sizes of variable axes */
uint64_t ngx_webtorch_rows_of(const webtorch_spec_t *spec,
    const int64_t *sizes, uint64_t elements);

/* puts the sizes of variable axes into a copy of a spec */
void ngx_webtorch_resolve(webtorch_spec_t *resolved,
    const webtorch_spec_t *spec, const int64_t *sizes);

/* writes "[batch, 2]", or "[2]" where a call is one request */
const char *ngx_webtorch_spec_shape(char *text, const webtorch_spec_t *spec,
    const webtorch_schema_t *schema);

static inline int
ngx_webtorch_is_string(int32_t dtype)
{
    return dtype >= WEBTORCH_STR;
}

/* bytes of the strings in rows of an output; 0: it has none */
uint64_t ngx_webtorch_text_size(const webtorch_spec_t *spec, const void *data,
    uint32_t rows);

/* the size of a row's axis */
static inline int64_t
ngx_webtorch_axis_size(const webtorch_spec_t *spec, int32_t axis,
    const int64_t *sizes)
{
    int64_t  size;

    size = spec->shape[axis];

    return (size < 0) ? sizes[-1 - size] : size;
}

/* writes "[3, 2]" */
const char *ngx_webtorch_shape(char *text, const int64_t *shape,
    uint32_t ndim);

/* the number nearest to a float, ties to even, or an infinity */
uint16_t ngx_webtorch_float16(double v);
uint16_t ngx_webtorch_bfloat16(double v);

float ngx_webtorch_from_float16(uint16_t bits);
float ngx_webtorch_from_bfloat16(uint16_t bits);

/* an element of numbers as the nearest double */
double ngx_webtorch_number(int32_t dtype, const void *p);

/* whether bytes are what a bool may be, 0 or 1 */
int ngx_webtorch_bytes_bool(const void *data, size_t len);

/* whether n elements hold neither a NaN nor an infinity */
int ngx_webtorch_finite(int32_t dtype, const void *data, uint64_t n);

/* -1: not a schema that batches can be laid out for */
int ngx_webtorch_schema_valid(const webtorch_schema_t *schema);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_TENSOR_H_INCLUDED_ */
