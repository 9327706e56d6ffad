
/*
 * What the phases of http share.
 */


#ifndef _NGX_HTTP_WEBTORCH_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_model.h"
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_oip.h"


typedef struct {
    ngx_webtorch_handler_t      *handler;
    ngx_webtorch_handler_t      *loader;  /* of torch files; NULL: none */
    ngx_flag_t                   protocol;
    ngx_flag_t                   torch_load;

#if (NGX_THREADS)
    ngx_thread_pool_t           *thread_pool;
#endif
} ngx_http_webtorch_loc_conf_t;


/* how a body is compressed */

#define NGX_HTTP_WEBTORCH_IDENTITY  0
#define NGX_HTTP_WEBTORCH_GZIP      1
#define NGX_HTTP_WEBTORCH_DEFLATE   2


typedef struct ngx_http_webtorch_ctx_s   ngx_http_webtorch_ctx_t;
typedef struct ngx_http_webtorch_wire_s  ngx_http_webtorch_wire_t;

typedef struct ngx_http_webtorch_decoding_s  ngx_http_webtorch_decoding_t;


/* how tensors come and go */

struct ngx_http_webtorch_wire_s {
    /* as a codec does, and sets ctx->layout */
    int         (*decode)(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
                          ngx_webtorch_sink_t *sink,
                          ngx_webtorch_error_t *err);

    /* with the handler's outputs, which are the batch's */
    ngx_int_t   (*answer)(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
                          webtorch_spec_t *specs, const void **data);
};


/* a request of a handler, from its body to its answer */

struct ngx_http_webtorch_ctx_s {
    ngx_webtorch_waiter_t            waiter;
    ngx_webtorch_handler_t          *handler;
    const ngx_http_webtorch_wire_t  *wire;

    ngx_uint_t                       coding;  /* the body's compression */
    ngx_webtorch_layout_t            layout;

    /* webtorch_handler */
    const ngx_webtorch_codec_t      *in;      /* the body's format */
    const ngx_webtorch_codec_t      *out;     /* the answer's */

    /* webtorch_inference_protocol */
    ngx_webtorch_model_t            *model;
    ngx_webtorch_oip_t              *oip;
    ssize_t                          json;    /* of the body; -1: all of it */

    /* a body that is inflated or decoded in a thread */
    ngx_http_webtorch_decoding_t    *decoding;

    unsigned                         padded:1;    /* the body, to decode it */
    unsigned                         text:1;      /* the body, not binary */
    unsigned                         answered:1;  /* by us, not by nginx */
    unsigned                         replace:1;   /* nginx's page, by ours */
};


/* content */

ngx_int_t ngx_http_webtorch_content_handler(ngx_http_request_t *r);

/* NGX_DECLINED: the handler takes another request */
ngx_int_t ngx_http_webtorch_available(ngx_http_request_t *r,
    ngx_webtorch_handler_t *handler);

/* the same, as far as the request's header tells */
ngx_int_t ngx_http_webtorch_admit(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/* reads the body, decodes it, waits for the handler and answers */
ngx_int_t ngx_http_webtorch_serve(ngx_http_request_t *r);

/* the bit of a method as schemas have it; 0: none that is known */
uint32_t ngx_http_webtorch_method(ngx_http_request_t *r);
ngx_int_t ngx_http_webtorch_not_allowed(ngx_http_request_t *r,
    uint32_t methods);
ngx_int_t ngx_http_webtorch_refuse(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, const char *text);
ngx_int_t ngx_http_webtorch_busy(ngx_http_request_t *r);
ngx_int_t ngx_http_webtorch_bad_body(ngx_http_request_t *r,
    ngx_webtorch_error_t *err);
ngx_str_t *ngx_http_webtorch_find_header(ngx_http_request_t *r,
    const char *name);

/* a body that is not compressed; NGX_AGAIN or a status */
ngx_int_t ngx_http_webtorch_add_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);

ngx_int_t ngx_http_webtorch_add_tensors(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);

/* a job of a function of requests; NGX_AGAIN: done() will be called */
ngx_int_t ngx_http_webtorch_add_request(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_webtorch_handler_t *handler,
    void (*done)(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job),
    ngx_str_t *body);

/* a job that failed or was not done in time (NULL); code: of a message */
ngx_int_t ngx_http_webtorch_failed(ngx_http_request_t *r, webtorch_job_t *job,
    const char *code);

/* what the job replied, freed with the request; NULL: no memory */
webtorch_reply_t *ngx_http_webtorch_take_reply(ngx_http_request_t *r,
    webtorch_job_t *job);

/* rows go to the sink; -1: err is set */
int ngx_http_webtorch_decode_rows(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, ngx_webtorch_sink_t *sink, ngx_webtorch_error_t *err);

/* the rows that were reserved are the request's; NGX_AGAIN or a status */
ngx_int_t ngx_http_webtorch_join(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx);

/* with what adding has returned: waits, or is finalized */
void ngx_http_webtorch_wait(ngx_http_request_t *r, ngx_int_t rc);

/*
 * a large body in a thread, inflated, decoded or both: NGX_AGAIN, NGX_DECLINED:
 * here, or a status
 */
ngx_int_t ngx_http_webtorch_decode_later(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);
void ngx_http_webtorch_decoded(ngx_http_request_t *r);

/* files of torch.save(): Python makes of them what codecs decode */

/* NGX_DECLINED: they are taken */
ngx_int_t ngx_http_webtorch_may_load(ngx_http_request_t *r);
ngx_int_t ngx_http_webtorch_load(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body);

/* the body, with NGX_WEBTORCH_PADDING bytes after it or not; or a status */
ngx_int_t ngx_http_webtorch_body(ngx_http_request_t *r, ngx_uint_t padded,
    ngx_str_t *body);
ngx_webtorch_shared_t *ngx_http_webtorch_share_body(ngx_http_request_t *r,
    ngx_str_t *body);

/* an answer of ours; a part of the body of length 0 sends the header alone */
ngx_int_t ngx_http_webtorch_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *type, u_char *body, size_t len);

/* the same in pieces: len grows by each, and the last one's link is NULL */
ngx_int_t ngx_http_webtorch_add_piece(ngx_http_request_t *r,
    ngx_chain_t ***ll, char *p, size_t size, size_t *len);
ngx_int_t ngx_http_webtorch_send_chain(ngx_http_request_t *r,
    ngx_uint_t status, ngx_str_t *type, ngx_chain_t *out, size_t len);

/* keeps the batch's outputs until the request is gone; else NGX_DECLINED */
ngx_int_t ngx_http_webtorch_hold(ngx_http_request_t *r,
    ngx_webtorch_batch_t *batch);

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

/* webtorch_inference_protocol: what is asked for, and what only tells */

ngx_int_t ngx_http_webtorch_protocol_handler(ngx_http_request_t *r);

ngx_int_t ngx_http_webtorch_server_metadata(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);
ngx_int_t ngx_http_webtorch_model_metadata(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);
ngx_int_t ngx_http_webtorch_model_config(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);
ngx_int_t ngx_http_webtorch_model_stats(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);
ngx_int_t ngx_http_webtorch_model_index(ngx_http_request_t *r,
    ngx_webtorch_model_t *model);

/* inflate */

/* by the headers; NGX_DECLINED: none that is known, or several */
ngx_int_t ngx_http_webtorch_coding(ngx_http_request_t *r, ngx_uint_t *coding);
ngx_uint_t ngx_http_webtorch_is_coding(ngx_table_elt_t *h);

/* what a body may inflate to, in bytes */
size_t ngx_http_webtorch_inflate_limit(ngx_http_request_t *r);

/*
 * the body as one piece with a codec's padding, in memory that the cleanup
 * frees; NGX_ERROR and the error set; may be called in any thread
 */
ngx_int_t ngx_http_webtorch_inflate(ngx_uint_t coding, ngx_str_t *body,
    size_t limit, ngx_pool_cleanup_t *cln, ngx_webtorch_error_t *err);

/* errors: {"error": "...", "code": "..."} */

ngx_int_t ngx_http_webtorch_error(ngx_http_request_t *r, ngx_uint_t status,
    const char *code, ngx_str_t *text);
ngx_int_t ngx_http_webtorch_error_init(ngx_conf_t *cf);


extern ngx_module_t  ngx_http_webtorch_module;
extern ngx_module_t  ngx_http_webtorch_upstream_module;


#endif /* _NGX_HTTP_WEBTORCH_H_INCLUDED_ */
