
/*
 * The body of a request as one piece.
 */


#ifndef _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"
#include "ngx_webtorch_job.h"


/* bytes of the buffers of a body, in memory or in files */
size_t ngx_http_webtorch_body_size(ngx_chain_t *bufs);

/* bytes that the next function copies; 0: it uses the body where it is */
size_t ngx_http_webtorch_body_copied(ngx_http_request_t *r, ngx_uint_t padded);

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

/*
 * Releases the mapping of a body in a file, or the copy of a body, which is not
 * needed any more.  Called in any thread.
 */
void ngx_http_webtorch_body_unmap(ngx_http_webtorch_ctx_t *ctx);

/*
 * Copies buffers of a body, and padding, into memory that the cleanup frees.
 * May be called in any thread while the request is blocked; NGX_OK or an HTTP
 * status.
 */
ngx_int_t ngx_http_webtorch_copy_body(ngx_http_webtorch_ctx_t *ctx,
    ngx_chain_t *bufs, ngx_pool_cleanup_t *cln, ngx_str_t *body,
    ngx_log_t *log);

/*
 * Shares the memory of a large body with a job, whose batch counts it; NULL:
 * the body is to be copied.
 */
ngx_webtorch_shared_t *ngx_http_webtorch_share_body(ngx_http_request_t *r,
    ngx_str_t *body);

/* the job is finished or cancelled: the request needs the body no more */
void ngx_http_webtorch_body_returned(ngx_http_webtorch_ctx_t *ctx);

/* nginx's memory of a large body is released in a thread after the request */
void ngx_http_webtorch_defer_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);


#endif /* _NGX_HTTP_WEBTORCH_BODY_H_INCLUDED_ */
