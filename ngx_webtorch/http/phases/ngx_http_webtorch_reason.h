
/* Why a function has denied a request: the field, and the kind of attack. */


#ifndef _NGX_HTTP_WEBTORCH_REASON_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_REASON_H_INCLUDED_


#include "ngx_http_webtorch_feature_handler.h"
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_scored.h"


/* field and kind; empty: not returned by the function, or no memory */

typedef struct {
    ngx_str_t  field;
    ngx_str_t  kind;
} ngx_http_webtorch_reason_t;


/* from within done() of the waiter */
void ngx_http_webtorch_reason(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_waiter_t *waiter,
    webtorch_job_t *job, ngx_http_webtorch_reason_t *reason);

/* the same of a request that C has scored */
void ngx_http_webtorch_reason_of(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    const ngx_webtorch_scored_result_t *result,
    ngx_http_webtorch_reason_t *reason);


#endif /* _NGX_HTTP_WEBTORCH_REASON_H_INCLUDED_ */
