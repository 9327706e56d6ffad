
/*
 * status: the location "webtorch_status", which shows what all workers have
 * counted, as a page, as JSON and in the formats of Prometheus and OpenMetrics.
 * The files from the bottom to the top: writer, snapshot, text with family,
 * workers, balancers and names, shadows, problems, json, page, status; health,
 * the location "webtorch_health"; and load_report, a header of answers.
 *
 * The folder includes headers of api/ to http/phases/, and nginx's HTTP.  An
 * answer is written in one pass, in the event loop.
 */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_http_webtorch_status_writer.h"


char *ngx_http_webtorch_conf_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* begins an answer to GET or HEAD; NGX_OK or an HTTP status */
ngx_int_t ngx_http_webtorch_status_begin(ngx_http_request_t *r,
    ngx_http_webtorch_status_writer_t *w);

/* sends what was written, which no cache keeps */
ngx_int_t ngx_http_webtorch_status_send(ngx_http_request_t *r,
    ngx_uint_t status, ngx_http_webtorch_status_writer_t *w, ngx_str_t *type);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_H_INCLUDED_ */
