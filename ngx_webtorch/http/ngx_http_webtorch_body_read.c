
#include "ngx_http_webtorch_body_read.h"
#include "ngx_http_webtorch_body.h"


void
ngx_http_webtorch_body_drop_refused(ngx_http_request_t *r)
{
    ngx_http_request_body_t  *rb;

    rb = r->main->request_body;

    if (rb && rb->rest > 0 && !r->main->request_body_no_buffering) {
        rb->rest = 0;
        rb->bufs = NULL;
    }
}


ngx_uint_t
ngx_http_webtorch_body_complete(ngx_http_request_t *r)
{
    ngx_http_request_body_t  *rb;

    rb = r->request_body;

    /* a subrequest may have an empty body of its own */

    if (rb == NULL || rb != r->main->request_body) {
        return 1;
    }

    /* rest is -1 if there is no body */

    if (rb->rest > 0 || r->main->reading_body) {
        return 0;
    }

    /* a proxy has taken what it has sent; of chunks nginx adds up the length */

    return !r->main->request_body_no_buffering
           || (off_t) ngx_http_webtorch_body_size(rb->bufs)
              == ngx_max(r->main->headers_in.content_length_n, 0);
}


ngx_int_t
ngx_http_webtorch_read_body(ngx_http_request_t *r,
    ngx_http_client_body_handler_pt handler)
{
    if (r->request_body) {
        ngx_http_webtorch_body_drop_refused(r);

        r->main->count++;
        handler(r);

        return NGX_OK;
    }

    return ngx_http_read_client_request_body(r, handler);
}
