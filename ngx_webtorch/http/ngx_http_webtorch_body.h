
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

/* bytes that the next function copies; 0: it uses the body where it is */
size_t ngx_http_webtorch_body_copied(ngx_http_request_t *r, ngx_uint_t padded);

/*
 * Sets the body, with NGX_WEBTORCH_PADDING readable bytes after it if padded;
 * NGX_OK or an HTTP status.
 */
ngx_int_t ngx_http_webtorch_body(ngx_http_request_t *r, ngx_uint_t padded,
    ngx_str_t *body);

/*
 * Copies buffers of a body, and padding, into memory that the cleanup frees.
 * May be called in any thread while the request is blocked; NGX_OK or an HTTP
 * status.
 */
ngx_int_t ngx_http_webtorch_copy_body(ngx_chain_t *bufs,
    ngx_pool_cleanup_t *cln, ngx_str_t *body, ngx_log_t *log);

/*
 * Shares the memory of a large body with a job; NULL: the body is to be
 * copied.
 */
ngx_webtorch_shared_t *ngx_http_webtorch_share_body(ngx_http_request_t *r,
    ngx_str_t *body);

/*
 * The memory of a large body, or its mapping, is released in a thread after the
 * request.
 */
void ngx_http_webtorch_defer_body(ngx_http_request_t *r);


#endif /* _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_ */
