
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch.h"


static ngx_uint_t ngx_http_webtorch_abort_mode(ngx_http_request_t *r);
static void ngx_http_webtorch_test_reading(ngx_http_request_t *r);


void
ngx_http_webtorch_watch_client(ngx_http_request_t *r)
{
    switch (ngx_http_webtorch_abort_mode(r)) {

    case NGX_HTTP_WEBTORCH_ABORT_OFF:
        r->read_event_handler = ngx_http_test_reading;
        return;

    case NGX_HTTP_WEBTORCH_ABORT_ON:
        r->read_event_handler = ngx_http_block_reading;
        return;

    default: /* NGX_HTTP_WEBTORCH_ABORT_HALF_CLOSED */
        r->read_event_handler = ngx_http_webtorch_test_reading;
        return;
    }
}


/* HTTP/2 and HTTP/3 have frames for an abort, and no half-closed connections */

static ngx_uint_t
ngx_http_webtorch_abort_mode(ngx_http_request_t *r)
{
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    if (wlcf->client_abort == NGX_HTTP_WEBTORCH_ABORT_HALF_CLOSED
        && r->http_version >= NGX_HTTP_VERSION_20)
    {
        return NGX_HTTP_WEBTORCH_ABORT_OFF;
    }

    return wlcf->client_abort;
}


/*
 * The end of the client's data, which EPOLLRDHUP reports, is also sent when a
 * client closes a connection: the two look the same before an answer is
 * sent.  A client that is gone for certain has reset the connection, which is
 * an error of the socket.
 */

static void
ngx_http_webtorch_test_reading(ngx_http_request_t *r)
{
    char               buf[1];
    ssize_t            n;
    ngx_err_t          err;
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    c = r->connection;
    rev = c->read;

    n = recv(c->fd, buf, 1, MSG_PEEK);
    err = (n == -1) ? ngx_socket_errno : 0;

    if (n == -1 && err != NGX_EAGAIN && err != NGX_EINTR) {
        rev->eof = 1;
        rev->error = 1;
        c->error = 1;

        ngx_log_error(NGX_LOG_INFO, c->log, err,
                      "client prematurely closed connection");

        ngx_http_finalize_request(r, NGX_HTTP_CLIENT_CLOSED_REQUEST);
        return;
    }

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT) && rev->active) {

        if (ngx_del_event(rev, NGX_READ_EVENT, 0) != NGX_OK) {
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        }
    }
}


void
ngx_http_webtorch_finalize(ngx_http_request_t *r, ngx_int_t rc)
{
    if (rc != NGX_AGAIN
        || r != r->main
        || ngx_http_webtorch_abort_mode(r) == NGX_HTTP_WEBTORCH_ABORT_OFF)
    {
        ngx_http_finalize_request(r, rc);
        return;
    }

    /* nginx sets a handler that ends the request of a half-closed client */

    r->main->count++;

    ngx_http_finalize_request(r, rc);

    if (r->read_event_handler == ngx_http_test_reading) {
        ngx_http_webtorch_watch_client(r);
    }

    ngx_http_finalize_request(r, NGX_DONE);
}
