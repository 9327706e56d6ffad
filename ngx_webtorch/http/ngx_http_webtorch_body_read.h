
/*
 * Reading of a body, of which another location may have read a part, or all.
 */


#ifndef _NGX_HTTP_WEBTORCH_BODY_READ_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_BODY_READ_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * Makes a body empty that nginx has refused while it was read, as it is too
 * large or malformed: it is like one that nginx has discarded.
 */
void ngx_http_webtorch_body_drop_refused(ngx_http_request_t *r);

/*
 * Whether all of the body has been read, and is there.  It is not if a proxy
 * that does not buffer it has begun to pass it on, and the request is
 * redirected then.
 */
ngx_uint_t ngx_http_webtorch_body_complete(ngx_http_request_t *r);

/*
 * As ngx_http_read_client_request_body(), which forgets that a body is not
 * buffered when it is called again.  A refused body is dropped.
 */
ngx_int_t ngx_http_webtorch_read_body(ngx_http_request_t *r,
    ngx_http_client_body_handler_pt handler);


#endif /* _NGX_HTTP_WEBTORCH_BODY_READ_H_INCLUDED_ */
