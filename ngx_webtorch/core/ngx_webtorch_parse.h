
/* Parameters of directives that nginx's core has no parser for. */


#ifndef _NGX_WEBTORCH_PARSE_H_INCLUDED_
#define _NGX_WEBTORCH_PARSE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* "name:size" of shared memory; NGX_ERROR is logged */
ngx_int_t ngx_webtorch_parse_zone(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *name, size_t *size);


#endif /* _NGX_WEBTORCH_PARSE_H_INCLUDED_ */
