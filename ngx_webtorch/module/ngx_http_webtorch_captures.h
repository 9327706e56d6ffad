
/*
 * Named captures of the regular expressions that lead to a location: of the
 * location, of those around it, and of the names of its server.  They are
 * variables of nginx, which arguments of handlers have as their source.
 */


#ifndef _NGX_HTTP_WEBTORCH_CAPTURES_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CAPTURES_H_INCLUDED_


#include <ngx_http.h>


/*
 * Called in the merge of a server's or a location's configuration.  Returns the
 * names, of ngx_str_t, as they are written in the expressions: outer and those
 * of this configuration, NULL if there are none.  NGX_CONF_ERROR: no memory.
 * warn: logs those that cannot be arguments.
 */
void *ngx_http_webtorch_captures(ngx_conf_t *cf, ngx_array_t *outer,
    ngx_uint_t warn);


#endif /* _NGX_HTTP_WEBTORCH_CAPTURES_H_INCLUDED_ */
