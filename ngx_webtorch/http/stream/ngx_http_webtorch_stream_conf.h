
/* Locations whose handler may turn out to be one of streams. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_CONF_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_CONF_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


/* with the defaults of all options, as data of the handler */
ngx_int_t ngx_http_webtorch_stream_create_conf(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler);

/*
 * A location that has the handler, after nginx has merged its settings.  When
 * the handler's schema is known, and it is that of a stream, the location is
 * served by this folder.
 */
ngx_int_t ngx_http_webtorch_stream_add_location(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler, ngx_http_core_loc_conf_t *clcf);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_CONF_H_INCLUDED_ */
