
/*
 * Compressed bodies are inflated into one piece, which codecs read, at some
 * hundred megabytes a second.
 */

#include "ngx_http_webtorch_inflate.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_webtorch_buffer.h"

#include <zlib.h>


#define NGX_HTTP_WEBTORCH_INFLATE_MIN    4096

/* bytes; zlib's sizes have 32 bits */
#define NGX_HTTP_WEBTORCH_INFLATE_PIECE  (1024 * 1024 * 1024)


typedef struct {
    ngx_str_t    name;
    ngx_uint_t   coding;
} ngx_http_webtorch_coding_t;


typedef struct {
    z_stream                  z;
    ngx_http_webtorch_ctx_t  *ctx;
    u_char                   *last_in;
    u_char                   *start;
    u_char                   *end;        /* of the buffer, without the
                                             padding */
    size_t                    limit;
} ngx_http_webtorch_inflate_t;


static ngx_int_t ngx_http_webtorch_add_codings(ngx_uint_t *coding,
    ngx_str_t *value);
static ngx_http_webtorch_coding_t *ngx_http_webtorch_find_coding(u_char *name,
    size_t len);
static ngx_int_t ngx_http_webtorch_inflate_all(ngx_http_webtorch_inflate_t *in,
    ngx_webtorch_error_t *err);
static ngx_int_t ngx_http_webtorch_inflate_grow(
    ngx_http_webtorch_inflate_t *in, ngx_webtorch_error_t *err);
static ngx_int_t ngx_http_webtorch_inflate_resize(
    ngx_http_webtorch_inflate_t *in, size_t size);
static ngx_int_t ngx_http_webtorch_inflate_error(
    ngx_http_webtorch_inflate_t *in, ngx_webtorch_error_t *err,
    const char *reason);


static ngx_http_webtorch_coding_t  ngx_http_webtorch_codings[] = {
    { ngx_string("gzip"), NGX_HTTP_WEBTORCH_GZIP },
    { ngx_string("x-gzip"), NGX_HTTP_WEBTORCH_GZIP },
    { ngx_string("deflate"), NGX_HTTP_WEBTORCH_DEFLATE },
    { ngx_string("identity"), NGX_HTTP_WEBTORCH_IDENTITY },
    { ngx_null_string, 0 }
};


ngx_int_t
ngx_http_webtorch_coding(ngx_http_request_t *r, ngx_uint_t *coding)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    *coding = NGX_HTTP_WEBTORCH_IDENTITY;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            /* several headers of this name are one list */

            if (ngx_http_webtorch_is_coding(&h[i])
                && ngx_http_webtorch_add_codings(coding, &h[i].value)
                   != NGX_OK)
            {
                return NGX_DECLINED;
            }
        }
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_webtorch_is_coding(ngx_table_elt_t *h)
{
    return h->key.len == sizeof("content-encoding") - 1
           && ngx_memcmp(h->lowcase_key, "content-encoding",
                         sizeof("content-encoding") - 1)
              == 0;
}


/* parses "identity, gzip"; only one coding beside identity is allowed */

static ngx_int_t
ngx_http_webtorch_add_codings(ngx_uint_t *coding, ngx_str_t *value)
{
    u_char                      *p, *last, *start, *end;
    ngx_http_webtorch_coding_t  *found;

    p = value->data;
    last = p + value->len;

    for ( ;; ) {

        while (p < last && (*p == ' ' || *p == '\t' || *p == ',')) {
            p++;
        }

        if (p == last) {
            return NGX_OK;
        }

        start = p;

        while (p < last && *p != ',') {
            p++;
        }

        end = p;

        while (end[-1] == ' ' || end[-1] == '\t') {
            end--;
        }

        found = ngx_http_webtorch_find_coding(start, end - start);

        if (found == NULL) {
            return NGX_DECLINED;
        }

        if (found->coding == NGX_HTTP_WEBTORCH_IDENTITY) {
            continue;
        }

        if (*coding != NGX_HTTP_WEBTORCH_IDENTITY) {
            return NGX_DECLINED;
        }

        *coding = found->coding;
    }
}


static ngx_http_webtorch_coding_t *
ngx_http_webtorch_find_coding(u_char *name, size_t len)
{
    ngx_http_webtorch_coding_t  *c;

    for (c = ngx_http_webtorch_codings; c->name.len; c++) {
        if (c->name.len == len
            && ngx_strncasecmp(c->name.data, name, len) == 0)
        {
            return c;
        }
    }

    return NULL;
}


size_t
ngx_http_webtorch_inflate_limit(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return clcf->client_max_body_size ? (size_t) clcf->client_max_body_size
                                      : NGX_HTTP_WEBTORCH_INFLATE_MAX;
}


/*
 * The last four bytes of gzip are the size of the last member, as the client
 * claims it; "deflate" has none, and text often inflates to four times its
 * size.  More is counted when the memory is allocated.
 */

ngx_int_t
ngx_http_webtorch_inflate_reserve(ngx_http_webtorch_ctx_t *ctx,
    ngx_str_t *body, size_t limit)
{
    size_t   size;
    u_char  *p;

    size = 4 * body->len;

    if (ctx->coding == NGX_HTTP_WEBTORCH_GZIP && body->len >= 4) {
        p = body->data + body->len - 4;
        size = p[0] | (p[1] << 8) | (p[2] << 16) | ((size_t) p[3] << 24);
    }

    size = ngx_min(size, limit) + 1;

    if (ngx_webtorch_queue_reserve(&ctx->account, size) != NGX_OK) {
        return NGX_BUSY;
    }

    ctx->inflated = size;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_inflate(ngx_http_webtorch_ctx_t *ctx, ngx_str_t *body,
    size_t limit, ngx_pool_cleanup_t *cln, ngx_webtorch_error_t *err)
{
    size_t                        size;
    ngx_int_t                     rc;
    ngx_http_webtorch_inflate_t   in;

    ngx_memzero(&in, sizeof(ngx_http_webtorch_inflate_t));

    in.z.next_in = body->data;
    in.ctx = ctx;
    in.last_in = body->data + body->len;
    in.limit = limit;

    if (inflateInit2(&in.z,
                     ngx_http_webtorch_inflate_window_bits(ctx->coding, body))
        != Z_OK)
    {
        return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    rc = ngx_http_webtorch_inflate_all(&in, err);

    (void) inflateEnd(&in.z);

    if (rc != NGX_OK) {
        ngx_webtorch_buffer_free(in.start);
        ngx_webtorch_queue_release(&ctx->account, ctx->inflated);
        ctx->inflated = 0;
        return rc;
    }

    ngx_memzero(in.z.next_out, NGX_WEBTORCH_PADDING);

    size = in.z.next_out - in.start;

    /* the buffer may have twice the size that is needed */

    (void) ngx_http_webtorch_inflate_resize(&in, size);

    cln->handler = ngx_webtorch_buffer_free;
    cln->data = in.start;
    ctx->memory = cln;

    if (size < ctx->inflated) {
        ngx_webtorch_queue_release(&ctx->account, ctx->inflated - size);
        ctx->inflated = size;
    }

    body->data = in.start;
    body->len = size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_inflate_resize(ngx_http_webtorch_inflate_t *in, size_t size)
{
    u_char  *p;

    p = ngx_webtorch_buffer_realloc(in->start, size + NGX_WEBTORCH_PADDING);
    if (p == NULL) {
        return NGX_ERROR;
    }

    in->start = p;

    return NGX_OK;
}


void
ngx_http_webtorch_inflate_free(ngx_http_webtorch_ctx_t *ctx)
{
    if (ctx->memory == NULL) {
        return;
    }

    ctx->memory->handler(ctx->memory->data);
    ctx->memory->handler = NULL;
    ctx->memory = NULL;

    ngx_webtorch_queue_release(&ctx->account, ctx->inflated);
    ctx->inflated = 0;
}


/*
 * "deflate" is zlib's format, but some clients send it without the header and
 * the checksum.  Such a stream begins like the header only with a stored block
 * and a bit set that every encoder leaves zero.
 */

int
ngx_http_webtorch_inflate_window_bits(ngx_uint_t coding, ngx_str_t *body)
{
    u_char  *p;

    if (coding == NGX_HTTP_WEBTORCH_GZIP) {
        return MAX_WBITS + 16;
    }

    p = body->data;

    if (body->len > 1
        && (p[0] & 0x8f) == Z_DEFLATED
        && ((p[0] << 8) + p[1]) % 31 == 0)
    {
        return MAX_WBITS;
    }

    return -MAX_WBITS;
}


static ngx_int_t
ngx_http_webtorch_inflate_all(ngx_http_webtorch_inflate_t *in,
    ngx_webtorch_error_t *err)
{
    int        rc;
    z_stream  *z;

    z = &in->z;

    for ( ;; ) {

        if (z->next_out == in->end
            && ngx_http_webtorch_inflate_grow(in, err) != NGX_OK)
        {
            return NGX_ERROR;
        }

        z->avail_in = (uInt) ngx_min(in->last_in - z->next_in,
                                     NGX_HTTP_WEBTORCH_INFLATE_PIECE);
        z->avail_out = (uInt) ngx_min(in->end - z->next_out,
                                      NGX_HTTP_WEBTORCH_INFLATE_PIECE);

        rc = inflate(z, Z_NO_FLUSH);

        if ((size_t) (z->next_out - in->start) > in->limit) {
            return ngx_webtorch_error(err, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                       "too_large", "the inflated body is larger than "
                       "\"client_max_body_size\" allows");
        }

        switch (rc) {

        case Z_OK:
            continue;

        case Z_STREAM_END:

            if (z->next_in == in->last_in) {
                return NGX_OK;
            }

            /* gzip allows another member after the first */

            if (in->ctx->coding == NGX_HTTP_WEBTORCH_GZIP) {
                (void) inflateReset(z);
                continue;
            }

            return ngx_http_webtorch_inflate_error(in, err,
                                                   "more data after its end");

        case Z_BUF_ERROR:
            return ngx_http_webtorch_inflate_error(in, err, "it is cut off");

        case Z_NEED_DICT:
            return ngx_http_webtorch_inflate_error(in, err,
                                                   "it needs a dictionary");

        case Z_MEM_ERROR:
            return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "no_memory", "no memory");

        default: /* Z_DATA_ERROR */
            return ngx_http_webtorch_inflate_error(in, err,
                                                   z->msg ? z->msg
                                                          : zError(rc));
        }
    }
}


/*
 * The buffer grows with the output, never by a size that the body claims.  One
 * byte more than the limit shows that a body is too large.
 */

static ngx_int_t
ngx_http_webtorch_inflate_grow(ngx_http_webtorch_inflate_t *in,
    ngx_webtorch_error_t *err)
{
    size_t                    size, used;
    ngx_http_webtorch_ctx_t  *ctx;

    ctx = in->ctx;
    used = in->z.next_out - in->start;

    size = ngx_max(2 * used, NGX_HTTP_WEBTORCH_INFLATE_MIN);
    size = ngx_min(size, in->limit + 1);

    if (used < ctx->inflated) {
        size = ngx_min(size, ctx->inflated);

    } else if (ngx_webtorch_queue_reserve(&ctx->account, size - ctx->inflated)
               == NGX_OK)
    {
        ctx->inflated = size;

    } else {
        return ngx_http_webtorch_body_full(err);
    }

    if (ngx_http_webtorch_inflate_resize(in, size) != NGX_OK) {
        return ngx_webtorch_error(err, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                  "no_memory", "no memory");
    }

    in->end = in->start + size;
    in->z.next_out = in->start + used;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_inflate_error(ngx_http_webtorch_inflate_t *in,
    ngx_webtorch_error_t *err, const char *reason)
{
    return ngx_webtorch_error(err, NGX_HTTP_BAD_REQUEST, "malformed_body",
                              "invalid %s encoding: %s",
                              in->ctx->coding == NGX_HTTP_WEBTORCH_GZIP
                              ? "gzip" : "deflate", reason);
}
