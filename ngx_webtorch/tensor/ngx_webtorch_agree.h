
/*
 * Whether two functions have answered the same.
 */


#ifndef _NGX_WEBTORCH_AGREE_H_INCLUDED_
#define _NGX_WEBTORCH_AGREE_H_INCLUDED_


#include "ngx_webtorch_tensor.h"


#ifdef __cplusplus
extern "C" {
#endif


/* in place of a tolerance: the largest of the last axis is the same one */
#define NGX_WEBTORCH_AGREE_ARGMAX     -1.0

/* tolerance of floats without a last axis for argmax */
#define NGX_WEBTORCH_AGREE_TOLERANCE  0.001


/* rows of an output; strings have addresses */

typedef struct {
    const webtorch_spec_t  *spec;         /* all axes have sizes */
    const void             *data;
} ngx_webtorch_output_t;


/*
 * Returns 1 if rows agree: their shapes are equal, numbers but floats and
 * strings have equal bytes, and floats differ by at most the tolerance times
 * the larger of 1 and their own size, or are both NaN.
 */
int ngx_webtorch_agree(const ngx_webtorch_output_t *one,
    const ngx_webtorch_output_t *other, uint32_t rows, double tolerance);

/* returns 1 if dtypes and shapes are equal, also those with variable axes */
int ngx_webtorch_agree_shapes(const webtorch_spec_t *one,
    const webtorch_spec_t *other);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_AGREE_H_INCLUDED_ */
