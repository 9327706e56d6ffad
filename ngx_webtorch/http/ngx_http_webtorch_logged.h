
/* What variables for logs show of a request; nothing is kept without them. */


#ifndef _NGX_HTTP_WEBTORCH_LOGGED_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_LOGGED_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/* from within done() of the waiter */
void ngx_http_webtorch_logged_call(ngx_http_request_t *r,
    ngx_webtorch_waiter_t *waiter, webtorch_job_t *job);

/* the request is answered with an error; the code is copied */
void ngx_http_webtorch_logged_error(ngx_http_request_t *r, const char *code);


#endif /* _NGX_HTTP_WEBTORCH_LOGGED_H_INCLUDED_ */
