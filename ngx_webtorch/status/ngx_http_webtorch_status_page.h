
/*
 * The page: status.html as it is, which the assembler includes, so that it is
 * no file to install.
 */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_PAGE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_PAGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


void ngx_http_webtorch_status_get_page(ngx_str_t *page);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_PAGE_H_INCLUDED_ */
