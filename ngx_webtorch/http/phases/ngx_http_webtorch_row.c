
/*
 * A request as a row of features, given to the batches of a function.
 */

#include "ngx_http_webtorch_phases.h"


/* headers that are columns of "request" */

typedef struct {
    ngx_str_t                         name;
    ngx_webtorch_request_column_e     column;
} ngx_http_webtorch_known_header_t;


static ngx_uint_t ngx_http_webtorch_uses(ngx_http_webtorch_feature_handler_t *scorer,
    uint32_t features);
static void ngx_http_webtorch_parts(ngx_http_request_t *r,
    ngx_webtorch_text_features_t *text);
static void ngx_http_webtorch_body_part(ngx_http_request_t *r, size_t limit,
    ngx_webtorch_part_t *part);
static void ngx_http_webtorch_request_features(ngx_http_request_t *r,
    ngx_webtorch_request_features_t *request);
static void ngx_http_webtorch_header_features(ngx_http_request_t *r,
    ngx_webtorch_request_features_t *request);
static ngx_uint_t ngx_http_webtorch_is_address(ngx_str_t *host);
static uint64_t ngx_http_webtorch_body_size(ngx_http_request_t *r);
static void ngx_http_webtorch_id(ngx_http_request_t *r, void *row);


static ngx_http_webtorch_known_header_t  ngx_http_webtorch_known_headers[] = {
    { ngx_string("user-agent"), NGX_WEBTORCH_REQUEST_USER_AGENT },
    { ngx_string("accept"), NGX_WEBTORCH_REQUEST_ACCEPT },
    { ngx_string("accept-language"), NGX_WEBTORCH_REQUEST_ACCEPT_LANGUAGE },
    { ngx_string("accept-encoding"), NGX_WEBTORCH_REQUEST_ACCEPT_ENCODING },
    { ngx_string("referer"), NGX_WEBTORCH_REQUEST_REFERER },
    { ngx_string("cookie"), NGX_WEBTORCH_REQUEST_COOKIE },
    { ngx_string("authorization"), NGX_WEBTORCH_REQUEST_AUTHORIZATION },
    { ngx_null_string, 0 }
};


/* features of tokens, and all of the text */

#define NGX_HTTP_WEBTORCH_TOKENS                                              \
    (1U << NGX_WEBTORCH_FEATURE_TOKENS | 1U << NGX_WEBTORCH_FEATURE_SEGMENTS  \
     | 1U << NGX_WEBTORCH_FEATURE_PARAMETERS)

#define NGX_HTTP_WEBTORCH_TEXTS                                               \
    (1U << NGX_WEBTORCH_FEATURE_NGRAMS | 1U << NGX_WEBTORCH_FEATURE_BYTES     \
     | 1U << NGX_WEBTORCH_FEATURE_REQUEST | NGX_HTTP_WEBTORCH_TOKENS)


/* columns of methods, the last one is of all others */

static ngx_uint_t  ngx_http_webtorch_known_methods[] = {
    NGX_HTTP_GET,
    NGX_HTTP_HEAD,
    NGX_HTTP_POST,
    NGX_HTTP_PUT,
    NGX_HTTP_DELETE
};

#define NGX_HTTP_WEBTORCH_OTHER_METHOD                                        \
    (sizeof(ngx_http_webtorch_known_methods) / sizeof(ngx_uint_t))


/* the event loop's: what is made of one request at a time */

static ngx_webtorch_text_features_t  ngx_http_webtorch_text;
static ngx_webtorch_tokens_t         ngx_http_webtorch_tokens;
static char                 ngx_http_webtorch_text_body[NGX_WEBTORCH_TEXT_SIZE];


ngx_int_t
ngx_http_webtorch_score(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_webtorch_waiter_t *waiter)
{
    ngx_webtorch_sink_t      sink;
    ngx_webtorch_layout_t    layout;
    ngx_webtorch_handler_t  *handler;

    handler = scorer->handler;

    if (handler->runner == NULL) {
        handler->stats.refused++;
        return NGX_DECLINED;
    }

    if (ngx_webtorch_runner_full(handler->runner)) {
        handler->stats.refused++;
        return NGX_BUSY;
    }

    ngx_http_webtorch_row_measure(r, scorer, &layout);

    if (ngx_webtorch_batch_reserve(handler->runner, &layout, &sink) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_webtorch_row_write(r, scorer, &sink);

    (void) ngx_webtorch_batch_add(handler->runner, &layout, waiter);

    return NGX_OK;
}


void
ngx_http_webtorch_row_measure(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_webtorch_layout_t *layout)
{
    ngx_uint_t                       client;
    ngx_webtorch_text_features_t    *text;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    /* a subrequest is of its request */

    r = r->main;
    ctx = ngx_http_webtorch_phases_ctx(r, 0);
    text = &ngx_http_webtorch_text;

    ngx_memzero(layout, sizeof(ngx_webtorch_layout_t));
    layout->rows = 1;

    client = ngx_http_webtorch_uses(scorer, NGX_HTTP_WEBTORCH_CLIENTS);

    /* first, as the key may be another model's variable */

    if (client) {
        ngx_http_webtorch_clients_key(r, ctx);
    }

    ngx_http_webtorch_parts(r, text);

    if (client) {
        ngx_http_webtorch_clients_arrive(r, ctx, text);
    }

    if (ngx_http_webtorch_uses(scorer, NGX_HTTP_WEBTORCH_TEXTS)) {
        ngx_http_webtorch_body_part(r, scorer->body, &text->body);
        ngx_webtorch_features_text(text);
    }

    if (ngx_http_webtorch_uses(scorer, NGX_HTTP_WEBTORCH_TOKENS)) {
        ngx_webtorch_cut(&ngx_http_webtorch_tokens, text);

        layout->sizes[0] = ngx_webtorch_tokens_size(&ngx_http_webtorch_tokens);
    }
}


void
ngx_http_webtorch_row_write(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_webtorch_sink_t *sink)
{
    uint32_t                          i, k;
    webtorch_spec_t                  *spec;
    ngx_webtorch_tokens_t            *tokens;
    ngx_webtorch_outcome_t            outcome;
    ngx_webtorch_text_features_t     *text;
    ngx_http_webtorch_phases_ctx_t   *ctx;
    ngx_webtorch_request_features_t   request;

    r = r->main;
    ctx = ngx_http_webtorch_phases_ctx(r, 0);
    text = &ngx_http_webtorch_text;
    tokens = &ngx_http_webtorch_tokens;

    for (i = 0; i < scorer->handler->schema.ninputs; i++) {
        spec = &scorer->handler->schema.inputs[i];
        k = (uint32_t) spec->shape[spec->ndim - 1];

        if (spec->shape[spec->ndim - 1] < 0) {
            k = ngx_webtorch_tokens_size(tokens);
        }

        switch (scorer->inputs[i]) {

        case NGX_WEBTORCH_FEATURE_NGRAMS:
            ngx_webtorch_features_ngrams(sink->data[i], spec->dtype, k, text);
            break;

        case NGX_WEBTORCH_FEATURE_BYTES:
            ngx_webtorch_features_bytes(sink->data[i], k, text);
            break;

        case NGX_WEBTORCH_FEATURE_TOKENS:
            ngx_webtorch_features_tokens(sink->data[i], k, tokens);
            break;

        case NGX_WEBTORCH_FEATURE_SEGMENTS:
            ngx_webtorch_features_segments(sink->data[i], k, tokens);
            break;

        case NGX_WEBTORCH_FEATURE_PARAMETERS:
            ngx_webtorch_features_parameters(sink->data[i], tokens);
            break;

        case NGX_WEBTORCH_FEATURE_REQUEST:
            ngx_http_webtorch_request_features(r, &request);
            ngx_webtorch_features_request(sink->data[i], k, &request, text);
            break;

        case NGX_WEBTORCH_FEATURE_CLIENT:
            ngx_webtorch_features_client(sink->data[i], k, &ctx->client);
            break;

        case NGX_WEBTORCH_FEATURE_SITE:
            ngx_webtorch_features_site(sink->data[i], k, &ctx->site);
            break;

        case NGX_WEBTORCH_FEATURE_OUTCOME:
            ngx_http_webtorch_outcome(r, &outcome);
            ngx_webtorch_features_outcome(sink->data[i], k, &outcome);
            break;

        case NGX_WEBTORCH_FEATURE_ID:
            ngx_http_webtorch_id(r, sink->data[i]);
            break;

        default: /* NGX_WEBTORCH_FEATURE_KEY */
            *(int64_t *) sink->data[i] =
                ngx_webtorch_features_key((char *) ctx->key.data,
                                          ctx->key.len);
            break;
        }
    }
}


static ngx_uint_t
ngx_http_webtorch_uses(ngx_http_webtorch_feature_handler_t *scorer, uint32_t features)
{
    return (scorer->used & features) != 0;
}


/* the target as it was sent; a request that is malformed may have none */

static void
ngx_http_webtorch_parts(ngx_http_request_t *r,
    ngx_webtorch_text_features_t *text)
{
    u_char  *p, *last;

    ngx_memzero(&text->query, sizeof(ngx_webtorch_part_t));
    ngx_memzero(&text->body, sizeof(ngx_webtorch_part_t));

    text->path.data = (char *) r->unparsed_uri.data;
    text->path.len = r->unparsed_uri.len;

    if (r->unparsed_uri.len == 0) {
        return;
    }

    last = r->unparsed_uri.data + r->unparsed_uri.len;
    p = ngx_strlchr(r->unparsed_uri.data, last, '?');

    if (p) {
        text->path.len = p - r->unparsed_uri.data;
        text->query.data = (char *) p + 1;
        text->query.len = last - p - 1;
    }
}


/* as much of the body as is asked for, if it has been read */

static void
ngx_http_webtorch_body_part(ngx_http_request_t *r, size_t limit,
    ngx_webtorch_part_t *part)
{
    char         *p;
    size_t        size;
    ssize_t       n;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (limit == 0
        || r->request_body == NULL
        || r->request_body->bufs == NULL
        || r->request_body_no_buffering)
    {
        return;
    }

    cl = r->request_body->bufs;
    b = cl->buf;

    if (cl->next == NULL && ngx_buf_in_memory(b)) {
        part->data = (char *) b->pos;
        part->len = ngx_min((size_t) (b->last - b->pos), limit);
        return;
    }

    p = ngx_http_webtorch_text_body;

    for ( /* void */ ; cl && limit; cl = cl->next) {
        b = cl->buf;
        size = ngx_min((size_t) ngx_buf_size(b), limit);

        if (ngx_buf_in_memory(b)) {
            ngx_memcpy(p, b->pos, size);

        } else if (size) {
            n = ngx_read_file(b->file, (u_char *) p, size, b->file_pos);

            if (n != (ssize_t) size) {
                break;
            }
        }

        p += size;
        limit -= size;
    }

    part->data = ngx_http_webtorch_text_body;
    part->len = p - ngx_http_webtorch_text_body;
}


static void
ngx_http_webtorch_request_features(ngx_http_request_t *r,
    ngx_webtorch_request_features_t *request)
{
    uint32_t  i;

    ngx_memzero(request, sizeof(ngx_webtorch_request_features_t));

    for (i = 0; i < NGX_HTTP_WEBTORCH_OTHER_METHOD; i++) {
        if (ngx_http_webtorch_known_methods[i] == r->method) {
            break;
        }
    }

    request->method = i;
    request->http = NGX_WEBTORCH_REQUEST_HTTP;

    if (r->http_version >= NGX_HTTP_VERSION_20) {
        request->http += 2;

    } else if (r->http_version == NGX_HTTP_VERSION_11) {
        request->http += 1;
    }

#if (NGX_HTTP_SSL)
    if (r->connection->ssl) {
        request->flags |= 1U << NGX_WEBTORCH_REQUEST_TLS;
    }
#endif

    if (r->headers_in.server.len) {
        request->flags |= 1U << NGX_WEBTORCH_REQUEST_HOST;
    }

    if (ngx_http_webtorch_is_address(&r->headers_in.server)) {
        request->flags |= 1U << NGX_WEBTORCH_REQUEST_HOST_IS_ADDRESS;
    }

    request->body = ngx_http_webtorch_body_size(r);

    ngx_http_webtorch_header_features(r, request);
}


static void
ngx_http_webtorch_header_features(ngx_http_request_t *r,
    ngx_webtorch_request_features_t *request)
{
    ngx_uint_t                         i;
    ngx_list_part_t                   *part;
    ngx_table_elt_t                   *h;
    ngx_http_webtorch_known_header_t  *known;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        request->headers++;

        for (known = ngx_http_webtorch_known_headers; known->name.len; known++)
        {
            if (known->name.len == h[i].key.len
                && ngx_memcmp(known->name.data, h[i].lowcase_key,
                              known->name.len)
                   == 0)
            {
                break;
            }
        }

        if (known->name.len == 0) {
            continue;
        }

        request->flags |= 1U << known->column;

        if (known->column == NGX_WEBTORCH_REQUEST_USER_AGENT) {
            request->user_agent += h[i].value.len;

        } else if (known->column == NGX_WEBTORCH_REQUEST_COOKIE) {
            request->cookie += h[i].value.len;
        }
    }
}


/* nginx has validated it, and taken the port away */

static ngx_uint_t
ngx_http_webtorch_is_address(ngx_str_t *host)
{
    if (host->len == 0) {
        return 0;
    }

    return host->data[0] == '['
           || ngx_inet_addr(host->data, host->len) != INADDR_NONE;
}


static uint64_t
ngx_http_webtorch_body_size(ngx_http_request_t *r)
{
    uint64_t      size;
    ngx_chain_t  *cl;

    if (r->headers_in.content_length_n >= 0) {
        return r->headers_in.content_length_n;
    }

    size = 0;

    if (r->request_body && !r->request_body_no_buffering) {
        for (cl = r->request_body->bufs; cl; cl = cl->next) {
            size += ngx_buf_size(cl->buf);
        }
    }

    return size;
}


static void
ngx_http_webtorch_id(ngx_http_request_t *r, void *row)
{
    ngx_http_variable_value_t             *v;
    ngx_http_webtorch_phases_main_conf_t  *pmcf;

    pmcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_phases_module);

    v = ngx_http_get_indexed_variable(r, pmcf->request_id);

    if (v == NULL || v->not_found) {
        ngx_memzero(row, NGX_WEBTORCH_ID_LEN);
        return;
    }

    ngx_webtorch_features_id(row, (char *) v->data, v->len);
}


double
ngx_http_webtorch_output(ngx_webtorch_waiter_t *waiter, webtorch_job_t *job)
{
    const void  *p;

    p = ngx_webtorch_batch_output(waiter, job, 0);

    return ngx_webtorch_number(ngx_webtorch_batch_specs(waiter)->dtype, p);
}


void
ngx_http_webtorch_suspend(ngx_http_request_t *r)
{
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;
}


void
ngx_http_webtorch_resume(ngx_http_request_t *r)
{
    ngx_connection_t  *c;

    c = r->connection;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        ngx_http_run_posted_requests(c);
        return;
    }

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}


/* an overload must not fill the disk */

void
ngx_http_webtorch_log_score_error(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_uint_t level, const char *why)
{
    ngx_http_webtorch_notice_t  *notice;

    notice = &scorer->notice;

    if (notice->sec == ngx_time()) {
        notice->count++;
        return;
    }

    ngx_log_error(level, r->connection->log, 0,
                  "webtorch handler \"%V\" has not scored a request: %s, "
                  "and %ui more before that",
                  &scorer->handler->name, why, notice->count);

    notice->sec = ngx_time();
    notice->count = 0;
}


const char *
ngx_http_webtorch_score_strerror(ngx_int_t rc)
{
    switch (rc) {

    case NGX_BUSY:
        return "its queue is full";

    case NGX_DECLINED:
        return "it is not loaded";

    default:
        return "no memory";
    }
}
