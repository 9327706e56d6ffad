
/*
 * Content-Encoding of request bodies.
 */


#ifndef _NGX_HTTP_WEBTORCH_INFLATE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_INFLATE_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/*
 * bytes; the limit if "client_max_body_size" is 0: that allows large bodies,
 * but a body may inflate to a thousand times its size
 */
#define NGX_HTTP_WEBTORCH_INFLATE_MAX  (1024 * 1024 * 1024)


/* how a body is compressed */

#define NGX_HTTP_WEBTORCH_IDENTITY  0
#define NGX_HTTP_WEBTORCH_GZIP      1
#define NGX_HTTP_WEBTORCH_DEFLATE   2


/* by the headers; NGX_DECLINED: an unknown one, or several */
ngx_int_t ngx_http_webtorch_coding(ngx_http_request_t *r, ngx_uint_t *coding);

/* whether a header is Content-Encoding */
ngx_uint_t ngx_http_webtorch_is_coding(ngx_table_elt_t *h);

/* the largest size of an inflated body, in bytes */
size_t ngx_http_webtorch_inflate_limit(ngx_http_request_t *r);

/* zlib's windowBits for a body of which at least two bytes are given, if any */
int ngx_http_webtorch_inflate_window_bits(ngx_uint_t coding, ngx_str_t *body);

/*
 * Counts what a body probably inflates to, before it waits for a thread, so
 * that not all that are begun run out of room half-way; NGX_BUSY: too much.
 */
ngx_int_t ngx_http_webtorch_inflate_reserve(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, size_t limit);

/*
 * Inflates a body into one piece with a codec's padding, in memory that the
 * cleanup frees, and counts it; NGX_ERROR: err is set.  May be called in any
 * thread.
 */
ngx_int_t ngx_http_webtorch_inflate(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, size_t limit, ngx_pool_cleanup_t *cln,
    ngx_webtorch_error_t *err);

/* frees an inflated body that is not needed any more */
void ngx_http_webtorch_inflate_free(ngx_http_webtorch_ctx_t *ctx);


#endif /* _NGX_HTTP_WEBTORCH_INFLATE_H_INCLUDED_ */
