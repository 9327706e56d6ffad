
#include "ngx_http_webtorch_upstream_outcome.h"


static ngx_uint_t ngx_http_webtorch_upstream_is_failure(
    ngx_http_webtorch_upstream_conf_t *conf, ngx_uint_t status);
static ngx_uint_t ngx_http_webtorch_upstream_is_cut(ngx_http_upstream_t *u,
    ngx_connection_t *c);


/*
 * The state is 0 for failures that "proxy_next_upstream" does not name, too, so
 * that the status of the answer and the connection are checked.
 */

ngx_webtorch_balance_outcome_e
ngx_http_webtorch_upstream_outcome(ngx_http_webtorch_upstream_peer_t *wp,
    ngx_peer_connection_t *pc, ngx_uint_t state)
{
    ngx_uint_t            status, gone, timedout;
    ngx_connection_t     *c;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    r = wp->request;
    u = r->upstream;
    c = pc->connection;

    status = u->state ? u->state->status : 0;
    gone = r->connection->error || r->connection->timedout;
    timedout = c && (c->read->timedout || c->write->timedout);

    if (ngx_http_webtorch_upstream_is_failure(wp->conf, status)) {
        return NGX_WEBTORCH_BALANCE_ERROR;
    }

    if ((state & NGX_PEER_FAILED)
        || (!gone && ngx_http_webtorch_upstream_is_cut(u, c)))
    {
        return timedout ? NGX_WEBTORCH_BALANCE_TIMEOUT
                        : NGX_WEBTORCH_BALANCE_FAILED;
    }

    if (status == 0) {
        return NGX_WEBTORCH_BALANCE_CLIENT_CLOSED;
    }

    /* the time that a client or a tunnel takes is not the server's */

    if (gone || u->upgrade) {
        return NGX_WEBTORCH_BALANCE_UNKNOWN;
    }

    return NGX_WEBTORCH_BALANCE_OK;
}


static ngx_uint_t
ngx_http_webtorch_upstream_is_failure(ngx_http_webtorch_upstream_conf_t *conf,
    ngx_uint_t status)
{
    return status >= NGX_HTTP_WEBTORCH_UPSTREAM_MIN_STATUS
           && status <= NGX_HTTP_WEBTORCH_UPSTREAM_MAX_STATUS
           && conf->failures[status - NGX_HTTP_WEBTORCH_UPSTREAM_MIN_STATUS];
}


/* whether an answer has begun and its end is missing */

static ngx_uint_t
ngx_http_webtorch_upstream_is_cut(ngx_http_upstream_t *u, ngx_connection_t *c)
{
    ngx_event_pipe_t  *p;

    /* a length of -1: the server ends the answer by closing the connection */

    if (u->buffering && u->pipe) {
        p = u->pipe;

        return p->upstream_error
               || (p->upstream_eof && !p->upstream_done && p->length != -1);
    }

    return c && u->length != 0
           && (c->read->timedout || c->read->error
               || (c->read->eof && u->length != -1));
}


