
#ifndef _GNU_SOURCE
#define _GNU_SOURCE                       /* mremap() */
#endif

#include "ngx_webtorch_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>


/* bytes; from this size on a buffer is from mmap() */
#define NGX_WEBTORCH_BUFFER_MAPPED  (128 * 1024)


/* in front of a buffer; as large as the alignment of elements */

typedef union {
    size_t   size;                        /* bytes, with the head */
    char     align[64];
} ngx_webtorch_buffer_head_t;


static ngx_webtorch_buffer_head_t *ngx_webtorch_buffer_map(size_t size);


void *
ngx_webtorch_buffer_alloc(size_t size)
{
    ngx_webtorch_buffer_head_t  *head;

    size += sizeof(ngx_webtorch_buffer_head_t);

    head = (size >= NGX_WEBTORCH_BUFFER_MAPPED) ? ngx_webtorch_buffer_map(size)
                                                : malloc(size);
    if (head == NULL) {
        return NULL;
    }

    head->size = size;

    return &head[1];
}


static ngx_webtorch_buffer_head_t *
ngx_webtorch_buffer_map(size_t size)
{
    void  *p;

    p = mmap(NULL, size, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS,
             -1, 0);

    return (p == MAP_FAILED) ? NULL : p;
}


void *
ngx_webtorch_buffer_realloc(void *p, size_t size)
{
    void                        *new;
    size_t                       old_size, new_size;
    ngx_webtorch_buffer_head_t  *head;

    if (p == NULL) {
        return ngx_webtorch_buffer_alloc(size);
    }

    head = (ngx_webtorch_buffer_head_t *) p - 1;
    old_size = head->size;
    new_size = size + sizeof(ngx_webtorch_buffer_head_t);

    if (old_size >= NGX_WEBTORCH_BUFFER_MAPPED
        && new_size >= NGX_WEBTORCH_BUFFER_MAPPED)
    {
        new = mremap(head, old_size, new_size, MREMAP_MAYMOVE);

        if (new == MAP_FAILED) {
            return NULL;
        }

        head = new;
        head->size = new_size;

        return &head[1];
    }

    if (old_size < NGX_WEBTORCH_BUFFER_MAPPED
        && new_size < NGX_WEBTORCH_BUFFER_MAPPED)
    {
        head = realloc(head, new_size);

        if (head == NULL) {
            return NULL;
        }

        head->size = new_size;

        return &head[1];
    }

    new = ngx_webtorch_buffer_alloc(size);

    if (new == NULL) {
        return NULL;
    }

    old_size -= sizeof(ngx_webtorch_buffer_head_t);

    memcpy(new, p, old_size < size ? old_size : size);
    ngx_webtorch_buffer_free(p);

    return new;
}


void
ngx_webtorch_buffer_free(void *p)
{
    ngx_webtorch_buffer_head_t  *head;

    if (p == NULL) {
        return;
    }

    head = (ngx_webtorch_buffer_head_t *) p - 1;

    if (head->size >= NGX_WEBTORCH_BUFFER_MAPPED) {
        (void) munmap(head, head->size);

    } else {
        free(head);
    }
}
