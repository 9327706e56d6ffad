
/* Method, headers and sizes of a request, as features. */


#ifndef _NGX_HTTP_WEBTORCH_REQUEST_FEATURES_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_REQUEST_FEATURES_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_columns.h"


void ngx_http_webtorch_request_features(ngx_http_request_t *r,
    ngx_webtorch_request_features_t *request);


#endif /* _NGX_HTTP_WEBTORCH_REQUEST_FEATURES_H_INCLUDED_ */
