
/* A snapshot as JSON, which the page reads. */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_JSON_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_JSON_H_INCLUDED_


#include "ngx_http_webtorch_status_text.h"


void ngx_http_webtorch_status_json(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *snapshot,
    const ngx_http_webtorch_status_wanted_t *wanted);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_JSON_H_INCLUDED_ */
