
/*
 * webtorch_ignore_client_abort: what becomes of a request whose client closes
 * the connection, or its side of it, before the answer.
 */


#ifndef _NGX_HTTP_WEBTORCH_ABORT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_ABORT_H_INCLUDED_


#include <ngx_http.h>


#define NGX_HTTP_WEBTORCH_ABORT_OFF          0
#define NGX_HTTP_WEBTORCH_ABORT_ON           1
#define NGX_HTTP_WEBTORCH_ABORT_HALF_CLOSED  2


/* sets the read event handler of a main request that waits for its answer */
void ngx_http_webtorch_watch_client(ngx_http_request_t *r);

/*
 * Finalizes a request; if its answer is not sent yet, the client is watched as
 * before.
 */
void ngx_http_webtorch_finalize(ngx_http_request_t *r, ngx_int_t rc);


#endif /* _NGX_HTTP_WEBTORCH_ABORT_H_INCLUDED_ */
