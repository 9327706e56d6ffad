
/*
 * Answers that take more than about a millisecond to encode are encoded in a
 * thread, as it is the client who chooses their format.
 */


#ifndef _NGX_HTTP_WEBTORCH_ENCODE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_ENCODE_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch_batch.h"
#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_queue.h"


/* an answer that is encoded in a thread; in the memory of its request */

typedef struct ngx_http_webtorch_encoding_s  ngx_http_webtorch_encoding_t;

struct ngx_http_webtorch_encoding_s {
    /*
     * In the thread: sets body to a buffer, see ngx_webtorch_buffer.h;
     * NGX_ERROR: no memory.
     */
    ngx_int_t               (*encode)(ngx_http_webtorch_encoding_t *e);

    /* in the event loop: sends the body, which lives as long as the request */
    ngx_int_t               (*send)(ngx_http_request_t *r,
                                    ngx_http_webtorch_encoding_t *e);

    ngx_webtorch_batch_t     *batch;      /* owner of the tensors; NULL: they
                                             live as long as the request */
    size_t                    size;       /* bytes of the tensors */

    ngx_str_t                 body;
    ngx_int_t                 rc;         /* of encode() */

    /* the request's, which counts the body */
    ngx_webtorch_account_t   *account;
    size_t                    held;       /* bytes of it for the tensors */
};


/* the bytes of text that take as long as numbers of this tensor */
size_t ngx_http_webtorch_number_cost(const webtorch_spec_t *spec,
    uint32_t rows);

/*
 * The bytes of text that take as long as this tensor of an answer, as text or
 * as strings in a binary format; exact only below NGX_WEBTORCH_LARGE_TEXT.
 */
size_t ngx_http_webtorch_text_cost(const webtorch_spec_t *spec,
    const void *data, uint32_t rows);

/*
 * NGX_AGAIN: the request waits with r->aio set, and is finalized with what
 * send() returns; NGX_DECLINED: the answer must be encoded in the event loop.
 */
ngx_int_t ngx_http_webtorch_encode_post(ngx_http_request_t *r,
    ngx_http_webtorch_encoding_t *e);


#endif /* _NGX_HTTP_WEBTORCH_ENCODE_H_INCLUDED_ */
