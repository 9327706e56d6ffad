
/*
 * NumPy's format of one array, which .npy files and the members of .npz files
 * are in: a magic, a version, the length of a header, the header as a literal
 * of a Python dict, then the elements.
 */


#ifndef _NGX_WEBTORCH_NPY_H_INCLUDED_
#define _NGX_WEBTORCH_NPY_H_INCLUDED_


#include "ngx_webtorch_array.h"


#ifdef __cplusplus
extern "C" {
#endif


/* of a header that is written, in bytes: the elements begin at a multiple of 64 */
#define NGX_WEBTORCH_NPY_LEN  384


/* finds an array in bytes of a file; name is for errors; -1: err is set */
int ngx_webtorch_npy_parse(const char *file, size_t len, const char *name,
    ngx_webtorch_array_t *array, ngx_webtorch_error_t *err);

/* writes the header of an answer's tensor; returns the end */
char *ngx_webtorch_npy_header(char *p, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_NPY_H_INCLUDED_ */
