
/*
 * Answers are sent.
 */


#ifndef _NGX_HTTP_WEBTORCH_SEND_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_SEND_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_codec.h"


typedef struct {
    ngx_uint_t                   status;
    const ngx_webtorch_codec_t  *codec;
    webtorch_spec_t             *specs;
    uint32_t                     n;
    const void                 **data;
    ngx_webtorch_layout_t       *layout;
    ngx_webtorch_batch_t        *batch;   /* owner of the data; NULL: they live
                                             as long as the request */
} ngx_http_webtorch_tensors_t;


/* sends an answer of one piece; len 0: the header alone */
ngx_int_t ngx_http_webtorch_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, u_char *body, size_t len);

/*
 * An answer of several pieces: each one adds its size to len; the caller ends
 * the chain with NULL.
 */
ngx_int_t ngx_http_webtorch_add_piece(ngx_http_request_t *r,
    ngx_chain_t ***ll, char *p, size_t size, size_t *len);
ngx_int_t ngx_http_webtorch_send_chain(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, ngx_chain_t *out, size_t len);

/*
 * The head of an answer whose body follows, of len bytes; -1: it ends when it
 * does.  NGX_OK: it is sent, alone if r->header_only; or what the request is to
 * be finalized with.
 */
ngx_int_t ngx_http_webtorch_send_head(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, off_t len);

/* whether a page of "error_page" takes the place of an answer */
ngx_uint_t ngx_http_webtorch_intercept(ngx_http_request_t *r,
    ngx_uint_t status);

/*
 * Keeps the batch's outputs for the life of the request; NGX_DECLINED: too many
 * batches are kept; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_webtorch_hold(ngx_http_request_t *r,
    ngx_webtorch_batch_t *batch);

ngx_int_t ngx_http_webtorch_send_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_tensors_t *tensors);


extern ngx_str_t  ngx_http_webtorch_json_type;


#endif /* _NGX_HTTP_WEBTORCH_SEND_H_INCLUDED_ */
