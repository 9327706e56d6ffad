
/* Metrics of shadows. */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_SHADOWS_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_SHADOWS_H_INCLUDED_


#include "ngx_http_webtorch_status_family.h"


void ngx_http_webtorch_status_shadows(ngx_http_webtorch_family_t *f);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_SHADOWS_H_INCLUDED_ */
