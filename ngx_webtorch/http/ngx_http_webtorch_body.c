
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_thread.h"
#include "ngx_webtorch_accept.h"
#include "ngx_webtorch_buffer.h"
#include "ngx_webtorch_codec.h"

#include <sys/mman.h>


/* bytes; a smaller body is copied for less than it costs to share it */
#define NGX_HTTP_WEBTORCH_SHARED_SIZE  16384


static void ngx_http_webtorch_body_release(ngx_http_webtorch_ctx_t *ctx);
static ngx_int_t ngx_http_webtorch_get_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_uint_t padded, ngx_str_t *body);
static ngx_uint_t ngx_http_webtorch_body_joins(ngx_http_request_t *r,
    ngx_chain_t *bufs, ngx_uint_t padded);
static void ngx_http_webtorch_join_bufs(ngx_http_request_body_t *rb,
    ngx_str_t *body);
static ngx_uint_t ngx_http_webtorch_body_is_mapped(ngx_chain_t *bufs);
static ngx_int_t ngx_http_webtorch_copy_bufs(ngx_chain_t *bufs, u_char *p,
    ngx_log_t *log);
static ngx_pool_cleanup_t *ngx_http_webtorch_take_large(ngx_http_request_t *r,
    u_char *p);
static ngx_int_t ngx_http_webtorch_map_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx, ngx_buf_t *b, ngx_str_t *body);
static void ngx_http_webtorch_defer_file(ngx_http_request_t *r, ngx_buf_t *b);
static void ngx_http_webtorch_unmap_page(void *data);
static void ngx_http_webtorch_unmap_body(void *data);
static ngx_int_t ngx_http_webtorch_read_buf(ngx_buf_t *b, u_char *p,
    ngx_log_t *log);


/*
 * Until it is read, a body that is larger than the buffer is in a file, which
 * takes no memory of the worker.
 */

ngx_int_t
ngx_http_webtorch_body_begin(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    off_t                      size, buffer;
    ngx_http_core_loc_conf_t  *clcf;

    ctx->account.limit = ctx->handler->queue_size;
    ctx->release = ngx_http_webtorch_body_release;

    ngx_webtorch_accept_begin(r->connection->requests <= 1);

    /* a subrequest has the body of its parent */

    if (r != r->main || r->request_body) {
        return NGX_OK;
    }

    ctx->own_body = 1;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    buffer = (off_t) clcf->client_body_buffer_size;
    size = r->headers_in.chunked ? buffer
                                 : ngx_max(r->headers_in.content_length_n, 0);

    if (!ngx_webtorch_queue_fits(&ctx->account, (size_t) size)) {
        return NGX_BUSY;
    }

    ngx_webtorch_queue_hold(&ctx->account, (size_t) ngx_min(size, buffer));

    return NGX_OK;
}


/*
 * Not a cleanup of nginx's request: it would be called while a thread inflates
 * the body of a request that has been terminated.
 */

static void
ngx_http_webtorch_body_release(ngx_http_webtorch_ctx_t *ctx)
{
    ngx_webtorch_accept_end();

    ngx_webtorch_queue_release(&ctx->account, ctx->account.held);
}


ngx_int_t
ngx_http_webtorch_body(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_uint_t padded, ngx_str_t *body)
{
    size_t     size;
    ngx_int_t  rc;

    rc = ngx_http_webtorch_get_body(r, ctx, padded, body);

    if (rc != NGX_OK) {
        return rc;
    }

    /* the buffer is counted already, a copy of it is not */

    size = ngx_http_webtorch_body_copied(r, padded);

    if (size == 0) {
        size = body->len - ngx_min(body->len, ctx->account.held);
    }

    rc = ngx_webtorch_queue_reserve(&ctx->account, size);

    if (rc != NGX_OK) {
        ngx_http_webtorch_body_unmap(ctx);
        return rc;
    }

    if (ctx->mapping) {
        ctx->mapped = size;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_body_full(ngx_webtorch_error_t *err)
{
    return ngx_webtorch_error(err, NGX_HTTP_SERVICE_UNAVAILABLE, "queue_full",
                              "requests that wait have more bytes than "
                              "\"queue_size=\" allows");
}


void
ngx_http_webtorch_body_unmap(ngx_http_webtorch_ctx_t *ctx)
{
    if (ctx->mapping == NULL) {
        return;
    }

    ctx->mapping->handler(ctx->mapping->data);
    ctx->mapping->handler = NULL;
    ctx->mapping = NULL;

    ngx_webtorch_queue_release(&ctx->account, ctx->mapped);
    ctx->mapped = 0;
}


/* the body is copied only if its buffer has no room for all of it */

size_t
ngx_http_webtorch_body_copied(ngx_http_request_t *r, ngx_uint_t padded)
{
    ngx_chain_t  *bufs;

    bufs = r->request_body ? r->request_body->bufs : NULL;

    if (bufs == NULL
        || ngx_http_webtorch_body_joins(r, bufs, padded)
        || ngx_http_webtorch_body_is_mapped(bufs))
    {
        return 0;
    }

    return ngx_http_webtorch_body_size(bufs);
}


/*
 * Each read makes a piece of nginx's buffer.  The first piece has come with the
 * header and is elsewhere, but the buffer has as much room behind the others.
 */

static ngx_uint_t
ngx_http_webtorch_body_joins(ngx_http_request_t *r, ngx_chain_t *bufs,
    ngx_uint_t padded)
{
    size_t                    size, room, moved;
    ngx_buf_t                *b, *next;
    ngx_chain_t              *cl;
    ngx_http_webtorch_ctx_t  *ctx;

    b = bufs->buf;

    if (!ngx_buf_in_memory_only(b)) {
        return 0;
    }

    moved = 0;
    size = b->last - b->pos;

    for (cl = bufs->next; cl; cl = cl->next) {
        next = cl->buf;

        if (!ngx_buf_in_memory_only(next)) {
            return 0;
        }

        if (next->pos != b->last) {

            if (b != bufs->buf) {
                return 0;
            }

            moved = size;
        }

        size += next->last - next->pos;
        b = next;
    }

    room = b->end - b->last;

    if (room < moved + (padded ? NGX_WEBTORCH_PADDING : 0)) {
        return 0;
    }

    if (moved == 0) {
        return 1;
    }

    /* a proxy of the parent, or of a mirror, may still send what is moved */

    ctx = ngx_http_webtorch_find_ctx(r);

    return ctx && ctx->own_body && size < NGX_WEBTORCH_LARGE_SIZE;
}


static void
ngx_http_webtorch_join_bufs(ngx_http_request_body_t *rb, ngx_str_t *body)
{
    size_t        n;
    ngx_buf_t    *first, *b;
    ngx_chain_t  *cl;

    first = rb->bufs->buf;
    n = first->last - first->pos;

    for (cl = rb->bufs; cl->next; cl = cl->next) { /* void */ }

    body->len = cl->buf->last - first->pos;
    body->data = first->pos;

    if (rb->bufs->next == NULL || rb->bufs->next->buf->pos == first->last) {
        return;
    }

    b = rb->bufs->next->buf;

    body->len = cl->buf->last - b->pos;
    body->data = b->pos;

    ngx_memmove(b->pos + n, b->pos, body->len);
    ngx_memcpy(b->pos, first->pos, n);

    body->len += n;
    b->last = b->pos + body->len;

    rb->bufs = rb->bufs->next;
    rb->bufs->next = NULL;
}


static ngx_uint_t
ngx_http_webtorch_body_is_mapped(ngx_chain_t *bufs)
{
    ngx_buf_t  *b;

    b = bufs->buf;

    return bufs->next == NULL && b->in_file && !ngx_buf_in_memory(b)
           && b->file_pos % ngx_pagesize == 0;
}


size_t
ngx_http_webtorch_body_size(ngx_chain_t *bufs)
{
    size_t        size;
    ngx_chain_t  *cl;

    size = 0;

    for (cl = bufs; cl; cl = cl->next) {
        size += (size_t) ngx_buf_size(cl->buf);
    }

    return size;
}


static ngx_int_t
ngx_http_webtorch_get_body(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_uint_t padded, ngx_str_t *body)
{
    size_t        size;
    u_char       *p;
    ngx_buf_t    *b;
    ngx_chain_t  *bufs;

    ngx_str_null(body);

    bufs = r->request_body ? r->request_body->bufs : NULL;

    if (bufs == NULL) {
        return NGX_OK;
    }

    b = bufs->buf;

    if (ngx_http_webtorch_body_is_mapped(bufs)) {
        return ngx_http_webtorch_map_body(r, ctx, b, body);
    }

    size = ngx_http_webtorch_body_copied(r, padded);

    if (size == 0) {
        ngx_http_webtorch_join_bufs(r->request_body, body);
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, size + NGX_WEBTORCH_PADDING);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body->data = p;
    body->len = size;

    return ngx_http_webtorch_copy_bufs(bufs, p, r->connection->log);
}


ngx_int_t
ngx_http_webtorch_copy_body(ngx_http_webtorch_ctx_t *ctx, ngx_chain_t *bufs,
    ngx_pool_cleanup_t *cln, ngx_str_t *body, ngx_log_t *log)
{
    size_t   size;
    u_char  *p;

    size = ngx_http_webtorch_body_size(bufs);

    p = ngx_webtorch_buffer_alloc(size + NGX_WEBTORCH_PADDING);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_webtorch_buffer_free;
    cln->data = p;
    ctx->mapping = cln;

    body->data = p;
    body->len = size;

    return ngx_http_webtorch_copy_bufs(bufs, p, log);
}


static ngx_int_t
ngx_http_webtorch_copy_bufs(ngx_chain_t *bufs, u_char *p, ngx_log_t *log)
{
    ngx_chain_t  *cl;

    for (cl = bufs; cl; cl = cl->next) {
        if (ngx_http_webtorch_read_buf(cl->buf, p, log) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        p += ngx_buf_size(cl->buf);
    }

    ngx_memzero(p, NGX_WEBTORCH_PADDING);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_read_buf(ngx_buf_t *b, u_char *p, ngx_log_t *log)
{
    size_t   size;
    ssize_t  n;

    size = (size_t) ngx_buf_size(b);

    if (!b->in_file) {
        ngx_memcpy(p, b->pos, size);
        return NGX_OK;
    }

    n = ngx_read_file(b->file, p, size, b->file_pos);

    if (n != (ssize_t) size) {
        ngx_log_error(NGX_LOG_CRIT, log, 0,
                      "could not read the request body from \"%V\"",
                      &b->file->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * A job may outlive its request.  The body is a mapping of this file, a buffer
 * that it was copied or inflated to, or a large block of the request's pool.
 */

ngx_webtorch_shared_t *
ngx_http_webtorch_share_body(ngx_http_request_t *r, ngx_str_t *body)
{
    size_t                    size;
    ngx_str_t                *map;
    ngx_pool_cleanup_t       *cln;
    ngx_webtorch_shared_t    *shared;
    ngx_http_webtorch_ctx_t  *ctx;

    if (body->len < NGX_HTTP_WEBTORCH_SHARED_SIZE) {
        return NULL;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_module);
    cln = ctx->memory ? ctx->memory : ctx->mapping;

    if (cln == NULL) {
        cln = ngx_http_webtorch_take_large(r, body->data);
        if (cln == NULL) {
            return NULL;
        }

        shared = ngx_webtorch_shared_create(body->data, 0,
                                            ngx_webtorch_shared_free);
        size = ngx_min(body->len, ctx->account.held);

    } else if (cln->handler == ngx_http_webtorch_unmap_body) {
        map = cln->data;
        shared = ngx_webtorch_shared_create(map->data, map->len, NULL);
        size = ctx->mapped;

    } else {
        shared = ngx_webtorch_shared_create(cln->data, 0,
                                            ngx_webtorch_buffer_free);
        size = ctx->mapped + ctx->inflated;
    }

    if (shared == NULL) {
        return NULL;
    }

    if (cln == ctx->memory || cln == ctx->mapping) {
        ctx->mapping = cln;
        ctx->mapped = 0;
        ctx->memory = NULL;
        ctx->inflated = 0;
    }

    /* the batch counts the body until it is given back */

    ngx_webtorch_queue_release(&ctx->account, size);
    ctx->lent = body->len;

    cln->handler = ngx_webtorch_shared_release;
    cln->data = shared;
    ngx_http_webtorch_defer_cleanup(r, cln, body->len);

    return shared;
}


void
ngx_http_webtorch_body_returned(ngx_http_webtorch_ctx_t *ctx)
{
    /* memory that is released at once is not counted */

    if (ctx->mapping == NULL || ctx->lent >= NGX_WEBTORCH_LARGE_SIZE) {
        ngx_webtorch_queue_hold(&ctx->account, ctx->lent);
    }

    ctx->lent = 0;

    ngx_http_webtorch_body_unmap(ctx);
}


/*
 * A large block of the pool gets a cleanup of its own, which frees it; NULL: p
 * is not such a block, or no memory.
 */

static ngx_pool_cleanup_t *
ngx_http_webtorch_take_large(ngx_http_request_t *r, u_char *p)
{
    ngx_pool_large_t    *large;
    ngx_pool_cleanup_t  *cln;

    for (large = r->pool->large; large; large = large->next) {
        if (large->alloc == p) {
            break;
        }
    }

    if (large == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    large->alloc = NULL;
    cln->handler = ngx_webtorch_shared_free;
    cln->data = p;

    return cln;
}


void
ngx_http_webtorch_defer_body(ngx_http_request_t *r,
    ngx_http_webtorch_ctx_t *ctx)
{
    size_t               size;
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_pool_cleanup_t  *cln;

    cl = r->request_body ? r->request_body->bufs : NULL;

    for ( /* void */ ; cl; cl = cl->next) {
        b = cl->buf;

        if (b->in_file && ctx->mapping == NULL) {
            ngx_http_webtorch_defer_file(r, b);
        }

        size = b->end - b->start;

        if (!ngx_buf_in_memory_only(b) || size < NGX_WEBTORCH_LARGE_SIZE) {
            continue;
        }

        cln = ngx_http_webtorch_take_large(r, b->start);

        if (cln) {
            ngx_http_webtorch_defer_cleanup(r, cln, size);
        }
    }
}


/*
 * A body in a temporary file is mapped, not read.  A mapped file is readable up
 * to the end of its last page only: a page of zeros after it is the padding.
 */

static ngx_int_t
ngx_http_webtorch_map_body(ngx_http_request_t *r, ngx_http_webtorch_ctx_t *ctx,
    ngx_buf_t *b, ngx_str_t *body)
{
    size_t               size;
    u_char              *p;
    ngx_str_t           *map;
    ngx_pool_cleanup_t  *cln;

    size = (size_t) ngx_buf_size(b);

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_str_t));
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    map = cln->data;
    map->len = ngx_align(size, ngx_pagesize) + ngx_pagesize;

    p = mmap(NULL, map->len, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS,
             -1, 0);

    if (p == MAP_FAILED) {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      "mmap(%uz) failed", map->len);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    map->data = p;
    cln->handler = ngx_http_webtorch_unmap_body;

    if (mmap(p, size, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED,
             b->file->fd, b->file_pos)
        == MAP_FAILED)
    {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, ngx_errno,
                      "mmap() of \"%V\" failed", &b->file->name);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->mapping = cln;

    body->data = p;
    body->len = size;

    ngx_http_webtorch_defer_file(r, b);

    return NGX_OK;
}


/*
 * When nginx closes the file, the system frees its pages, which takes long if
 * they are many.  One more page of it is mapped, and unmapped in a thread after
 * that.
 */

static void
ngx_http_webtorch_defer_file(ngx_http_request_t *r, ngx_buf_t *b)
{
    void                *p;
    ngx_pool_cleanup_t  *cln;

    if (b->file_last - b->file_pos < NGX_WEBTORCH_LARGE_SIZE) {
        return;
    }

    cln = ngx_pool_cleanup_add(r->pool, 0);
    if (cln == NULL) {
        return;
    }

    p = mmap(NULL, ngx_pagesize, PROT_READ, MAP_SHARED, b->file->fd, 0);

    if (p == MAP_FAILED) {
        return;
    }

    cln->handler = ngx_http_webtorch_unmap_page;
    cln->data = p;
    ngx_http_webtorch_defer_cleanup(r, cln, NGX_WEBTORCH_LARGE_SIZE);
}


static void
ngx_http_webtorch_unmap_page(void *data)
{
    (void) munmap(data, ngx_pagesize);
}


static void
ngx_http_webtorch_unmap_body(void *data)
{
    ngx_str_t *map = data;

    (void) munmap(map->data, map->len);
}
