
/*
 * Arrays: tensors as binary formats have them in a body, where their elements
 * are as in memory.
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

    /* contiguous, need not be aligned; NULL: as text, which len does not tell */
    const char   *data;
    size_t        len;                    /* of the elements in memory */
} ngx_webtorch_array_t;


/*
 * Whether the arrays of all inputs, in the signature's order, fit; sets
 * layout->rows, single and sizes; -1: err is set.
 */
int ngx_webtorch_arrays_check(const ngx_webtorch_array_t *arrays,
    const webtorch_schema_t *schema, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err);

/*
 * Copies the arrays of all inputs, in the signature's order, to rows from the
 * sink, and sets the layout likewise; -1: err is set.
 */
int ngx_webtorch_arrays_read(const ngx_webtorch_array_t *arrays,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);

/* the index of an input by its name; ninputs: there is none */
uint32_t ngx_webtorch_find_input(const webtorch_schema_t *schema,
    const char *name, size_t len);

/* errors that formats with names share; they return -1 */
int ngx_webtorch_error_unknown(ngx_webtorch_error_t *err, const char *name,
    size_t len);
int ngx_webtorch_error_missing(ngx_webtorch_error_t *err,
    const webtorch_spec_t *spec);
int ngx_webtorch_error_twice(ngx_webtorch_error_t *err,
    const webtorch_spec_t *spec);
int ngx_webtorch_error_rows(ngx_webtorch_error_t *err, const char *name,
    uint32_t rows, const char *other, uint32_t other_rows);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_ARRAY_H_INCLUDED_ */
