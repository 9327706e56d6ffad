
#include "ngx_http_webtorch_stream_document.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_send.h"


/* bytes of all outputs, which the event loop encodes at once */
#define NGX_HTTP_WEBTORCH_MAX_DOCUMENT  (256 * 1024)


struct ngx_http_webtorch_stream_document_s {
    uint32_t                 noutputs;
    uint32_t                 rows;
    size_t                   size;        /* bytes of all that is below */
    webtorch_spec_t         *specs;
    ngx_webtorch_message_t   data[WEBTORCH_MAX_TENSORS];
    ngx_webtorch_message_t   text;        /* strings; they are at offsets */
    ngx_webtorch_account_t   account;
};


static void ngx_http_webtorch_stream_document_cleanup(void *data);
static ngx_int_t ngx_http_webtorch_stream_document_add_strings(
    ngx_http_webtorch_stream_document_t *doc, size_t size,
    ngx_webtorch_message_t *to, const webtorch_text_t *from);
static ngx_int_t ngx_http_webtorch_stream_document_add_bytes(
    ngx_webtorch_message_t *m, const void *data, size_t len);
static void ngx_http_webtorch_stream_document_finish(
    ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_stream_document_send(
    ngx_http_webtorch_stream_t *st);
static u_char *ngx_http_webtorch_stream_document_encode(
    ngx_http_webtorch_stream_t *st, u_char *p, const void **data,
    ngx_webtorch_layout_t *layout);
static ngx_int_t ngx_http_webtorch_stream_document_join(
    ngx_http_webtorch_stream_t *st, const webtorch_text_t *from,
    webtorch_text_t *text);
static void ngx_http_webtorch_stream_document_resolve(
    ngx_http_webtorch_stream_document_t *doc);


ngx_int_t
ngx_http_webtorch_stream_document_create(ngx_http_webtorch_stream_t *st)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(st->request->pool,
                               sizeof(ngx_http_webtorch_stream_document_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(cln->data, sizeof(ngx_http_webtorch_stream_document_t));

    cln->handler = ngx_http_webtorch_stream_document_cleanup;

    st->document = cln->data;
    st->document->noutputs = st->conf->wire.noutputs;
    st->document->specs = st->conf->wire.outputs;
    st->finish = ngx_http_webtorch_stream_document_finish;

    return NGX_OK;
}


static void
ngx_http_webtorch_stream_document_cleanup(void *data)
{
    ngx_http_webtorch_stream_document_t *doc = data;

    uint32_t  i;

    for (i = 0; i < doc->noutputs; i++) {
        ngx_webtorch_message_free(&doc->data[i]);
    }

    ngx_webtorch_message_free(&doc->text);

    ngx_webtorch_queue_release(&doc->account, doc->account.held);
}


ngx_int_t
ngx_http_webtorch_stream_document_add(ngx_http_webtorch_stream_t *st,
    webtorch_spec_t *specs, const void **data)
{
    size_t                                size;
    uint32_t                              i;
    ngx_int_t                             rc;
    ngx_http_webtorch_stream_document_t  *doc;

    doc = st->document;

    for (i = 0; i < doc->noutputs; i++) {
        size = (size_t) specs[i].row_size;

        rc = ngx_webtorch_is_string(specs[i].dtype)
             ? ngx_http_webtorch_stream_document_add_strings(doc, size,
                                                       &doc->data[i], data[i])
             : ngx_http_webtorch_stream_document_add_bytes(&doc->data[i],
                                                           data[i], size);

        if (rc != NGX_OK) {
            return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "no_memory", "no memory");
        }

        doc->size += size;
    }

    /* answers are counted, but not refused */

    ngx_webtorch_queue_hold(&doc->account,
                            doc->size + doc->text.len - doc->account.held);

    if (doc->size + doc->text.len > NGX_HTTP_WEBTORCH_MAX_DOCUMENT) {
        return ngx_webtorch_error(&st->err, 406, "not_acceptable",
                   "the answer is too large to be sent as a whole: accept "
                   "application/x-ndjson or text/event-stream");
    }

    doc->rows++;

    return NGX_OK;
}


/* Python frees its strings after the call */

static ngx_int_t
ngx_http_webtorch_stream_document_add_strings(
    ngx_http_webtorch_stream_document_t *doc, size_t size,
    ngx_webtorch_message_t *to, const webtorch_text_t *from)
{
    size_t            n;
    const void       *bytes;
    webtorch_text_t   text;

    for (n = size / sizeof(webtorch_text_t); n; n--) {

        text.at = doc->text.len;
        text.len = from->len;

        bytes = (void *) (uintptr_t) from->at;

        if (ngx_http_webtorch_stream_document_add_bytes(&doc->text, bytes,
                                                        from->len)
            != NGX_OK
            || ngx_http_webtorch_stream_document_add_bytes(to, &text,
                                                           sizeof(text))
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        from++;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_stream_document_add_bytes(ngx_webtorch_message_t *m,
    const void *data, size_t len)
{
    if (len == 0) {
        return NGX_OK;
    }

    return (ngx_webtorch_message_add(m, data, len) == NGX_WEBTORCH_FRAME_OK)
               ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_webtorch_stream_document_finish(ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_finalize(st->request,
                               ngx_http_webtorch_stream_document_send(st));
}


static ngx_int_t
ngx_http_webtorch_stream_document_send(ngx_http_webtorch_stream_t *st)
{
    u_char                               *p, *last;
    uint32_t                              i;
    ngx_str_t                             text;
    const void                           *data[WEBTORCH_MAX_TENSORS];
    ngx_webtorch_layout_t                 layout;
    ngx_http_webtorch_stream_document_t  *doc;

    doc = st->document;

    if (st->err.status) {
        text.data = (u_char *) st->err.text;
        text.len = ngx_strlen(st->err.text);

        return ngx_http_webtorch_error(st->request,
                                       (ngx_uint_t) st->err.status,
                                       st->err.code, &text);
    }

    ngx_http_webtorch_stream_document_resolve(doc);

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));

    layout.rows = doc->rows;
    layout.named = 1;
    layout.text = doc->text.len;

    for (i = 0; i < doc->noutputs; i++) {
        data[i] = doc->data[i].data ? doc->data[i].data : "";
    }

    p = ngx_pnalloc(st->request->pool,
                    st->prefix.len + doc->noutputs
                    + ngx_webtorch_codec_json.bound(doc->specs,
                                                  doc->noutputs, &layout));
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (st->prefix.len) {
        last = ngx_http_webtorch_stream_document_encode(st, p, data, &layout);

    } else {
        last = (u_char *) ngx_webtorch_codec_json.encode((char *) p,
                                                         doc->specs,
                                                         doc->noutputs, data,
                                                         &layout);
    }

    return ngx_http_webtorch_send(st->request, NGX_HTTP_OK,
                                  &ngx_http_webtorch_json_type, p,
                                  (size_t) (last - p));
}


/*
 * One object with the members of the inference protocol, whose text_output is
 * one string: the texts of all steps.
 */

static u_char *
ngx_http_webtorch_stream_document_encode(ngx_http_webtorch_stream_t *st,
    u_char *p, const void **data, ngx_webtorch_layout_t *layout)
{
    u_char                               *start;
    uint32_t                              i, rows;
    const void                           *output;
    webtorch_text_t                       text;
    webtorch_spec_t                      *spec;
    ngx_http_webtorch_stream_document_t  *doc;

    doc = st->document;
    rows = layout->rows;

    p = ngx_cpymem(p, st->prefix.data, st->prefix.len);

    for (i = 0; i < doc->noutputs; i++) {
        spec = &doc->specs[i];
        output = data[i];

        if (spec->dtype == WEBTORCH_STR
            && spec->ndim == 0
            && ngx_strcmp(spec->name, "text_output") == 0
            && ngx_http_webtorch_stream_document_join(st, data[i], &text)
               == NGX_OK)
        {
            output = &text;
            layout->rows = 1;
            layout->single = 1;
        }

        start = p;
        p = (u_char *) ngx_webtorch_codec_json.encode((char *) p, spec, 1,
                                                      &output, layout)
            - 1;
        *start = ',';

        layout->rows = rows;
        layout->single = 0;
    }

    *p++ = '}';

    return p;
}


static ngx_int_t
ngx_http_webtorch_stream_document_join(ngx_http_webtorch_stream_t *st,
    const webtorch_text_t *from, webtorch_text_t *text)
{
    u_char    *p;
    uint32_t   n;

    /* the text of all outputs is not shorter */

    p = ngx_pnalloc(st->request->pool, st->document->text.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text->at = (uintptr_t) p;

    for (n = 0; n < st->document->rows; n++) {
        p = ngx_cpymem(p, (void *) (uintptr_t) from[n].at, from[n].len);
    }

    text->len = (uint64_t) (p - (u_char *) (uintptr_t) text->at);

    return NGX_OK;
}


/* offsets become addresses: the text does not move any more */

static void
ngx_http_webtorch_stream_document_resolve(
    ngx_http_webtorch_stream_document_t *doc)
{
    size_t            n;
    uint32_t          i;
    webtorch_text_t  *text;

    for (i = 0; i < doc->noutputs; i++) {

        if (!ngx_webtorch_is_string(doc->specs[i].dtype)) {
            continue;
        }

        text = (webtorch_text_t *) doc->data[i].data;

        for (n = doc->data[i].len / sizeof(webtorch_text_t); n; n--) {
            text++->at += (uintptr_t) doc->text.data;
        }
    }
}
