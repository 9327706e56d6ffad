
/*
 * The pickle in a file of torch.save(): a tensor, or a dict of tensors.  Their
 * storages are other files of the archive, which the pickle refers to by a key.
 */


#ifndef _NGX_WEBTORCH_TORCH_PICKLE_H_INCLUDED_
#define _NGX_WEBTORCH_TORCH_PICKLE_H_INCLUDED_


#include "ngx_webtorch_codec.h"


#ifdef __cplusplus
extern "C" {
#endif


/* bytes of a tensor in the pickle */
#define NGX_WEBTORCH_TORCH_ENTRY_LEN   (512 + WEBTORCH_NAME_LEN)

/* an upper bound of the bytes of n tensors */
#define ngx_webtorch_torch_pickle_max(n)                                      \
    (16 + (n) * (size_t) NGX_WEBTORCH_TORCH_ENTRY_LEN)


typedef struct {
    size_t  len;
    char    text[ngx_webtorch_torch_pickle_max(WEBTORCH_MAX_TENSORS)];
} ngx_webtorch_torch_pickle_t;


void ngx_webtorch_torch_pickle_write(ngx_webtorch_torch_pickle_t *pickle,
    const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout);

/* writes the key of tensor i, a number below 100; returns the end */
char *ngx_webtorch_torch_pickle_key(char *p, uint32_t i);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_TORCH_PICKLE_H_INCLUDED_ */
