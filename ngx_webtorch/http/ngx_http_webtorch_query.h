
/* The arguments of a request as a body of JSON, for requests without one. */


#ifndef _NGX_HTTP_WEBTORCH_QUERY_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_QUERY_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_codec.h"


/*
 * An object with the tensors of the schema: the value of a string is a text,
 * other values are JSON.  The body is padded.  NGX_DECLINED: an argument is not
 * JSON, err says which; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_webtorch_query_body(ngx_http_request_t *r,
    const webtorch_schema_t *schema, ngx_str_t *body,
    ngx_webtorch_error_t *err);


#endif /* _NGX_HTTP_WEBTORCH_QUERY_H_INCLUDED_ */
