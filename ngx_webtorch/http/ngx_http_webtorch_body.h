
/*
 * The body of a request as one piece.
 */


#ifndef _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"
#include "ngx_webtorch_job.h"


/*
 * Whether the body has been read to its end.  It has not if a proxy that does
 * not buffer it has begun to pass it on, and the request is redirected then.
 */
ngx_uint_t ngx_http_webtorch_body_complete(ngx_http_request_t *r);

/*
 * Called before the body is read: counts the buffer for it, until the request
 * ends.  NGX_BUSY: there is no room in the queue for the body; NGX_ERROR: no
 * memory.
 */
ngx_int_t ngx_http_webtorch_body_begin(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/*
 * Sets the body, with NGX_WEBTORCH_PADDING readable bytes after it if padded,
 * and counts it; NGX_OK, NGX_BUSY or an HTTP status.
 */
ngx_int_t ngx_http_webtorch_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_uint_t padded, ngx_str_t *body);

/* the error of a body for which there is no room in the queue; NGX_ERROR */
ngx_int_t ngx_http_webtorch_body_full(ngx_webtorch_error_t *err);

/* a cleanup handler; data is an ngx_str_t of memory from mmap() */
void ngx_http_webtorch_unmap_body(void *data);

/* unmaps a body in a file that is not needed any more */
void ngx_http_webtorch_body_unmap(ngx_http_webtorch_ctx_t *ctx);

/*
 * Shares the memory of a large body with a job; NULL: the body is to be
 * copied.
 */
ngx_webtorch_shared_t *ngx_http_webtorch_share_body(ngx_http_request_t *r,
    ngx_str_t *body);


#endif /* _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_ */
