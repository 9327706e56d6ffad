
/*
 * Bodies of the Open Inference Protocol: JSON, and after it tensors as bytes.
 * It is not in the table of formats: a request tells more than tensors, and its
 * answer depends on that.  Like all codecs it knows neither nginx nor Python,
 * and keeps no state between calls.
 */


#ifndef _NGX_WEBTORCH_OIP_H_INCLUDED_
#define _NGX_WEBTORCH_OIP_H_INCLUDED_


#include "ngx_webtorch_codec.h"


#ifdef __cplusplus
extern "C" {
#endif


#define NGX_WEBTORCH_OIP_ID_LEN  256


/* what a request says of its answer */

typedef struct {
    uint32_t      noutputs;
    uint32_t      binary;                 /* bits of outputs[]: as bytes */
    uint32_t      outputs[WEBTORCH_MAX_TENSORS];   /* of the schema's */
    size_t        id_len;
    char          id[NGX_WEBTORCH_OIP_ID_LEN];
} ngx_webtorch_oip_t;


/* "FP32" of a dtype */
const char *ngx_webtorch_oip_datatype(int32_t dtype);

/*
 * Decodes a body, whose first header_len bytes are JSON, as a codec does; what
 * is kept for the answer is copied to oip.
 */
int ngx_webtorch_oip_decode(const char *body, size_t len, size_t header_len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_oip_t *oip,
    ngx_webtorch_error_t *err);

/* an upper bound of what the next one writes for all outputs, in bytes */
size_t ngx_webtorch_oip_bound(const ngx_webtorch_oip_t *oip, size_t name_len,
    const webtorch_spec_t *specs, const ngx_webtorch_layout_t *layout);

/* how many bytes rows of an output are as bytes, and writes them */
size_t ngx_webtorch_oip_size(const webtorch_spec_t *spec, const void *data,
    uint32_t rows);
char *ngx_webtorch_oip_pack(char *p, const webtorch_spec_t *spec,
    const void *data, uint32_t rows);

/*
 * writes the JSON of an answer, after which the rows of outputs as bytes go;
 * the model's name is part of it as it is; returns the end
 */
char *ngx_webtorch_oip_encode(char *p, const ngx_webtorch_oip_t *oip,
    const char *name, size_t name_len, const webtorch_spec_t *specs,
    const void *const *data, const ngx_webtorch_layout_t *layout);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_OIP_H_INCLUDED_ */
