
/* The payload of an answer, from the row of a chunk. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_ROW_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_ROW_H_INCLUDED_


#include "ngx_http_webtorch_stream.h"


typedef struct {
    webtorch_spec_t              *specs;
    const void                   *data[WEBTORCH_MAX_TENSORS];
    uint32_t                      n;
    ngx_http_webtorch_payload_e   payload;
    ngx_str_t                     prefix;     /* see st->prefix */
    ngx_webtorch_layout_t         layout;
    size_t                        bound;      /* most bytes of the payload */
    unsigned                      check:1;    /* whether it is UTF-8 */
    unsigned                      binary:1;   /* it is not */
} ngx_http_webtorch_stream_row_t;


/* sets the bound and the bytes of strings */
void ngx_http_webtorch_stream_row_measure(ngx_http_webtorch_stream_row_t *row);

/* elements as bytes of text that take as long to encode; it is measured */
size_t ngx_http_webtorch_stream_row_cost(ngx_http_webtorch_stream_row_t *row);

/* called in any thread, of a measured row; returns the end of the payload */
u_char *ngx_http_webtorch_stream_row_encode(ngx_http_webtorch_stream_row_t *row,
    u_char *p);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_ROW_H_INCLUDED_ */
