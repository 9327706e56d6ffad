
/* Metrics of handlers under the names of other servers, which others read. */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_NAMES_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_NAMES_H_INCLUDED_


#include "ngx_http_webtorch_status_family.h"


/* ?names=triton */
void ngx_http_webtorch_status_triton(ngx_http_webtorch_family_t *f);

/* ?names=vllm */
void ngx_http_webtorch_status_vllm(ngx_http_webtorch_family_t *f);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_NAMES_H_INCLUDED_ */
