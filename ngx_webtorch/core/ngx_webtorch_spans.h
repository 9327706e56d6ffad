
/*
 * Parts of traces that the event loop measures; Python takes them in a thread,
 * and exports them.  The functions are in ngx_webtorch_api.h.
 */


#ifndef _NGX_WEBTORCH_SPANS_H_INCLUDED_
#define _NGX_WEBTORCH_SPANS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_api.h"


/* spans that Python has not taken */
#define NGX_WEBTORCH_MAX_SPANS  1024


/* never waits for Python: a span is lost if there is no room */
void ngx_webtorch_spans_add(const webtorch_trace_span_t *span);


#endif /* _NGX_WEBTORCH_SPANS_H_INCLUDED_ */
