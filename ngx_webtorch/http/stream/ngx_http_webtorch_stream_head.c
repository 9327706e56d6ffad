
#include "ngx_http_webtorch_stream_head.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_stream_resume.h"
#include "ngx_http_webtorch_stream_table.h"


static ngx_int_t ngx_http_webtorch_stream_add_headers(
    ngx_http_webtorch_stream_t *st);


ngx_int_t
ngx_http_webtorch_stream_send_head(ngx_http_webtorch_stream_t *st)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = st->request;

    if (ngx_http_webtorch_stream_add_headers(st) != NGX_OK) {
        ngx_http_webtorch_stream_finalize(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return NGX_DONE;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_http_webtorch_stream_finalize(r, rc);
        return NGX_DONE;
    }

    rc = ngx_http_webtorch_stream_flush_head(st);

    /* from now on its end can be sent at any time */

    if (rc == NGX_OK && st->claim.record) {
        ngx_http_webtorch_stream_enlist(st);
    }

    return rc;
}


void
ngx_http_webtorch_stream_finalize(ngx_http_request_t *r, ngx_int_t rc)
{
    /* the stream's own handler needs the context, which a redirect clears */

    r->read_event_handler = ngx_http_block_reading;

    ngx_http_finalize_request(r, rc);
}


ngx_int_t
ngx_http_webtorch_stream_flush_head(ngx_http_webtorch_stream_t *st)
{
    ngx_http_request_t        *r;
    ngx_http_core_loc_conf_t  *clcf;

    r = st->request;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->http_version < NGX_HTTP_VERSION_20
        && clcf->tcp_nodelay
        && ngx_tcp_nodelay(r->connection) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_ERROR);
        return NGX_DONE;
    }

    if (ngx_http_send_special(r, NGX_HTTP_FLUSH) == NGX_ERROR
        || ngx_http_webtorch_stream_wait_write(r) != NGX_OK)
    {
        ngx_http_finalize_request(r, NGX_ERROR);
        return NGX_DONE;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_add_headers(ngx_http_webtorch_stream_t *st)
{
    u_char     *p;
    ngx_str_t   id, offset;

    static ngx_str_t  id_name = ngx_string("Stream-Id");
    static ngx_str_t  offset_name = ngx_string("Stream-Offset");

    /* what has no chunks cannot be continued elsewhere */

    if (st->refused || st->produce) {
        return ngx_http_webtorch_stream_add_defaults(st->request);
    }

    p = ngx_pnalloc(st->request->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    offset.data = p;
    offset.len = (size_t) (ngx_sprintf(p, "%uL",
                                       ngx_http_webtorch_stream_offset(st))
                           - p);

    id.data = st->id;
    id.len = st->id_len;

    if (ngx_http_webtorch_add_header(st->request, &id_name, &id) != NGX_OK
        || ngx_http_webtorch_add_header(st->request, &offset_name, &offset)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_webtorch_stream_add_defaults(st->request);
}


ngx_int_t
ngx_http_webtorch_stream_add_defaults(ngx_http_request_t *r)
{
    ngx_uint_t  i;

    static struct {
        ngx_str_t   name;
        ngx_str_t   value;
    } headers[] = {
        { ngx_string("Cache-Control"), ngx_string("no-store") },
        { ngx_string("X-Accel-Buffering"), ngx_string("no") },
    };

    for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {

        if (!ngx_http_webtorch_has_header_out(r, (char *) headers[i].name.data)
            && ngx_http_webtorch_add_header(r, &headers[i].name,
                                            &headers[i].value)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_stream_wait_write(ngx_http_request_t *r)
{
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    wev = r->connection->write;

    if (!r->buffered && !r->connection->buffered) {

        if (wev->timer_set && !wev->delayed) {
            ngx_del_timer(wev);
        }

        return NGX_OK;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    /* the client has read something, or this is the first time */

    if (!wev->delayed) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    return ngx_handle_write_event(wev, clcf->send_lowat);
}
