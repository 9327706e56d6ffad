
/*
 * Headers of a request, and of its answer.
 */


#ifndef _NGX_HTTP_WEBTORCH_HEADER_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_HEADER_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_api.h"


/* a place in the headers of an answer */

typedef struct {
    ngx_list_part_t  *part;
    ngx_uint_t        n;
} ngx_http_webtorch_header_mark_t;


/* by a name in lower case, the first of several; NULL: none */
ngx_str_t *ngx_http_webtorch_find_header(ngx_http_request_t *r,
    const char *name);

/*
 * Sets the values of all headers of a name, joined with commas; NGX_DECLINED:
 * there is none.
 */
ngx_int_t ngx_http_webtorch_join_headers(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);

/* name and value are not copied */
ngx_int_t ngx_http_webtorch_add_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value);

/* adds a header with copies of name and value */
ngx_int_t ngx_http_webtorch_copy_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value);

/* sets the content type; nginx's filters compare types without the charset */
void ngx_http_webtorch_set_type(ngx_http_request_t *r, ngx_str_t *type);

/* whether the answer has a header, in any case */
ngx_uint_t ngx_http_webtorch_has_header_out(ngx_http_request_t *r,
    const char *name);

/* adds "Vary: Accept", for answers whose format was negotiated */
ngx_int_t ngx_http_webtorch_add_vary(ngx_http_request_t *r);

void ngx_http_webtorch_mark_headers(ngx_http_request_t *r,
    ngx_http_webtorch_header_mark_t *mark);

/*
 * For an answer of nginx itself with the status rc in place of a handler's:
 * clears the headers added after the mark, but Content-Range, which 416 needs,
 * and adds WWW-Authenticate of the handler's headers, which 401 needs.  The
 * header must not be sent yet.  Returns the status.
 */
ngx_int_t ngx_http_webtorch_replace_headers(ngx_http_request_t *r,
    ngx_int_t rc, ngx_http_webtorch_header_mark_t *mark,
    webtorch_header_t *headers, uint32_t n);


#endif /* _NGX_HTTP_WEBTORCH_HEADER_H_INCLUDED_ */
