
/*
 * A request as a @webtorch.handler gets it.
 */


#ifndef _NGX_HTTP_WEBTORCH_REQUEST_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_REQUEST_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_api.h"


/*
 * In one block of memory with its strings, without Content-Encoding, which is
 * not true of an inflated body; a large body is shared.  NULL: no memory.
 */
webtorch_request_t *ngx_http_webtorch_copy_request(ngx_http_request_t *r,
    webtorch_schema_t *schema, ngx_str_t *body);


#endif /* _NGX_HTTP_WEBTORCH_REQUEST_H_INCLUDED_ */
