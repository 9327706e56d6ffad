
/*
 * Answers of the Open Inference Protocol.
 */


#ifndef _NGX_WEBTORCH_OIP_REPLY_H_INCLUDED_
#define _NGX_WEBTORCH_OIP_REPLY_H_INCLUDED_


#include "ngx_webtorch_oip.h"


#ifdef __cplusplus
extern "C" {
#endif


/* returns the protocol's name of a dtype, "FP32" */
const char *ngx_webtorch_oip_datatype(int32_t dtype);

/* returns an upper bound of what ngx_webtorch_oip_encode() writes, in bytes */
size_t ngx_webtorch_oip_bound(const ngx_webtorch_oip_t *oip, size_t name_len,
    const webtorch_spec_t *specs, const ngx_webtorch_layout_t *layout);

/*
 * Writes the JSON of an answer; returns the end.  The binary outputs must
 * follow it in the order of oip->outputs[].  The model's name must not need
 * escapes.
 */
char *ngx_webtorch_oip_encode(char *p, const ngx_webtorch_oip_t *oip,
    const char *name, size_t name_len, const webtorch_spec_t *specs,
    const void *const *data, const ngx_webtorch_layout_t *layout);

/* returns the bytes of an output as a binary tensor */
size_t ngx_webtorch_oip_size(const webtorch_spec_t *spec, const void *data,
    uint32_t rows);

/* writes an output as a binary tensor; returns the end */
char *ngx_webtorch_oip_pack(char *p, const webtorch_spec_t *spec,
    const void *data, uint32_t rows);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_OIP_REPLY_H_INCLUDED_ */
