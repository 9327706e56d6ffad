
/*
 * A timer in each worker that has streams with "resume".  It ends those that
 * another client has taken over, asks clients to come back when the worker
 * exits, and closes streams whose clients have not come back.
 */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_UPKEEP_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_UPKEEP_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/* starts the upkeep timer of a handler; called before the event loop */
ngx_int_t ngx_http_webtorch_stream_upkeep_start(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_UPKEEP_H_INCLUDED_ */
