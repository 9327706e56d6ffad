
/*
 * The body of a request as one piece.
 */


#ifndef _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_job.h"


/*
 * Whether the body has been read to its end.  It has not if a proxy that does
 * not buffer it has begun to pass it on, and the request is redirected then.
 */
ngx_uint_t ngx_http_webtorch_body_complete(ngx_http_request_t *r);

/*
 * Sets the body, with NGX_WEBTORCH_PADDING readable bytes after it if padded;
 * NGX_OK or an HTTP status.
 */
ngx_int_t ngx_http_webtorch_body(ngx_http_request_t *r, ngx_uint_t padded,
    ngx_str_t *body);

/*
 * Shares the memory of a large body with a job; NULL: the body is to be
 * copied.
 */
ngx_webtorch_shared_t *ngx_http_webtorch_share_body(ngx_http_request_t *r,
    ngx_str_t *body);


#endif /* _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_ */
