
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


#define NGX_WEBTORCH_NDTYPES     13

/* "[batch, 3, 224, 224]": the batch axis, WEBTORCH_MAX_DIMS + 1 of 20 digits */
#define NGX_WEBTORCH_SHAPE_LEN   224


typedef enum {
    NGX_WEBTORCH_KIND_BOOL = 0,
    NGX_WEBTORCH_KIND_INTEGER,
    NGX_WEBTORCH_KIND_FLOAT
} ngx_webtorch_kind_e;


typedef struct {
    const char           *name;
    uint32_t              size;           /* of an element, in bytes */
    ngx_webtorch_kind_e   kind;
} ngx_webtorch_dtype_t;


extern const ngx_webtorch_dtype_t  ngx_webtorch_dtypes[NGX_WEBTORCH_NDTYPES];


/* elements of a row */
uint64_t ngx_webtorch_row_elements(const webtorch_spec_t *spec);

/* writes "[batch, 2]", or "[2]" where a call is one request */
const char *ngx_webtorch_spec_shape(char *text, const webtorch_spec_t *spec,
    int batched);

/* writes "[3, 2]" */
const char *ngx_webtorch_shape(char *text, const int64_t *shape,
    uint32_t ndim);

/* the number nearest to a float, ties to even, or an infinity */
uint16_t ngx_webtorch_float16(double v);
uint16_t ngx_webtorch_bfloat16(double v);

float ngx_webtorch_from_float16(uint16_t bits);
float ngx_webtorch_from_bfloat16(uint16_t bits);

/* whether bytes are what a bool may be, 0 or 1 */
int ngx_webtorch_bytes_bool(const void *data, size_t len);

/* whether rows hold neither a NaN nor an infinity */
int ngx_webtorch_rows_finite(const webtorch_spec_t *spec, const void *data,
    uint32_t rows);

/* -1: not a schema that batches can be laid out for */
int ngx_webtorch_schema_valid(const webtorch_schema_t *schema);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_TENSOR_H_INCLUDED_ */
