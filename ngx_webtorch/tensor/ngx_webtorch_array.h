
/*
 * Tensors whose elements are in a body as they are in memory, as in binary
 * formats.
 */


#ifndef _NGX_WEBTORCH_ARRAY_H_INCLUDED_
#define _NGX_WEBTORCH_ARRAY_H_INCLUDED_


#include "ngx_webtorch_codec.h"


#ifdef __cplusplus
extern "C" {
#endif


typedef struct {
    int32_t       dtype;
    uint32_t      ndim;
    int64_t       shape[NGX_WEBTORCH_ARRAY_DIMS];

    /*
     * Contiguous elements, need not be aligned.  NULL: they are not in the body
     * as in memory, the caller converts them; len is set nevertheless.
     */
    const char   *data;
    size_t        len;                    /* bytes of the elements */
} ngx_webtorch_array_t;


/*
 * Checks the arrays of inputs, in the schema's order, of which a body has those
 * whose bits are set, and sets layout->rows, single, sizes and absent; -1: err
 * is set.
 */
int ngx_webtorch_arrays_check(const ngx_webtorch_array_t *arrays, uint32_t seen,
    const webtorch_schema_t *schema, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err);

/* copies or converts an array that has been checked; -1: err is set */
int ngx_webtorch_array_copy(const ngx_webtorch_array_t *array,
    const webtorch_spec_t *spec, void *p, ngx_webtorch_error_t *err);

/* checks the arrays, and copies them to rows from the sink; -1: err is set */
int ngx_webtorch_arrays_read(const ngx_webtorch_array_t *arrays, uint32_t seen,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_ARRAY_H_INCLUDED_ */
