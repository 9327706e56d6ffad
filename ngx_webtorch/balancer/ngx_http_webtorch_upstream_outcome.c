
#include "ngx_http_webtorch_upstream_outcome.h"


static ngx_uint_t ngx_http_webtorch_upstream_is_failure(
    ngx_http_webtorch_upstream_conf_t *conf, ngx_uint_t status);
static ngx_uint_t ngx_http_webtorch_upstream_is_cut(ngx_http_upstream_t *u,
    ngx_connection_t *c);
static ngx_uint_t ngx_http_webtorch_upstream_has_grpc_error(
    ngx_list_t *headers);
static ngx_uint_t ngx_http_webtorch_upstream_is_gone(ngx_http_request_t *r);
static ngx_uint_t ngx_http_webtorch_upstream_is_blocked(ngx_http_request_t *r,
    ngx_event_pipe_t *p);


void
ngx_http_webtorch_upstream_set_answered(ngx_http_webtorch_upstream_peer_t *wp,
    uint64_t now)
{
    uint64_t              answered;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    r = wp->request;
    u = r->upstream;

    if (!ngx_http_webtorch_upstream_has_header(u)) {
        return;
    }

    if (ngx_http_webtorch_upstream_is_stream(u)
        || ngx_http_webtorch_upstream_is_gone(r)
        || (u->pipe && ngx_http_webtorch_upstream_is_blocked(r, u->pipe)))
    {
        /* whole milliseconds are rounded */

        answered = wp->balance.start + (uint64_t) u->state->header_time * 1000
                   + 500;
        wp->balance.answered = ngx_min(answered, now);
    }
}


ngx_webtorch_balance_outcome_e
ngx_http_webtorch_upstream_header_outcome(ngx_http_webtorch_upstream_peer_t *wp)
{
    return ngx_http_webtorch_upstream_is_failure(wp->conf,
                                          wp->request->upstream->state->status)
           ? NGX_WEBTORCH_BALANCE_ERROR : NGX_WEBTORCH_BALANCE_OK;
}


/*
 * The state is 0 for failures that "proxy_next_upstream" does not name, too, so
 * that the status of the answer and the connection are checked.
 */

ngx_webtorch_balance_outcome_e
ngx_http_webtorch_upstream_outcome(ngx_http_webtorch_upstream_peer_t *wp,
    ngx_peer_connection_t *pc, ngx_uint_t state)
{
    ngx_uint_t            status, timedout;
    ngx_connection_t     *c;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    r = wp->request;
    u = r->upstream;
    c = pc->connection;

    status = u->state ? u->state->status : 0;
    timedout = c && (c->read->timedout || c->write->timedout);

    if (ngx_http_webtorch_upstream_is_failure(wp->conf, status)) {
        return NGX_WEBTORCH_BALANCE_ERROR;
    }

    if ((state & NGX_PEER_FAILED)
        || (!ngx_http_webtorch_upstream_is_gone(r)
            && ngx_http_webtorch_upstream_is_cut(u, c)))
    {
        return timedout ? NGX_WEBTORCH_BALANCE_TIMEOUT
                        : NGX_WEBTORCH_BALANCE_FAILED;
    }

    return status ? NGX_WEBTORCH_BALANCE_OK
                  : NGX_WEBTORCH_BALANCE_CLIENT_CLOSED;
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

    if (c == NULL || u->upgrade || u->length == 0) {
        return 0;
    }

    if (c->read->timedout) {
        /* a stream without a length may be idle for any time */
        return !ngx_http_webtorch_upstream_has_header(u)
               || u->headers_in.content_length_n >= 0;
    }

    return c->read->error || (c->read->eof && u->length != -1);
}


ngx_uint_t
ngx_http_webtorch_upstream_is_refused(ngx_http_upstream_t *u)
{
    ngx_uint_t  status;

    status = u->state ? u->state->status : 0;

    if (status >= NGX_HTTP_SPECIAL_RESPONSE
        && status != NGX_HTTP_NOT_MODIFIED)
    {
        return 1;
    }

    /* "grpc://" or "grpcs://"; without a message the header has the status */

    return u->schema.len >= 4 && ngx_strncmp(u->schema.data, "grpc", 4) == 0
           && ngx_http_webtorch_upstream_has_header(u)
           && (ngx_http_webtorch_upstream_has_grpc_error(&u->headers_in.headers)
               || ngx_http_webtorch_upstream_has_grpc_error(
                                                   &u->headers_in.trailers));
}


static ngx_uint_t
ngx_http_webtorch_upstream_has_grpc_error(ngx_list_t *headers)
{
    ngx_str_t  *status;

    status = ngx_http_webtorch_upstream_find_header(headers, "grpc-status");

    return status && (status->len != 1 || status->data[0] != '0');
}


ngx_str_t *
ngx_http_webtorch_upstream_find_header(ngx_list_t *headers, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);

    for (part = &headers->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].key.len == len
                && ngx_strncasecmp(h[i].key.data, (u_char *) name, len) == 0)
            {
                return &h[i].value;
            }
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_http_webtorch_upstream_is_gone(ngx_http_request_t *r)
{
    return r->connection->error || r->connection->timedout;
}


/*
 * Whether the client has delayed the server: the answer is larger than the
 * buffers and was not saved to a file, and the client has not got all of it.
 */

static ngx_uint_t
ngx_http_webtorch_upstream_is_blocked(ngx_http_request_t *r,
    ngx_event_pipe_t *p)
{
    if (p->cacheable
        || p->read_length <= (off_t) p->bufs.num * (off_t) p->bufs.size
        || (p->temp_file && p->temp_file->offset < p->max_temp_file_size))
    {
        return 0;
    }

    return p->busy || p->out || r->connection->buffered
           || !r->connection->write->ready || r->connection->write->delayed;
}
