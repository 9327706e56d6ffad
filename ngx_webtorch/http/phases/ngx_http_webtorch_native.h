
/*
 * Models that C evaluates itself.  Python gives the nets, and says which
 * handlers they score; it may replace them while requests are scored.
 */


#ifndef _NGX_HTTP_WEBTORCH_NATIVE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_NATIVE_H_INCLUDED_


#include "ngx_http_webtorch_feature_handler.h"
#include "ngx_webtorch_scored.h"


/* a net that a request is read with, by the event loop alone */

typedef struct ngx_http_webtorch_native_s  ngx_http_webtorch_native_t;


/*
 * The net of a handler, which stays until it is released; NULL: there is none
 * now.
 */
ngx_http_webtorch_native_t *ngx_http_webtorch_native_get(
    ngx_webtorch_handler_t *handler);
void ngx_http_webtorch_native_release(ngx_http_webtorch_native_t *native);

/* net and memo; valid until the net is released */
const ngx_webtorch_net_t *ngx_http_webtorch_native_net(
    ngx_http_webtorch_native_t *native);
ngx_webtorch_memo_t *ngx_http_webtorch_native_memo(
    ngx_http_webtorch_native_t *native);

/* sets the tables of its site, and whether requests are marked there */
void ngx_http_webtorch_native_site(ngx_http_webtorch_native_t *native,
    ngx_webtorch_scored_site_t *site);


#endif /* _NGX_HTTP_WEBTORCH_NATIVE_H_INCLUDED_ */
