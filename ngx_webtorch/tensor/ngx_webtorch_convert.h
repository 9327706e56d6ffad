
/*
 * Conversions between dtypes of numbers, where nothing is lost in kind.
 */


#ifndef _NGX_WEBTORCH_CONVERT_H_INCLUDED_
#define _NGX_WEBTORCH_CONVERT_H_INCLUDED_


#include "ngx_webtorch_error.h"


#ifdef __cplusplus
extern "C" {
#endif


/*
 * Returns what a conversion would lose, for example "fractions"; NULL: nothing,
 * if all numbers are in range.  Integers become floats, as in NumPy's casting
 * "same_kind".
 */
const char *ngx_webtorch_convert_loss(int32_t to, int32_t from);

/*
 * Converts n numbers, which need not be aligned.  Floats are rounded.  -1: one
 * is out of range.
 */
int ngx_webtorch_convert(void *p, int32_t to, const void *data, int32_t from,
    uint64_t n);

/* sets the error of a number that is out of range, returns -1 */
int ngx_webtorch_convert_error(ngx_webtorch_error_t *err,
    const webtorch_spec_t *spec, int32_t from);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_CONVERT_H_INCLUDED_ */
