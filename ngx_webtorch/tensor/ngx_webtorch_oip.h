
/*
 * Requests of the Open Inference Protocol.  The protocol is not in the table of
 * formats: a request has more than tensors, and the answer depends on it.
 */


#ifndef _NGX_WEBTORCH_OIP_H_INCLUDED_
#define _NGX_WEBTORCH_OIP_H_INCLUDED_


#include "ngx_webtorch_codec.h"


#ifdef __cplusplus
extern "C" {
#endif


#define NGX_WEBTORCH_OIP_ID_LEN  256


/* the members of a request that its answer depends on */

typedef struct {
    uint32_t      noutputs;
    uint32_t      binary;                 /* bits of outputs[], as bytes */
    uint32_t      outputs[WEBTORCH_MAX_TENSORS];   /* indexes in the schema */
    size_t        id_len;
    char          id[NGX_WEBTORCH_OIP_ID_LEN];
    const char   *version;                /* of the answer: "1", until another
                                             one is set; it needs no escapes */
    size_t        version_len;
} ngx_webtorch_oip_t;


/*
 * Decodes a body, whose first header_len bytes are JSON, as a codec does, and
 * sets oip; -1: err is set.
 */
int ngx_webtorch_oip_decode(const char *body, size_t len, size_t header_len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_oip_t *oip,
    ngx_webtorch_error_t *err);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_OIP_H_INCLUDED_ */
