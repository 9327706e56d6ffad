
/*
 * The layout of a body: rows, axes, strings.
 */


#ifndef _NGX_WEBTORCH_LAYOUT_H_INCLUDED_
#define _NGX_WEBTORCH_LAYOUT_H_INCLUDED_


#include "ngx_webtorch_error.h"


#ifdef __cplusplus
extern "C" {
#endif


/* the batch axis and the axes of a row */
#define NGX_WEBTORCH_ARRAY_DIMS     (WEBTORCH_MAX_DIMS + 1)


/* a shape in a header, for formats whose bodies have none */

typedef struct {
    uint32_t      ndim;
    int64_t       sizes[NGX_WEBTORCH_ARRAY_DIMS];
} ngx_webtorch_shape_t;


/* the layout of a request, which its answer has as well */

typedef struct {
    uint32_t      rows;
    unsigned      single:1;               /* one row without a batch axis */
    unsigned      named:1;                /* tensors by name, {"x": ...} */
    unsigned      records:1;              /* rows by name, [{"x": ...}, ...] */

    /* bytes of all strings: of inputs, set before their rows are reserved, or
       of outputs, set before they are encoded */
    size_t        text;

    /*
     * Sizes of the inputs' variable axes, in the schema's order; then the bits
     * of absent optional inputs, and what is set before a body is decoded, the
     * number of the versions of models that the call uses.
     */
    int64_t       sizes[WEBTORCH_NSIZES];

    /* set before a body is decoded; NULL: the request has no such header */
    const ngx_webtorch_shape_t  *shape;

    /* the header Content-Type of a form, set before its body is decoded */
    const char   *type;
    size_t        type_len;

    uint32_t      absent;                 /* bits of inputs without rows */
} ngx_webtorch_layout_t;


/* parses "2, 17, 8", or "" for a shape without axes; -1: malformed */
int ngx_webtorch_parse_shape(ngx_webtorch_shape_t *shape, const char *text,
    size_t len);

/*
 * Writes the shape of an answer's tensor, "2,17,8", to NGX_WEBTORCH_SHAPE_LEN
 * bytes; returns the end.
 */
char *ngx_webtorch_write_sizes(char *p, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout);

/* sets the shape of an answer's tensor, returns its number of dimensions */
uint32_t ngx_webtorch_array_shape(int64_t *shape, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout);

/*
 * Sets all variable axes to "no size yet", and no input as absent, before the
 * first input is bound.
 */
void ngx_webtorch_unbind(const webtorch_schema_t *schema,
    ngx_webtorch_layout_t *layout);

/* returns the bytes of rows in memory, their masks and their text */
size_t ngx_webtorch_rows_size(const webtorch_schema_t *schema,
    const ngx_webtorch_layout_t *layout);

/*
 * Binds variable axes: sets their sizes by the shape of an input's row, or
 * compares them with those that another input has set.  0: the shape fits,
 * 1: a fixed axis differs, -1: a variable one does, err is set.
 */
int ngx_webtorch_bind(const webtorch_schema_t *schema,
    const webtorch_spec_t *spec, const int64_t *shape,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_LAYOUT_H_INCLUDED_ */
