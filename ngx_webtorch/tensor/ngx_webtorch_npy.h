
/*
 * NumPy's format of one array, in .npy files and in the members of .npz files:
 * a magic, a version, the length of the header, the header as a literal of a
 * Python dict, then the elements.
 */


#ifndef _NGX_WEBTORCH_NPY_H_INCLUDED_
#define _NGX_WEBTORCH_NPY_H_INCLUDED_


#include "ngx_webtorch_array.h"


#ifdef __cplusplus
extern "C" {
#endif


/* bytes of the longest header that is written, a multiple of 64 */
#define NGX_WEBTORCH_NPY_LEN  384


/* parses a file with one array; name is for errors; -1: err is set */
int ngx_webtorch_npy_parse(const char *file, size_t len, const char *name,
    ngx_webtorch_array_t *array, ngx_webtorch_error_t *err);

/* writes the header of an answer's tensor; returns the end */
char *ngx_webtorch_npy_header(char *p, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_NPY_H_INCLUDED_ */
