
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


static ngx_uint_t ngx_http_webtorch_row_uses(
    ngx_http_webtorch_feature_handler_t *fh, uint32_t features);
static ngx_uint_t ngx_http_webtorch_row_is_partial(
    ngx_http_webtorch_feature_handler_t *fh, ngx_int_t rc);
static ngx_uint_t ngx_http_webtorch_row_is_readable(
    ngx_http_webtorch_feature_handler_t *fh, ngx_int_t rc);
static ngx_int_t ngx_http_webtorch_row_scored(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh);
static ngx_int_t ngx_http_webtorch_row_find(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    ngx_http_webtorch_native_t *native, ngx_webtorch_scored_list_t *list);
static ngx_int_t ngx_http_webtorch_row_read_names(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_uint_t known);
static ngx_uint_t ngx_http_webtorch_row_learns(
    ngx_http_webtorch_phases_ctx_t *ctx,
    ngx_http_webtorch_feature_handler_t *fh);
static void ngx_http_webtorch_row_keep(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    ngx_http_webtorch_native_t *native,
    const ngx_webtorch_scored_list_t *list);
static ngx_int_t ngx_http_webtorch_row_body(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh);
static void ngx_http_webtorch_row_parts(ngx_http_request_t *r,
    ngx_webtorch_text_features_t *text);
static void ngx_http_webtorch_row_id(ngx_http_request_t *r, void *row);
static int64_t ngx_http_webtorch_row_location(ngx_http_request_t *r,
    ngx_http_webtorch_phases_ctx_t *ctx);


/* the event loop's: the features of one request at a time */

static ngx_webtorch_text_features_t   ngx_http_webtorch_text;
static ngx_webtorch_tokens_t          ngx_http_webtorch_tokens;
static const ngx_webtorch_windows_t  *ngx_http_webtorch_row_windows;
static ngx_webtorch_scored_list_t     ngx_http_webtorch_row_list;
static ngx_webtorch_names_t           ngx_http_webtorch_address;
static const ngx_webtorch_names_t    *ngx_http_webtorch_row_names;

static ngx_int_t  ngx_http_webtorch_row_unread_code;

/* the size of the variable axis, which tokens and numbers may share */
static uint32_t  ngx_http_webtorch_row_size;


ngx_int_t
ngx_http_webtorch_row_measure(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_webtorch_layout_t *layout)
{
    uint32_t                         size;
    ngx_int_t                        rc, body;
    ngx_uint_t                       client, scored;
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

    client = ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_CLIENTS);

    /* first: the key may be a variable of another model, which is measured */

    if (client) {
        ngx_http_webtorch_clients_key(r, ctx);
    }

    ngx_http_webtorch_row_parts(r, text);

    if (client) {
        ngx_http_webtorch_clients_arrive(r, ctx, text);
    }

    scored = ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_SCORED);

    if (ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_TEXTS)
        || (!scored
            && ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_FIELDS)))
    {
        body = ngx_http_webtorch_row_body(r, fh);

        if (body != NGX_OK && !ngx_http_webtorch_row_is_partial(fh, body)) {
            return body;
        }
    }

    if (ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_TEXTS)) {
        ngx_webtorch_features_text(text);
    }

    if (scored) {
        rc = ngx_http_webtorch_row_scored(r, fh);

        if (rc != NGX_OK && !ngx_http_webtorch_row_is_readable(fh, rc)) {
            return rc;
        }

        ngx_http_webtorch_row_unread_code = rc;

    } else if (ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_FIELDS)) {
        rc = ngx_http_webtorch_field_features(r, fh->used, text, body,
                                              &ngx_http_webtorch_row_windows);

        if (rc != NGX_OK && !ngx_http_webtorch_row_is_partial(fh, rc)) {
            return rc;
        }

        ngx_http_webtorch_row_unread_code = rc;

        ngx_http_webtorch_row_size =
            ngx_webtorch_windows_size(ngx_http_webtorch_row_windows);
        ngx_http_webtorch_row_names = ngx_http_webtorch_row_windows->names;
    }

    if (ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_TOKENS)) {
        ngx_webtorch_tokens_cut(&ngx_http_webtorch_tokens, text);

        size = ngx_webtorch_tokens_size(&ngx_http_webtorch_tokens);

        if (size > ngx_http_webtorch_row_size) {
            ngx_http_webtorch_row_size = size;
        }
    }

    layout->sizes[0] = ngx_http_webtorch_row_size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_row_body(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh)
{
    ngx_int_t  rc;

    rc = ngx_http_webtorch_body_part(r, fh->body,
                                     &ngx_http_webtorch_text.body);

    return (rc == NGX_HTTP_WEBTORCH_BODY_MISSING && fh->body_optional)
           ? NGX_OK : rc;
}


/* most requests were scored by webtorch_access, and are not read again */

static ngx_int_t
ngx_http_webtorch_row_scored(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh)
{
    ngx_int_t                        rc, names;
    ngx_uint_t                       known, some;
    ngx_webtorch_scored_list_t      *list;
    ngx_webtorch_scored_site_t       site;
    ngx_http_webtorch_native_t      *native;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    list = &ngx_http_webtorch_row_list;
    ctx = ngx_http_webtorch_phases_ctx(r, 0);

    native = ngx_http_webtorch_native_get(fh->handler);
    if (native == NULL) {
        return NGX_HTTP_WEBTORCH_FIELDS_NO_NET;
    }

    if (ctx && ctx->windows && ctx->native == native && ctx->body == fh->body) {
        *list = *ctx->windows;
        rc = NGX_OK;

    } else {
        rc = ngx_http_webtorch_row_find(r, fh, native, list);
    }

    known = 1;
    some = (rc == NGX_OK || ngx_http_webtorch_row_is_readable(fh, rc));

    if (some && ngx_http_webtorch_row_learns(ctx, fh)) {
        ngx_http_webtorch_native_site(native, &site);

        known = !ngx_webtorch_scored_is_new(list, site.learned);
    }

    ngx_http_webtorch_native_release(native);

    ngx_http_webtorch_row_size = ngx_webtorch_scored_size(list);

    if (!some
        || !ngx_http_webtorch_row_uses(fh, 1U << NGX_WEBTORCH_FEATURE_NAMES))
    {
        return rc;
    }

    names = ngx_http_webtorch_row_read_names(r, fh, known);

    return (names == NGX_OK) ? rc : names;
}


/* the windows of the request, in the event loop's memory */

static ngx_int_t
ngx_http_webtorch_row_find(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    ngx_http_webtorch_native_t *native, ngx_webtorch_scored_list_t *list)
{
    ngx_int_t  body;

    body = ngx_http_webtorch_row_body(r, fh);

    if (body != NGX_OK && !ngx_http_webtorch_row_is_partial(fh, body)) {
        return body;
    }

    return ngx_http_webtorch_field_scored(r, native, &ngx_http_webtorch_text,
                                          body, list);
}


/* known: the names of all fields are, and only that of the address is set */

static ngx_int_t
ngx_http_webtorch_row_read_names(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh, ngx_uint_t known)
{
    ngx_int_t                      rc, body;
    ngx_webtorch_text_features_t  *text;

    text = &ngx_http_webtorch_text;

    if (known) {
        ngx_webtorch_names_init(&ngx_http_webtorch_address, &text->path);
        ngx_http_webtorch_row_names = &ngx_http_webtorch_address;
        return NGX_OK;
    }

    body = ngx_http_webtorch_row_body(r, fh);

    if (body != NGX_OK && !ngx_http_webtorch_row_is_partial(fh, body)) {
        return body;
    }

    rc = ngx_http_webtorch_field_features(r, 1U << NGX_WEBTORCH_FEATURE_NAMES,
                                          text, body,
                                          &ngx_http_webtorch_row_windows);

    ngx_http_webtorch_row_names = ngx_http_webtorch_row_windows->names;

    return rc;
}


/* names are for models that learn: not those of requests that were decided */

static ngx_uint_t
ngx_http_webtorch_row_learns(ngx_http_webtorch_phases_ctx_t *ctx,
    ngx_http_webtorch_feature_handler_t *fh)
{
    return ngx_http_webtorch_row_uses(fh, 1U << NGX_WEBTORCH_FEATURE_NAMES)
           && (ctx == NULL || !ctx->scored || ctx->dry_run);
}


/* whether there is a row for what of the request can be read */

static ngx_uint_t
ngx_http_webtorch_row_is_partial(ngx_http_webtorch_feature_handler_t *fh,
    ngx_int_t rc)
{
    if (rc == NGX_HTTP_WEBTORCH_BODY_CUT) {
        return 1;
    }

    return rc > NGX_OK && fh->partial
           && !ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_TEXTS);
}


/* as above, of windows that a net has scored: the last one is the request's */

static ngx_uint_t
ngx_http_webtorch_row_is_readable(ngx_http_webtorch_feature_handler_t *fh,
    ngx_int_t rc)
{
    return rc != NGX_HTTP_WEBTORCH_FIELDS_MANY
           && ngx_http_webtorch_row_is_partial(fh, rc);
}


ngx_int_t
ngx_http_webtorch_row_score(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    ngx_webtorch_scored_result_t *result)
{
    ngx_int_t                    rc;
    ngx_webtorch_scored_list_t   list;
    ngx_webtorch_scored_site_t   site;
    ngx_http_webtorch_native_t  *native;

    r = r->main;

    native = ngx_http_webtorch_native_get(fh->handler);
    if (native == NULL) {
        return NGX_DECLINED;
    }

    ngx_http_webtorch_row_parts(r, &ngx_http_webtorch_text);

    rc = ngx_http_webtorch_row_find(r, fh, native, &list);

    if (rc == NGX_HTTP_WEBTORCH_FIELDS_MANY) {
        rc = NGX_DECLINED;

    } else if (rc == NGX_OK || ngx_http_webtorch_row_is_partial(fh, rc)) {
        ngx_http_webtorch_row_unread_code = rc;
        rc = NGX_OK;

        ngx_http_webtorch_native_site(native, &site);

        site.target = (float) fh->target;
        site.location = ngx_http_webtorch_row_location(r,
                                          ngx_http_webtorch_phases_ctx(r, 0));

        ngx_webtorch_scored_result(ngx_http_webtorch_native_net(native), &list,
                                   &site, result);
        ngx_http_webtorch_row_keep(r, fh, native, &list);
    }

    ngx_http_webtorch_native_release(native);

    return rc;
}


/* keeps the windows for a row of webtorch_log, if it has one that needs them */

static void
ngx_http_webtorch_row_keep(ngx_http_request_t *r,
    ngx_http_webtorch_feature_handler_t *fh,
    ngx_http_webtorch_native_t *native, const ngx_webtorch_scored_list_t *list)
{
    size_t                                size;
    ngx_http_webtorch_phases_ctx_t       *ctx;
    ngx_http_webtorch_phases_loc_conf_t  *plcf;

    ctx = ngx_http_webtorch_phases_ctx(r, 0);
    plcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_phases_module);

    if (ctx == NULL || plcf->log == NULL
        || !ngx_http_webtorch_row_uses(plcf->log, NGX_HTTP_WEBTORCH_SCORED))
    {
        return;
    }

    size = list->nwindows * sizeof(ngx_webtorch_scored_window_t);

    ctx->windows = ngx_palloc(r->pool,
                              sizeof(ngx_webtorch_scored_list_t) + size);
    if (ctx->windows == NULL) {
        return;
    }

    *ctx->windows = *list;
    ctx->windows->windows = (ngx_webtorch_scored_window_t *)
                                (ctx->windows + 1);
    ctx->native = native;
    ctx->body = fh->body;

    ngx_memcpy(ctx->windows->windows, list->windows, size);
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
            if (ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_SCORED)) {
                ngx_webtorch_features_scored_traits(sink->data[i], k,
                                                 &ngx_http_webtorch_row_list);
                break;
            }

            ngx_webtorch_features_traits(sink->data[i], k,
                                       ngx_http_webtorch_row_windows->traits);
            break;

        case NGX_WEBTORCH_FEATURE_NAMES:
            ngx_webtorch_features_names(sink->data[i], k,
                                        ngx_http_webtorch_row_names);
            break;

        case NGX_WEBTORCH_FEATURE_LOGITS:
            ngx_webtorch_features_logits(sink->data[i], k,
                                         &ngx_http_webtorch_row_list);
            break;

        case NGX_WEBTORCH_FEATURE_PRINTS:
            ngx_webtorch_features_prints(sink->data[i], k,
                                         &ngx_http_webtorch_row_list);
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
            ngx_http_webtorch_row_id(r, sink->data[i]);
            break;

        case NGX_WEBTORCH_FEATURE_LOCATION:
            *(int64_t *) sink->data[i] = ngx_http_webtorch_row_location(r, ctx);
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

    ngx_http_webtorch_row_parts(r, text);

    if (!ngx_http_webtorch_row_uses(fh, NGX_HTTP_WEBTORCH_FIELDS
                                    | NGX_HTTP_WEBTORCH_SCORED))
    {
        return 0;
    }

    /* a body that cannot be read is left out, as when it was scored */

    (void) ngx_http_webtorch_body_part(r, fh->body, &text->body);

    return ngx_http_webtorch_field_name(r, text, window, name);
}


static ngx_uint_t
ngx_http_webtorch_row_uses(ngx_http_webtorch_feature_handler_t *fh,
    uint32_t features)
{
    return (fh->used & features) != 0;
}


/* the target as it was sent; a request that is malformed may have none */

static void
ngx_http_webtorch_row_parts(ngx_http_request_t *r,
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
ngx_http_webtorch_row_id(ngx_http_request_t *r, void *row)
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
ngx_http_webtorch_row_location(ngx_http_request_t *r,
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
