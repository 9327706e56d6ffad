
/*
 * A request of a handler, from its body to its answer.
 */


#ifndef _NGX_HTTP_WEBTORCH_CTX_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_CTX_H_INCLUDED_


#include "ngx_http_webtorch.h"
#include "ngx_http_webtorch_encode.h"
#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_call.h"
#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_endpoint.h"
#include "ngx_webtorch_formats.h"
#include "ngx_webtorch_job.h"
#include "ngx_webtorch_oip.h"
#include "ngx_webtorch_queue.h"


typedef struct ngx_http_webtorch_ctx_s       ngx_http_webtorch_ctx_t;
typedef struct ngx_http_webtorch_decoding_s  ngx_http_webtorch_decoding_t;
typedef struct ngx_http_webtorch_shadow_s    ngx_http_webtorch_shadow_t;


/* a protocol: how tensors are read from a body and written to an answer */

typedef struct {
    /* like a codec's, but sets ctx->layout; called in any thread */
    int         (*decode)(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
                          ngx_webtorch_sink_t *sink,
                          ngx_webtorch_error_t *err);

    /* sends the handler's outputs, which belong to the batch */
    ngx_int_t   (*answer)(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
                          webtorch_spec_t *specs, const void **data);
} ngx_http_webtorch_wire_t;


struct ngx_http_webtorch_ctx_s {
    ngx_http_request_t              *request;
    ngx_webtorch_waiter_t            waiter;
    ngx_webtorch_handler_t          *handler;
    const ngx_http_webtorch_wire_t  *wire;

    ngx_webtorch_account_t           account;
    ngx_pool_cleanup_t              *mapping; /* of the body's file, or of a
                                                 copy of the body, or NULL */
    size_t                           mapped;  /* bytes held for it */
    size_t                           lent;    /* bytes of the body that the
                                                 batch counts */
    ngx_pool_cleanup_t              *memory;  /* of the inflated body, or
                                                 NULL */
    size_t                           inflated;   /* bytes held for it */
    size_t                           members;    /* bytes held for members of
                                                    an archive */
    void                           (*release)(ngx_http_webtorch_ctx_t *ctx);
                                              /* what was counted for the body;
                                                 NULL: nothing */

    ngx_uint_t                       coding;  /* the body's compression */
    ngx_webtorch_layout_t            layout;

    /* webtorch_handler */
    ngx_webtorch_formats_t           formats;

    /* webtorch_inference_protocol */
    ngx_webtorch_endpoint_t         *endpoint;
    ngx_webtorch_oip_t              *oip;
    ngx_str_t                        version; /* of the model; empty: 1 */
    ssize_t                          json;    /* bytes of the body that are
                                                 JSON; -1: all */

    /* a body that is inflated or decoded in a thread, and what follows */
    ngx_http_webtorch_decoding_t    *decoding;
    void                           (*decoded)(ngx_http_request_t *r);

    /*
     * Of http/stream; owner of the job and answer are NULL if it has none.
     * answer() is called with a job that has succeeded; NGX_DECLINED: the
     * stream finalizes the request.
     */
    void                            *stream;
    ngx_int_t                      (*answer)(ngx_http_request_t *r,
                                             ngx_http_webtorch_ctx_t *ctx,
                                             webtorch_job_t *job);
    ngx_webtorch_job_owner_t        *owner;
    uint32_t                         state_row;   /* see api */
    ngx_str_t                        query;   /* in place of a body, or empty */

    /* for logs */
    ngx_webtorch_call_t             *call;    /* NULL: no variable needs it, or
                                                 there was none */
    ngx_str_t                        error;   /* the code; empty: none */

    webtorch_trace_t                *trace;   /* NULL: none that is sampled */

    /* for metrics */
    ngx_webtorch_handler_t          *counted; /* of the location; "handler" may
                                                 be its opener */
    ngx_uint_t                       status;  /* that nginx replaces by a page
                                                 of its own; 0: none */

    /* us of the clock; 0: not, or it was counted */
    uint64_t                         begun;
    uint64_t                         received;   /* the body was */
    uint64_t                         run;     /* the call is over */

    ngx_http_webtorch_shadow_t      *shadow;  /* a copy; NULL: none, or it
                                                 needs the request no more */

    /* an answer that is encoded in a thread */
    ngx_http_webtorch_encoding_t    *encoding;

    unsigned                         own_body:1;  /* nothing else has buffers
                                                     of the body */
    unsigned                         reading:1;   /* the body is read before
                                                     serve() returns */
    unsigned                         padded:1;    /* the decoder reads padding
                                                     after the body */
    unsigned                         text:1;      /* the body is not binary */
    unsigned                         bomb:1;      /* the event loop has begun
                                                     to inflate the body, it
                                                     is too large */
    unsigned                         answered:1;  /* by the module, not by
                                                     nginx */
    unsigned                         conditional:1;  /* nginx decides on
                                                        If-Match and the like */
    unsigned                         replace:1;   /* nginx's error page is
                                                     replaced by JSON */
};


/* creates the context if there is none; NULL: no memory */
ngx_http_webtorch_ctx_t *ngx_http_webtorch_get_ctx(ngx_http_request_t *r);

/*
 * The context of a request for logs, also after an internal redirect, which
 * nginx's pages of "error_page" are; NULL: there was none.
 */
ngx_http_webtorch_ctx_t *ngx_http_webtorch_find_ctx(ngx_http_request_t *r);

/* the handler of a request is known; it is counted when the request ends */
void ngx_http_webtorch_ctx_set_handler(ngx_http_webtorch_ctx_t *ctx,
    ngx_webtorch_handler_t *handler);


#endif /* _NGX_HTTP_WEBTORCH_CTX_H_INCLUDED_ */
