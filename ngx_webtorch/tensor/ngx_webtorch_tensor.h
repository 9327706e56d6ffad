
/*
 * tensor/: tensors in memory, and the formats that carry them in bodies of
 * requests and responses.  Files here include headers of api/ and of this
 * folder only, neither nginx's nor Python's, so that formats can be tested and
 * fuzzed without a server.  Functions keep no state between calls and may run
 * in any thread.
 *
 * This header: rows of a signature's tensors.
 */


#ifndef _NGX_WEBTORCH_TENSOR_H_INCLUDED_
#define _NGX_WEBTORCH_TENSOR_H_INCLUDED_


#include "ngx_webtorch_dtype.h"


#ifdef __cplusplus
extern "C" {
#endif


#if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
#error "binary formats are little-endian, and so must be this machine"
#endif


/* "[batch, channels, 224]": names, or numbers of 20 digits, and commas */
#define NGX_WEBTORCH_SHAPE_LEN                                                \
    ((WEBTORCH_MAX_DIMS + 1) * (WEBTORCH_NAME_LEN + sizeof(", ")))


/* returns the number of buffers of a batch: of inputs and of their masks */

static inline uint32_t
ngx_webtorch_buffers(const webtorch_schema_t *schema)
{
    return schema->ninputs + schema->nmasks;
}


/* returns 1 if requests of some sizes, or without some inputs, share no batch */

static inline int
ngx_webtorch_has_key(const webtorch_schema_t *schema)
{
    return schema->nbound || schema->noptional;
}


/* returns the number of elements of a row; all axes of the spec have sizes */
uint64_t ngx_webtorch_row_elements(const webtorch_spec_t *spec);

/*
 * "sizes" below are those of variable axes, in the order of the schema's axes.
 */

/* returns the bytes of a row, UINT64_MAX on overflow */
uint64_t ngx_webtorch_row_size(const webtorch_spec_t *spec,
    const int64_t *sizes);

/*
 * Returns the bytes of a row of a buffer.  It is 0 if the input is absent and
 * has no default, by sizes[WEBTORCH_ABSENT]; its mask has none either.
 */
uint64_t ngx_webtorch_buffer_row_size(const webtorch_schema_t *schema,
    uint32_t buffer, const int64_t *sizes);

/* returns the number of whole rows in a number of elements */
uint64_t ngx_webtorch_rows_of(const webtorch_spec_t *spec,
    const int64_t *sizes, uint64_t elements);

/* copies a spec and replaces its variable axes by their sizes */
void ngx_webtorch_resolve(webtorch_spec_t *resolved,
    const webtorch_spec_t *spec, const int64_t *sizes);

static inline int64_t
ngx_webtorch_axis_size(const webtorch_spec_t *spec, int32_t axis,
    const int64_t *sizes)
{
    int64_t  size;

    size = spec->shape[axis];

    return (size < 0) ? sizes[-1 - size] : size;
}

/* returns the bytes of all strings in rows of an output; numbers: 0 */
uint64_t ngx_webtorch_text_size(const webtorch_spec_t *spec, const void *data,
    uint32_t rows);

/* copies n strings to p, which they are at then; returns the end */
unsigned char *ngx_webtorch_text_move(webtorch_text_t *text, uint64_t n,
    unsigned char *p);

/*
 * Both write to NGX_WEBTORCH_SHAPE_LEN bytes and return text: the first
 * "[batch, 2]", or "[2]" if the handler is not batched; the second "[3, 2]".
 */
const char *ngx_webtorch_spec_shape(char *text, const webtorch_spec_t *spec,
    const webtorch_schema_t *schema);
const char *ngx_webtorch_shape(char *text, const int64_t *shape,
    uint32_t ndim);

/* returns the index of an input, schema->ninputs if none has this name */
uint32_t ngx_webtorch_find_input(const webtorch_schema_t *schema,
    const char *name, size_t len);

/* returns 0 if batches can be laid out for a schema, else -1 */
int ngx_webtorch_schema_valid(const webtorch_schema_t *schema);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_TENSOR_H_INCLUDED_ */
