
/*
 * Work for requests in a thread of nginx's pool "default": what takes more than
 * about a millisecond, in which the event loop would serve no other request.
 */


#ifndef _NGX_HTTP_WEBTORCH_THREAD_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_THREAD_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_defer.h"


/* whether a request may wait for a thread */
ngx_uint_t ngx_http_webtorch_thread_allowed(ngx_http_request_t *r);

#if (NGX_THREADS)

/*
 * The request waits, blocked and with r->aio set, until the task's handler has
 * run in a thread.  Then resume() is called as its write event handler, which
 * other events call as well, but with r->aio set.
 */
ngx_int_t ngx_http_webtorch_thread_post(ngx_http_request_t *r,
    ngx_thread_task_t *task, ngx_http_event_handler_pt resume);

#endif

/*
 * A cleanup of the request, which releases that many bytes, is to be called in
 * a thread if they are many, see ngx_webtorch_defer().  The pool of the request
 * is destroyed before that.  What the request's account has of these bytes is
 * counted until then.  The handler and data of the cleanup are others
 * afterwards.
 */
void ngx_http_webtorch_defer_cleanup(ngx_http_request_t *r,
    ngx_pool_cleanup_t *cln, size_t size);


#endif /* _NGX_HTTP_WEBTORCH_THREAD_H_INCLUDED_ */
