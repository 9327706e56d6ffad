
/*
 * What the phases of http share.
 */


#ifndef _NGX_HTTP_WEBTORCH_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch.h"
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_codec.h"


typedef struct {
    ngx_webtorch_handler_t      *handler;
} ngx_http_webtorch_loc_conf_t;


/* how a body is compressed */

#define NGX_HTTP_WEBTORCH_IDENTITY  0
#define NGX_HTTP_WEBTORCH_GZIP      1
#define NGX_HTTP_WEBTORCH_DEFLATE   2


/* a request of a handler, from its body to its answer */

typedef struct {
    ngx_webtorch_waiter_t        waiter;
    ngx_webtorch_handler_t      *handler;

    ngx_uint_t                   coding;  /* the body's compression */
    const ngx_webtorch_codec_t  *in;      /* the body's format */
    const ngx_webtorch_codec_t  *out;     /* the answer's */
    ngx_webtorch_layout_t        layout;

    unsigned                     answered:1;   /* by us, not by nginx */
    unsigned                     replace:1;    /* nginx's error page, by ours */
} ngx_http_webtorch_ctx_t;


/* content */

ngx_int_t ngx_http_webtorch_content_handler(ngx_http_request_t *r);

/* the body, with NGX_WEBTORCH_PADDING bytes after it or not; or a status */
ngx_int_t ngx_http_webtorch_body(ngx_http_request_t *r, ngx_uint_t padded,
    ngx_str_t *body);
ngx_webtorch_shared_t *ngx_http_webtorch_share_body(ngx_http_request_t *r,
    ngx_str_t *body);

/* an answer of ours; a part of the body of length 0 sends the header alone */
ngx_int_t ngx_http_webtorch_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, u_char *body, size_t len);

ngx_int_t ngx_http_webtorch_send_chain(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, ngx_chain_t *out, size_t len);

/* batch: what the data are of; NULL: they live as long as the request */
ngx_int_t ngx_http_webtorch_send_tensors(ngx_http_request_t *r,
    ngx_uint_t status, const ngx_webtorch_codec_t *codec,
    webtorch_spec_t *specs, ngx_uint_t n, const void **data,
    ngx_webtorch_layout_t *layout, ngx_webtorch_batch_t *batch);

/* custom handlers */
webtorch_request_t *ngx_http_webtorch_copy_request(ngx_http_request_t *r,
    webtorch_schema_t *schema, ngx_str_t *body);
ngx_int_t ngx_http_webtorch_send_reply(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, webtorch_reply_t *reply);

ngx_http_webtorch_ctx_t *ngx_http_webtorch_get_ctx(ngx_http_request_t *r);
ngx_int_t ngx_http_webtorch_add_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value);

/* inflate */

/* by the headers; NGX_DECLINED: none that is known, or several */
ngx_int_t ngx_http_webtorch_coding(ngx_http_request_t *r, ngx_uint_t *coding);
ngx_uint_t ngx_http_webtorch_is_coding(ngx_table_elt_t *h);

/* what a body may inflate to, in bytes */
size_t ngx_http_webtorch_inflate_limit(ngx_http_request_t *r);

/* the body as one piece with a codec's padding; NGX_ERROR and the error set */
ngx_int_t ngx_http_webtorch_inflate(ngx_http_request_t *r, ngx_uint_t coding,
    ngx_str_t *body, ngx_webtorch_error_t *err);

/* errors: {"error": "...", "code": "..."} */

ngx_int_t ngx_http_webtorch_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, ngx_str_t *text);
ngx_int_t ngx_http_webtorch_error_init(ngx_conf_t *cf);


extern ngx_module_t  ngx_http_webtorch_module;


#endif /* _NGX_HTTP_WEBTORCH_H_INCLUDED_ */
