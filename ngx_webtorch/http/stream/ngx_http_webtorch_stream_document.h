
/* The rows of a stream as one JSON document, which is sent at its end. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_DOCUMENT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_DOCUMENT_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/* NGX_ERROR: no memory */
ngx_int_t ngx_http_webtorch_stream_document_create(
    ngx_http_webtorch_stream_t *st);

/* adds a row; NGX_ERROR: no memory */
ngx_int_t ngx_http_webtorch_stream_document_add(ngx_http_webtorch_stream_t *st,
    webtorch_spec_t *specs, const void **data);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_DOCUMENT_H_INCLUDED_ */
