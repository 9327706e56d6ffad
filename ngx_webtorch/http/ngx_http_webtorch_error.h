
/*
 * Errors are answered as JSON: {"error": "...", "code": "..."}, of which some
 * have a member "detail".  All functions that answer a request return what its
 * handler returns.
 */


#ifndef _NGX_HTTP_WEBTORCH_ERROR_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_ERROR_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_codec.h"


ngx_int_t ngx_http_webtorch_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, ngx_str_t *text);

/* with more for programs, as JSON, or NULL */
ngx_int_t ngx_http_webtorch_error_detail(ngx_http_request_t *r,
    ngx_uint_t status, const char *code, ngx_str_t *text, ngx_str_t *detail);

/*
 * The JSON of an error without a newline: its bytes, which replaces in the text
 * what is not UTF-8, and after that the JSON; returns the end.  detail: JSON,
 * or NULL.
 */
size_t ngx_http_webtorch_error_length(const char *code, ngx_str_t *text,
    ngx_str_t *detail);
u_char *ngx_http_webtorch_error_write(u_char *p, const char *code,
    ngx_str_t *text, ngx_str_t *detail);

/* an error before or after the body is read */
ngx_int_t ngx_http_webtorch_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *text);

/* without 100 Continue; NGX_OK, or the status of a malformed body */
ngx_int_t ngx_http_webtorch_discard_body(ngx_http_request_t *r);

/* the bit of a method in schemas; 0: an unknown one */
uint32_t ngx_http_webtorch_method(ngx_http_request_t *r);
uint32_t ngx_http_webtorch_method_by_name(ngx_str_t *name);

/* sets the names of methods in a schema, "GET, POST"; NGX_ERROR: no memory */
ngx_int_t ngx_http_webtorch_method_names(ngx_pool_t *pool, uint32_t methods,
    ngx_str_t *names);

/* adds the header "Allow" */
ngx_int_t ngx_http_webtorch_add_allow(ngx_http_request_t *r, uint32_t methods);
ngx_int_t ngx_http_webtorch_not_allowed(ngx_http_request_t *r,
    uint32_t methods);

/* the handler's queue is full */
ngx_int_t ngx_http_webtorch_busy(ngx_http_request_t *r);

/* it has no room for the body */
ngx_int_t ngx_http_webtorch_no_room(ngx_http_request_t *r);

/* a body that ngx_http_webtorch_body_complete() denies */
ngx_int_t ngx_http_webtorch_incomplete_body(ngx_http_request_t *r);

/* the body could not be decoded, or there is no room for it */
ngx_int_t ngx_http_webtorch_bad_body(ngx_http_request_t *r,
    ngx_webtorch_error_t *err);

/* installs the filters for nginx's own errors */
ngx_int_t ngx_http_webtorch_error_init(ngx_conf_t *cf);


#endif /* _NGX_HTTP_WEBTORCH_ERROR_H_INCLUDED_ */
