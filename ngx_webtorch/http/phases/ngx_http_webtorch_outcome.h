
/* How a request ended, as features. */


#ifndef _NGX_HTTP_WEBTORCH_OUTCOME_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_OUTCOME_H_INCLUDED_


#include "ngx_http_webtorch_phases_ctx.h"


void ngx_http_webtorch_outcome(ngx_http_request_t *r,
    ngx_webtorch_outcome_t *outcome);


#endif /* _NGX_HTTP_WEBTORCH_OUTCOME_H_INCLUDED_ */
