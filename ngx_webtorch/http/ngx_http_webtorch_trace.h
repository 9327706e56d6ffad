
/* The header traceparent of a request (W3C Trace Context). */


#ifndef _NGX_HTTP_WEBTORCH_TRACE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_TRACE_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/* the job that was added last for a request has its trace, if it has one */
void ngx_http_webtorch_trace_job(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/* the answer of a request with ctx->trace is sent */
void ngx_http_webtorch_trace_encoded(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, uint64_t now);


#endif /* _NGX_HTTP_WEBTORCH_TRACE_H_INCLUDED_ */
