
/* The part of a request's body that is in its features. */


#ifndef _NGX_HTTP_WEBTORCH_BODY_PART_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_BODY_PART_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_text.h"


/* why a body cannot be in the features, beside NGX_ERROR: it is not readable */

#define NGX_HTTP_WEBTORCH_BODY_CODING     1
#define NGX_HTTP_WEBTORCH_BODY_MALFORMED  2
#define NGX_HTTP_WEBTORCH_BODY_BOUND      3

/* the body was not read to its end, or nginx does not have it any more */
#define NGX_HTTP_WEBTORCH_BODY_MISSING    4

/* the part is set, and the body goes on after it */
#define NGX_HTTP_WEBTORCH_BODY_CUT        7


/*
 * Sets the first bytes of the body, inflated if it is compressed; they are
 * valid until the next call.  NGX_OK, or a code from above.
 */
ngx_int_t ngx_http_webtorch_body_part(ngx_http_request_t *r, size_t limit,
    ngx_webtorch_part_t *part);

/* the reason that a code stands for; NULL: it is not one of this file */
const char *ngx_http_webtorch_body_part_strerror(ngx_int_t rc);


#endif /* _NGX_HTTP_WEBTORCH_BODY_PART_H_INCLUDED_ */
