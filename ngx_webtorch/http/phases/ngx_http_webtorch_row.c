
#include "ngx_http_webtorch_row.h"
#include "ngx_http_webtorch_body_part.h"
#include "ngx_http_webtorch_clients.h"
#include "ngx_http_webtorch_field_features.h"
#include "ngx_http_webtorch_outcome.h"
#include "ngx_http_webtorch_phases_ctx.h"
#include "ngx_http_webtorch_request_features.h"
#include "ngx_webtorch_columns.h"
#include "ngx_webtorch_tokens.h"


/* features of tokens, of fields, and those of all the text */

#define NGX_HTTP_WEBTORCH_TOKENS                                              \
    (1U << NGX_WEBTORCH_FEATURE_TOKENS | 1U << NGX_WEBTORCH_FEATURE_SEGMENTS  \
     | 1U << NGX_WEBTORCH_FEATURE_PARAMETERS)

#define NGX_HTTP_WEBTORCH_FIELDS                                              \
    (1U << NGX_WEBTORCH_FEATURE_NUMBERS | 1U << NGX_WEBTORCH_FEATURE_WINDOWS  \
     | 1U << NGX_WEBTORCH_FEATURE_TRAITS | 1U << NGX_WEBTORCH_FEATURE_NAMES)

#define NGX_HTTP_WEBTORCH_TEXTS                                               \
    (1U << NGX_WEBTORCH_FEATURE_NGRAMS | 1U << NGX_WEBTORCH_FEATURE_BYTES     \
     | 1U << NGX_WEBTORCH_FEATURE_REQUEST | NGX_HTTP_WEBTORCH_TOKENS)


static ngx_uint_t ngx_http_webtorch_uses(
    ngx_http_webtorch_feature_handler_t *fh, uint32_t features);
static ngx_uint_t ngx_http_webtorch_row_is_partial(
    ngx_http_webtorch_feature_handler_t *fh, ngx_int_t rc);
static void ngx_http_webtorch_parts(ngx_http_request_t *r,
    ngx_webtorch_text_features_t *text);
static void ngx_http_webtorch_id(ngx_http_request_t *r, void *row);
static int64_t ngx_http_webtorch_location(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx);


/* the event loop's: the features of one request at a time */

static ngx_webtorch_text_features_t   ngx_http_webtorch_text;
static ngx_webtorch_tokens_t          ngx_http_webtorch_tokens;
static const ngx_webtorch_windows_t  *ngx_http_webtorch_row_windows;

static ngx_int_t  ngx_http_webtorch_row_unread_code;

/* the size of the variable axis, which tokens and numbers may share */
static uint32_t  ngx_http_webtorch_row_size;


ngx_int_t
ngx_http_webtorch_row_measure(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_layout_t *layout)
{
    uint32_t                         size;
    ngx_int_t                        rc, body;
    ngx_uint_t                       client;
    ngx_webtorch_text_features_t    *text;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    /* a subrequest has the features of its main request */

    r = r->main;
    ctx = ngx_http_webtorch_phases_ctx(r, 0);
    text = &ngx_http_webtorch_text;

    ngx_memzero(layout, sizeof(ngx_webtorch_layout_t));
    layout->rows = 1;
    ngx_http_webtorch_row_size = 0;
    ngx_http_webtorch_row_unread_code = NGX_OK;
    body = NGX_OK;

    client = ngx_http_webtorch_uses(fh, NGX_HTTP_WEBTORCH_CLIENTS);

    /* first: the key may be a variable of another model, which is measured */

    if (client) {
        ngx_http_webtorch_clients_key(r, ctx);
    }

    ngx_http_webtorch_parts(r, text);

    if (client) {
        ngx_http_webtorch_clients_arrive(r, ctx, text);
    }

    if (ngx_http_webtorch_uses(fh, NGX_HTTP_WEBTORCH_TEXTS
                                   | NGX_HTTP_WEBTORCH_FIELDS))
    {
        body = ngx_http_webtorch_body_part(r, fh->body, &text->body);

        if (body == NGX_HTTP_WEBTORCH_BODY_MISSING && fh->body_optional) {
            body = NGX_OK;
        }

        if (body != NGX_OK && !ngx_http_webtorch_row_is_partial(fh, body)) {
            return body;
        }
    }

    if (ngx_http_webtorch_uses(fh, NGX_HTTP_WEBTORCH_TEXTS)) {
        ngx_webtorch_features_text(text);
    }

    if (ngx_http_webtorch_uses(fh, NGX_HTTP_WEBTORCH_FIELDS)) {
        rc = ngx_http_webtorch_field_features(r, fh->used, text, body,
                                              &ngx_http_webtorch_row_windows);

        if (rc != NGX_OK && !ngx_http_webtorch_row_is_partial(fh, rc)) {
            return rc;
        }

        ngx_http_webtorch_row_unread_code = rc;

        ngx_http_webtorch_row_size =
            ngx_webtorch_windows_size(ngx_http_webtorch_row_windows);
    }

    if (ngx_http_webtorch_uses(fh, NGX_HTTP_WEBTORCH_TOKENS)) {
        ngx_webtorch_cut(&ngx_http_webtorch_tokens, text);

        size = ngx_webtorch_tokens_size(&ngx_http_webtorch_tokens);

        if (size > ngx_http_webtorch_row_size) {
            ngx_http_webtorch_row_size = size;
        }
    }

    layout->sizes[0] = ngx_http_webtorch_row_size;

    return NGX_OK;
}


/* whether there is a row for what of the request can be read */

static ngx_uint_t
ngx_http_webtorch_row_is_partial(ngx_http_webtorch_feature_handler_t *fh,
    ngx_int_t rc)
{
    if (rc == NGX_HTTP_WEBTORCH_BODY_CUT) {
        return 1;
    }

    return rc != NGX_ERROR && fh->partial
           && !ngx_http_webtorch_uses(fh, NGX_HTTP_WEBTORCH_TEXTS);
}


ngx_int_t
ngx_http_webtorch_row_unread(void)
{
    return ngx_http_webtorch_row_unread_code;
}


void
ngx_http_webtorch_row_write(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_sink_t *sink)
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

    for (i = 0; i < fh->handler->schema.ninputs; i++) {
        spec = &fh->handler->schema.inputs[i];
        k = (uint32_t) spec->shape[spec->ndim - 1];

        if (spec->shape[spec->ndim - 1] < 0) {
            k = ngx_http_webtorch_row_size;
        }

        switch (fh->inputs[i]) {

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

        case NGX_WEBTORCH_FEATURE_NUMBERS:
            ngx_webtorch_features_numbers(sink->data[i], k,
                                          ngx_http_webtorch_row_windows);
            break;

        case NGX_WEBTORCH_FEATURE_WINDOWS:
            ngx_webtorch_features_windows(sink->data[i], k,
                                          ngx_http_webtorch_row_windows);
            break;

        case NGX_WEBTORCH_FEATURE_TRAITS:
            ngx_webtorch_features_traits(sink->data[i], k,
                                       ngx_http_webtorch_row_windows->traits);
            break;

        case NGX_WEBTORCH_FEATURE_NAMES:
            ngx_webtorch_features_names(sink->data[i], k,
                                        ngx_http_webtorch_row_windows->names);
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

        case NGX_WEBTORCH_FEATURE_LOCATION:
            *(int64_t *) sink->data[i] = ngx_http_webtorch_location(r, ctx);
            break;

        case NGX_WEBTORCH_FEATURE_TARGET:
            *(float *) sink->data[i] = (float) fh->target;
            break;

        default: /* NGX_WEBTORCH_FEATURE_KEY */
            *(int64_t *) sink->data[i] =
                ngx_webtorch_features_key((char *) ctx->key.data,
                                          ctx->key.len);
            break;
        }
    }
}


size_t
ngx_http_webtorch_row_field(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, uint32_t window, u_char *name)
{
    ngx_webtorch_text_features_t  *text;

    r = r->main;
    text = &ngx_http_webtorch_text;

    ngx_http_webtorch_parts(r, text);

    if (!ngx_http_webtorch_uses(fh, NGX_HTTP_WEBTORCH_FIELDS)) {
        return 0;
    }

    /* a body that cannot be read is left out, as when it was scored */

    (void) ngx_http_webtorch_body_part(r, fh->body, &text->body);

    return ngx_http_webtorch_field_name(r, text, window, name);
}


static ngx_uint_t
ngx_http_webtorch_uses(ngx_http_webtorch_feature_handler_t *fh,
    uint32_t features)
{
    return (fh->used & features) != 0;
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


/*
 * A hash of the port and of the names of the server and of the location.  The
 * last one in which the request was scored counts after a redirect, too, for
 * example to an error page.
 */

static int64_t
ngx_http_webtorch_location(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx)
{
    uint64_t                   h;
    ngx_uint_t                 i;
    ngx_str_t                  names[2];
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_core_srv_conf_t  *cscf;

    if (ctx && ctx->location) {
        return ctx->location;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    names[0] = cscf->server_name;
    names[1] = clcf->name;

    /* servers without a name have ports of their own */

    h = ngx_inet_get_port(r->connection->local_sockaddr);

    for (i = 0; i < 2; i++) {
        h = h * 31 + (uint64_t) ngx_webtorch_features_key(
                                    (char *) names[i].data, names[i].len);
    }

    h = (h >> 1) | 1;

    if (ctx) {
        ctx->location = (int64_t) h;
    }

    return (int64_t) h;
}
