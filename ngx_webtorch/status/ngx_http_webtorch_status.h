
/*
 * status: the location "webtorch_status", which shows what all workers have
 * counted, as a page, as JSON and in the formats of Prometheus and OpenMetrics.
 * The files from the bottom to the top: writer, snapshot, text with family,
 * workers, balancers and names, problems, json, page, status; and health, the
 * location "webtorch_health".
 *
 * The folder includes headers of api/ to http/phases/, and nginx's HTTP.  An
 * answer is written in one pass, in the event loop.
 */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_H_INCLUDED_


#include <ngx_http.h>


char *ngx_http_webtorch_status_conf(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_H_INCLUDED_ */
