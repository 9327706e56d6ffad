
/*
 * webtorch_load_report: answers to requests that ask for it have a header with
 * the load of the server, as balancers read it (ORCA).
 */


#ifndef _NGX_HTTP_WEBTORCH_LOAD_REPORT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_LOAD_REPORT_H_INCLUDED_


#include <ngx_http.h>


char *ngx_http_webtorch_conf_load_report(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* adds the filter that writes the header, if a location has the directive */
ngx_int_t ngx_http_webtorch_load_report_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_WEBTORCH_LOAD_REPORT_H_INCLUDED_ */
