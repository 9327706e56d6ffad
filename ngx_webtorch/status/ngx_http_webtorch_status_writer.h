
/*
 * Text of an answer, in buffers that are added as they are filled.
 */


#ifndef _NGX_HTTP_WEBTORCH_STATUS_WRITER_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STATUS_WRITER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_webtorch_print.h"


/* bytes of a number that ngx_http_webtorch_status_number() writes */
#define NGX_HTTP_WEBTORCH_STATUS_NUMBER  NGX_WEBTORCH_DOUBLE_LEN


typedef struct {
    ngx_pool_t             *pool;
    ngx_chain_t            *out;
    ngx_chain_t           **last;
    ngx_buf_t              *buf;
    size_t                  len;          /* bytes of full buffers */
    ngx_uint_t              failed;       /* no memory */
} ngx_http_webtorch_status_writer_t;


/* NGX_ERROR: no memory */
ngx_int_t ngx_http_webtorch_status_writer_init(
    ngx_http_webtorch_status_writer_t *w, ngx_pool_t *pool);

/*
 * Returns room for size bytes.  After an error, which is in "failed", it is
 * that of text before.
 */
u_char *ngx_http_webtorch_status_reserve(ngx_http_webtorch_status_writer_t *w,
    size_t size);

void ngx_http_webtorch_status_write(ngx_http_webtorch_status_writer_t *w,
    const void *text, size_t len);
void ngx_http_webtorch_status_puts(ngx_http_webtorch_status_writer_t *w,
    const char *text);

/* as text of JSON and of labels, which have the same escapes, without quotes */
void ngx_http_webtorch_status_escape(ngx_http_webtorch_status_writer_t *w,
    const void *text, size_t len);

/* decimal digits; ngx_sprintf() takes several times longer */
u_char *ngx_http_webtorch_status_digits(u_char *p, uint64_t n);

/* seconds of microseconds */
u_char *ngx_http_webtorch_status_seconds(u_char *p, uint64_t usec);

/* NaN and infinities as OpenMetrics writes them */
u_char *ngx_http_webtorch_status_number(u_char *p, double n);


#endif /* _NGX_HTTP_WEBTORCH_STATUS_WRITER_H_INCLUDED_ */
