
/*
 * What a reply's headers make nginx do, as those of a proxied server do:
 * X-Accel-Redirect, X-Accel-Limit-Rate and X-Accel-Charset.
 */


#ifndef _NGX_HTTP_WEBTORCH_ACCEL_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_ACCEL_H_INCLUDED_


#include "ngx_http_webtorch.h"


/*
 * NGX_OK: nginx obeys the header, and the client does not get it; NGX_DECLINED:
 * it is another header.
 */
ngx_int_t ngx_http_webtorch_accel_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);

/* redirects to reply->redirect; returns what a content handler returns */
ngx_int_t ngx_http_webtorch_accel_redirect(ngx_http_request_t *r,
    webtorch_reply_t *reply);


#endif /* _NGX_HTTP_WEBTORCH_ACCEL_H_INCLUDED_ */
