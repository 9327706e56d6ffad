
/*
 * Jobs that failed, or were not done in time.
 */


#ifndef _NGX_HTTP_WEBTORCH_FAILURE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_FAILURE_H_INCLUDED_


#include "ngx_http_webtorch_ctx.h"


/*
 * Answers for a job that failed, or NULL: it was not done in time.  code: of
 * errors that the handler raised without one; NULL: that of their status.
 */
ngx_int_t ngx_http_webtorch_failed(ngx_http_request_t *r, webtorch_job_t *job,
    const char *code);


#endif /* _NGX_HTTP_WEBTORCH_FAILURE_H_INCLUDED_ */
