
/* The fields of a request, as windows of numbers. */


#ifndef _NGX_HTTP_WEBTORCH_FIELD_FEATURES_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_FIELD_FEATURES_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_http_webtorch_native.h"
#include "ngx_webtorch_features.h"
#include "ngx_webtorch_window.h"


/* why not all fields are in the features */

#define NGX_HTTP_WEBTORCH_FIELDS_UNREAD  5
#define NGX_HTTP_WEBTORCH_FIELDS_MANY    6

/* below 0, as there is no part of them, either: no net that scores them */

#define NGX_HTTP_WEBTORCH_FIELDS_NO_NET  (-100)


/*
 * Reads target, headers and body, which the text has as parts.  body: the code
 * of ngx_http_webtorch_body_part().  The windows are valid until the next call,
 * their traits and names only if a bit of used has these features.  NGX_OK, or
 * why not all is in them: that code, or one from above.
 */
ngx_int_t ngx_http_webtorch_field_features(ngx_http_request_t *r,
    uint32_t used, const ngx_webtorch_text_features_t *text, ngx_int_t body,
    const ngx_webtorch_windows_t **windows);

/*
 * Reads the same by a net.  The windows of the list are valid until the next
 * call.
 */
ngx_int_t ngx_http_webtorch_field_scored(ngx_http_request_t *r,
    ngx_http_webtorch_native_t *native,
    const ngx_webtorch_text_features_t *text, ngx_int_t body,
    ngx_webtorch_scored_list_t *list);

/*
 * Reads the request once more, and copies the name of the field that a window
 * belongs to, at most NGX_WEBTORCH_FIELD_NAME bytes; "request" for the last
 * window.  The length of the name; 0: there is no such window.
 */
size_t ngx_http_webtorch_field_name(ngx_http_request_t *r,
    const ngx_webtorch_text_features_t *text, uint32_t window, u_char *name);

/* the reason that a code stands for; NULL: it is not one of this file */
const char *ngx_http_webtorch_field_features_strerror(ngx_int_t rc);


#endif /* _NGX_HTTP_WEBTORCH_FIELD_FEATURES_H_INCLUDED_ */
