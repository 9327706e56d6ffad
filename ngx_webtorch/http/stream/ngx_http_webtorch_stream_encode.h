
/* The answer to a chunk, that of a large row is encoded in a thread. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_ENCODE_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_ENCODE_H_INCLUDED_


#include "ngx_http_webtorch_stream_row.h"


/* what is known of a chunk when its call is over */

struct ngx_http_webtorch_result_s {
    ngx_http_webtorch_stream_row_t  row;
    const void                     *states[WEBTORCH_MAX_TENSORS];
                                               /* with "resume" */
    ngx_uint_t                      done;      /* it was the last chunk */
};


/*
 * From within answered(): has a large row encoded in a thread.  Then the answer
 * is added and st->encoded() called in the event loop, if the stream is still
 * there; the result is valid until it returns.  NGX_DECLINED: the row is not
 * large, or cannot be kept, or there are no threads.
 */
ngx_int_t ngx_http_webtorch_stream_encode_post(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_result_t *result);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_ENCODE_H_INCLUDED_ */
