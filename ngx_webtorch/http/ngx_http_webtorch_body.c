
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_thread.h"
#include "ngx_webtorch_codec.h"

#include <sys/mman.h>


/* bytes; a smaller body is copied for less than it costs to share it */
#define NGX_HTTP_WEBTORCH_SHARED_SIZE  16384


static ngx_uint_t ngx_http_webtorch_body_is_mapped(ngx_chain_t *bufs);
static size_t ngx_http_webtorch_body_size(ngx_chain_t *bufs);
static ngx_int_t ngx_http_webtorch_copy_bufs(ngx_chain_t *bufs, u_char *p,
    ngx_log_t *log);
static ngx_pool_cleanup_t *ngx_http_webtorch_take_large(ngx_http_request_t *r,
    u_char *p);
static ngx_int_t ngx_http_webtorch_map_body(ngx_http_request_t *r,
    ngx_buf_t *b, ngx_str_t *body);
static void ngx_http_webtorch_unmap_body(void *data);
static ngx_int_t ngx_http_webtorch_read_buf(ngx_buf_t *b, u_char *p,
    ngx_log_t *log);


ngx_uint_t
ngx_http_webtorch_body_complete(ngx_http_request_t *r)
{
    ngx_http_request_body_t  *rb;

    rb = r->request_body;

    /* a subrequest may have an empty body of its own */

    if (rb == NULL || rb != r->main->request_body) {
        return 1;
    }

    /* rest is -1 if there is no body */

    return rb->rest <= 0 && !r->main->reading_body;
}


/*
 * The body is copied only if it is in several pieces, or if its buffer has no
 * room for the padding.
 */

size_t
ngx_http_webtorch_body_copied(ngx_http_request_t *r, ngx_uint_t padded)
{
    ngx_buf_t    *b;
    ngx_chain_t  *bufs;

    bufs = r->request_body ? r->request_body->bufs : NULL;

    if (bufs == NULL) {
        return 0;
    }

    b = bufs->buf;

    if (bufs->next == NULL
        && ngx_buf_in_memory_only(b)
        && (!padded || b->end - b->last >= NGX_WEBTORCH_PADDING))
    {
        return 0;
    }

    return ngx_http_webtorch_body_is_mapped(bufs)
               ? 0 : ngx_http_webtorch_body_size(bufs);
}


static ngx_uint_t
ngx_http_webtorch_body_is_mapped(ngx_chain_t *bufs)
{
    ngx_buf_t  *b;

    b = bufs->buf;

    return bufs->next == NULL && b->in_file && !ngx_buf_in_memory(b)
           && b->file_pos % ngx_pagesize == 0;
}


static size_t
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


ngx_int_t
ngx_http_webtorch_body(ngx_http_request_t *r, ngx_uint_t padded,
    ngx_str_t *body)
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
        return ngx_http_webtorch_map_body(r, b, body);
    }

    size = ngx_http_webtorch_body_copied(r, padded);

    if (size == 0) {
        body->data = b->pos;
        body->len = b->last - b->pos;
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
ngx_http_webtorch_copy_body(ngx_chain_t *bufs, ngx_pool_cleanup_t *cln,
    ngx_str_t *body, ngx_log_t *log)
{
    size_t   size;
    u_char  *p;

    size = ngx_http_webtorch_body_size(bufs);

    p = ngx_alloc(size + NGX_WEBTORCH_PADDING, log);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_webtorch_free;
    cln->data = p;

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
 * A job may outlive its request.  The body is a mapping of this file, memory
 * that inflating has allocated, or a large block of the request's pool.
 */

ngx_webtorch_shared_t *
ngx_http_webtorch_share_body(ngx_http_request_t *r, ngx_str_t *body)
{
    size_t                  mapped;
    ngx_pool_cleanup_t     *cln;
    ngx_webtorch_shared_t  *shared;

    if (body->len < NGX_HTTP_WEBTORCH_SHARED_SIZE) {
        return NULL;
    }

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_webtorch_unmap_body
            && ((ngx_str_t *) cln->data)->data == body->data)
        {
            mapped = ((ngx_str_t *) cln->data)->len;

        } else if (cln->handler == ngx_webtorch_free
                   && cln->data == body->data)
        {
            mapped = 0;

        } else {
            continue;
        }

        shared = ngx_webtorch_share(body->data, mapped);

        if (shared) {
            cln->handler = ngx_webtorch_release;
            cln->data = shared;
            ngx_http_webtorch_defer_cleanup(r, cln, body->len);
        }

        return shared;
    }

    cln = ngx_http_webtorch_take_large(r, body->data);
    if (cln == NULL) {
        return NULL;
    }

    shared = ngx_webtorch_share(body->data, 0);

    if (shared) {
        cln->handler = ngx_webtorch_release;
        cln->data = shared;
        ngx_http_webtorch_defer_cleanup(r, cln, body->len);
    }

    return shared;
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
    cln->handler = ngx_webtorch_free;
    cln->data = p;

    return cln;
}


void
ngx_http_webtorch_defer_body(ngx_http_request_t *r)
{
    size_t                  size;
    ngx_buf_t              *b;
    ngx_str_t              *map;
    ngx_chain_t            *cl;
    ngx_pool_cleanup_t     *cln;
    ngx_webtorch_shared_t  *shared;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler != ngx_http_webtorch_unmap_body) {
            continue;
        }

        map = cln->data;

        if (map->data == NULL || map->len < NGX_HTTP_WEBTORCH_LARGE_SIZE) {
            continue;
        }

        /* the map is in the pool of the request, which is destroyed before */

        shared = ngx_webtorch_share(map->data, map->len);

        if (shared) {
            ngx_webtorch_release(shared);

            cln->handler = ngx_webtorch_release;
            cln->data = shared;
            ngx_http_webtorch_defer_cleanup(r, cln, map->len);
        }
    }

    cl = r->request_body ? r->request_body->bufs : NULL;

    for ( /* void */ ; cl; cl = cl->next) {
        b = cl->buf;
        size = b->end - b->start;

        if (!ngx_buf_in_memory_only(b) || size < NGX_HTTP_WEBTORCH_LARGE_SIZE) {
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
ngx_http_webtorch_map_body(ngx_http_request_t *r, ngx_buf_t *b, ngx_str_t *body)
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

    body->data = p;
    body->len = size;

    return NGX_OK;
}


static void
ngx_http_webtorch_unmap_body(void *data)
{
    ngx_str_t *map = data;

    (void) munmap(map->data, map->len);
}
