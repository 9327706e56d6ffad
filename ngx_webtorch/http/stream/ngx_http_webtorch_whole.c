
#include "ngx_http_webtorch_whole.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_send.h"
#include "ngx_webtorch_tensor.h"


/* bytes of all outputs, which the event loop encodes at once */
#define NGX_HTTP_WEBTORCH_MAX_WHOLE  (256 * 1024)


struct ngx_http_webtorch_whole_s {
    uint32_t                 noutputs;
    uint32_t                 rows;
    size_t                   size;        /* bytes of all that is below */
    webtorch_spec_t         *specs;
    ngx_webtorch_message_t   data[WEBTORCH_MAX_TENSORS];
    ngx_webtorch_message_t   text;        /* strings; they are at offsets */
    ngx_webtorch_account_t   account;
};


static void ngx_http_webtorch_whole_cleanup(void *data);
static ngx_int_t ngx_http_webtorch_whole_add_strings(
    ngx_http_webtorch_whole_t *whole, webtorch_spec_t *spec,
    ngx_webtorch_message_t *to, const webtorch_text_t *from);
static ngx_int_t ngx_http_webtorch_whole_add_bytes(ngx_webtorch_message_t *m,
    const void *data, size_t len);
static void ngx_http_webtorch_whole_finish(ngx_http_webtorch_stream_t *st);
static ngx_int_t ngx_http_webtorch_whole_send(ngx_http_webtorch_stream_t *st);
static u_char *ngx_http_webtorch_whole_encode(ngx_http_webtorch_stream_t *st,
    u_char *p, const void **data, ngx_webtorch_layout_t *layout);
static ngx_int_t ngx_http_webtorch_whole_join(ngx_http_webtorch_stream_t *st,
    const webtorch_text_t *from, webtorch_text_t *text);
static void ngx_http_webtorch_whole_resolve(ngx_http_webtorch_whole_t *whole);


ngx_int_t
ngx_http_webtorch_whole_create(ngx_http_webtorch_stream_t *st)
{
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(st->request->pool,
                               sizeof(ngx_http_webtorch_whole_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(cln->data, sizeof(ngx_http_webtorch_whole_t));

    cln->handler = ngx_http_webtorch_whole_cleanup;

    st->whole = cln->data;
    st->whole->noutputs = st->conf->wire.noutputs;
    st->whole->specs = st->conf->wire.outputs;
    st->finish = ngx_http_webtorch_whole_finish;

    return NGX_OK;
}


static void
ngx_http_webtorch_whole_cleanup(void *data)
{
    ngx_http_webtorch_whole_t *whole = data;

    uint32_t  i;

    for (i = 0; i < whole->noutputs; i++) {
        ngx_webtorch_message_free(&whole->data[i]);
    }

    ngx_webtorch_message_free(&whole->text);

    ngx_webtorch_queue_release(&whole->account, whole->account.held);
}


ngx_int_t
ngx_http_webtorch_whole_add(ngx_http_webtorch_stream_t *st,
    webtorch_spec_t *specs, const void **data)
{
    uint32_t                    i;
    ngx_int_t                   rc;
    ngx_http_webtorch_whole_t  *whole;

    whole = st->whole;

    for (i = 0; i < whole->noutputs; i++) {

        rc = ngx_webtorch_is_string(specs[i].dtype)
             ? ngx_http_webtorch_whole_add_strings(whole, &specs[i],
                                                   &whole->data[i], data[i])
             : ngx_http_webtorch_whole_add_bytes(&whole->data[i], data[i],
                                                 (size_t) specs[i].row_size);

        if (rc != NGX_OK) {
            return ngx_webtorch_error(&st->err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "no_memory", "no memory");
        }

        whole->size += (size_t) specs[i].row_size;
    }

    /* answers are counted, but not refused */

    ngx_webtorch_queue_hold(&whole->account,
                            whole->size + whole->text.len
                            - whole->account.held);

    if (whole->size + whole->text.len > NGX_HTTP_WEBTORCH_MAX_WHOLE) {
        return ngx_webtorch_error(&st->err, 406, "not_acceptable",
                   "the answer is too large to be sent as a whole: accept "
                   "application/x-ndjson or text/event-stream");
    }

    whole->rows++;

    return NGX_OK;
}


/* Python frees its strings after the call */

static ngx_int_t
ngx_http_webtorch_whole_add_strings(ngx_http_webtorch_whole_t *whole,
    webtorch_spec_t *spec, ngx_webtorch_message_t *to,
    const webtorch_text_t *from)
{
    size_t           n;
    webtorch_text_t  text;

    for (n = (size_t) spec->row_size / sizeof(webtorch_text_t); n; n--) {

        text.at = whole->text.len;
        text.len = from->len;

        if (ngx_http_webtorch_whole_add_bytes(&whole->text,
                                              (void *) (uintptr_t) from->at,
                                              from->len)
            != NGX_OK
            || ngx_http_webtorch_whole_add_bytes(to, &text, sizeof(text))
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        from++;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_whole_add_bytes(ngx_webtorch_message_t *m, const void *data,
    size_t len)
{
    if (len == 0) {
        return NGX_OK;
    }

    return (ngx_webtorch_message_add(m, data, len) == NGX_WEBTORCH_FRAME_OK)
               ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_webtorch_whole_finish(ngx_http_webtorch_stream_t *st)
{
    ngx_http_webtorch_finalize(st->request, ngx_http_webtorch_whole_send(st));
}


static ngx_int_t
ngx_http_webtorch_whole_send(ngx_http_webtorch_stream_t *st)
{
    u_char                     *p, *last;
    uint32_t                    i;
    ngx_str_t                   text;
    const void                 *data[WEBTORCH_MAX_TENSORS];
    ngx_webtorch_layout_t       layout;
    ngx_http_webtorch_whole_t  *whole;

    whole = st->whole;

    if (st->err.status) {
        text.data = (u_char *) st->err.text;
        text.len = ngx_strlen(st->err.text);

        return ngx_http_webtorch_error(st->request,
                                       (ngx_uint_t) st->err.status,
                                       st->err.code, &text);
    }

    ngx_http_webtorch_whole_resolve(whole);

    ngx_memzero(&layout, sizeof(ngx_webtorch_layout_t));

    layout.rows = whole->rows;
    layout.named = 1;
    layout.text = whole->text.len;

    for (i = 0; i < whole->noutputs; i++) {
        data[i] = whole->data[i].data ? whole->data[i].data : "";
    }

    p = ngx_pnalloc(st->request->pool,
                    st->prefix.len + whole->noutputs
                    + ngx_webtorch_codec_json.bound(whole->specs,
                                                  whole->noutputs, &layout));
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (st->prefix.len) {
        last = ngx_http_webtorch_whole_encode(st, p, data, &layout);

    } else {
        last = (u_char *) ngx_webtorch_codec_json.encode((char *) p,
                                                         whole->specs,
                                                         whole->noutputs, data,
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
ngx_http_webtorch_whole_encode(ngx_http_webtorch_stream_t *st, u_char *p,
    const void **data, ngx_webtorch_layout_t *layout)
{
    u_char                     *start;
    uint32_t                    i, rows;
    const void                 *output;
    webtorch_text_t             text;
    webtorch_spec_t            *spec;
    ngx_http_webtorch_whole_t  *whole;

    whole = st->whole;
    rows = layout->rows;

    p = ngx_cpymem(p, st->prefix.data, st->prefix.len);

    for (i = 0; i < whole->noutputs; i++) {
        spec = &whole->specs[i];
        output = data[i];

        if (spec->dtype == WEBTORCH_STR
            && spec->ndim == 0
            && ngx_strcmp(spec->name, "text_output") == 0
            && ngx_http_webtorch_whole_join(st, data[i], &text) == NGX_OK)
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
ngx_http_webtorch_whole_join(ngx_http_webtorch_stream_t *st,
    const webtorch_text_t *from, webtorch_text_t *text)
{
    u_char    *p;
    uint32_t   n;

    /* the text of all outputs is not shorter */

    p = ngx_pnalloc(st->request->pool, st->whole->text.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text->at = (uintptr_t) p;

    for (n = 0; n < st->whole->rows; n++) {
        p = ngx_cpymem(p, (void *) (uintptr_t) from[n].at, from[n].len);
    }

    text->len = (uint64_t) (p - (u_char *) (uintptr_t) text->at);

    return NGX_OK;
}


/* offsets become addresses: the text does not move any more */

static void
ngx_http_webtorch_whole_resolve(ngx_http_webtorch_whole_t *whole)
{
    size_t            n;
    uint32_t          i;
    webtorch_text_t  *text;

    for (i = 0; i < whole->noutputs; i++) {

        if (!ngx_webtorch_is_string(whole->specs[i].dtype)) {
            continue;
        }

        text = (webtorch_text_t *) whole->data[i].data;

        for (n = whole->data[i].len / sizeof(webtorch_text_t); n; n--) {
            text++->at += (uintptr_t) whole->text.data;
        }
    }
}
