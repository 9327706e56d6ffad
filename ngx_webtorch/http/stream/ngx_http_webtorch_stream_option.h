
/* The parameters of webtorch_handler that have an effect on streams only. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_OPTION_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_OPTION_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


void ngx_http_webtorch_stream_options_init(
    ngx_http_webtorch_stream_conf_t *conf);

/* NGX_DECLINED: it is none of them; NGX_ERROR: its value is malformed */
ngx_int_t ngx_http_webtorch_stream_option(ngx_webtorch_handler_t *handler,
    ngx_str_t *param);

/* NGX_ERROR, logged: the function is no stream, but has such an option */
ngx_int_t ngx_http_webtorch_stream_options_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_OPTION_H_INCLUDED_ */
