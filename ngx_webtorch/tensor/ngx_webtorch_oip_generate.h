
/*
 * Requests of the inference protocol's generate extension, whose tensors are
 * members of one object.
 */


#ifndef _NGX_WEBTORCH_OIP_GENERATE_H_INCLUDED_
#define _NGX_WEBTORCH_OIP_GENERATE_H_INCLUDED_


#include "ngx_webtorch_oip.h"


#ifdef __cplusplus
extern "C" {
#endif


/* decodes a body as a codec does, and sets the id in oip; -1: err is set */
int ngx_webtorch_oip_generate_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_oip_t *oip,
    ngx_webtorch_error_t *err);


#ifdef __cplusplus
}
#endif


#endif /* _NGX_WEBTORCH_OIP_GENERATE_H_INCLUDED_ */
