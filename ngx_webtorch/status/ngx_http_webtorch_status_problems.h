
/* What is wrong now, in words. */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_PROBLEMS_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_PROBLEMS_H_INCLUDED_


#include "ngx_http_webtorch_status_text.h"


/* writes the strings of a JSON array, without brackets */
void ngx_http_webtorch_status_problems(ngx_http_webtorch_status_writer_t *w,
    ngx_http_webtorch_snapshot_t *snapshot);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_PROBLEMS_H_INCLUDED_ */
