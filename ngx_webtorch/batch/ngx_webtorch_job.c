
/*
 * The memory of jobs, and the functions that Python calls on a job, in any
 * thread.  They copy everything into memory that the job owns, so that sending
 * it needs neither objects of Python nor the GIL.
 */

#include "ngx_webtorch_job.h"
#include "ngx_webtorch_codec.h"

#include <malloc.h>
#include <sys/mman.h>


/* counted, as the request of nginx and that of Python may end in any order */

struct ngx_webtorch_shared_s {
    ngx_atomic_t   count;
    void          *data;
    size_t         mapped;                /* bytes; 0: free() frees it */
    void         (*free)(void *p);
};


static size_t ngx_webtorch_headers_size(const webtorch_header_t *headers,
    uint32_t n);
static u_char *ngx_webtorch_copy_headers(u_char *p, webtorch_header_t *dst,
    const webtorch_header_t *src, uint32_t n);
static u_char *ngx_webtorch_copy_str(u_char *p, webtorch_str_t *dst,
    const webtorch_str_t *src);


void
ngx_webtorch_job_fail(webtorch_job_t *job, int status,
    const webtorch_failure_t *failure)
{
    webtorch_failure_t  *copy;

    free(job->failure);

    job->status = status;
    job->failure = NULL;

    if (failure == NULL) {
        return;
    }

    copy = malloc(ngx_webtorch_failure_size(failure));
    if (copy == NULL) {
        return;
    }

    ngx_webtorch_failure_write(copy, failure);

    job->failure = copy;
}


void
ngx_webtorch_failure_set(webtorch_failure_t *failure, const char *code,
    const char *message, ngx_uint_t retry)
{
    /* copied with the failure, and never written */

    static webtorch_header_t  header = {
        { "Retry-After", sizeof("Retry-After") - 1 }, { "1", 1 }
    };

    ngx_memzero(failure, sizeof(webtorch_failure_t));

    failure->message.data = (char *) message;
    failure->message.len = ngx_strlen(message);
    failure->code.data = (char *) code;
    failure->code.len = ngx_strlen(code);
    failure->headers = &header;
    failure->nheaders = (uint32_t) retry;
}


size_t
ngx_webtorch_failure_size(const webtorch_failure_t *failure)
{
    return sizeof(webtorch_failure_t)
           + failure->nheaders * sizeof(webtorch_header_t)
           + failure->message.len + failure->code.len + 1 + failure->detail.len
           + ngx_webtorch_headers_size(failure->headers, failure->nheaders);
}


void
ngx_webtorch_failure_write(webtorch_failure_t *copy,
    const webtorch_failure_t *failure)
{
    u_char  *p;

    *copy = *failure;
    copy->headers = (webtorch_header_t *) &copy[1];

    p = (u_char *) &copy->headers[failure->nheaders];

    p = ngx_webtorch_copy_str(p, &copy->message, &failure->message);
    p = ngx_webtorch_copy_str(p, &copy->code, &failure->code);
    *p++ = '\0';

    p = ngx_webtorch_copy_str(p, &copy->detail, &failure->detail);

    (void) ngx_webtorch_copy_headers(p, copy->headers, failure->headers,
                                     failure->nheaders);
}


int
ngx_webtorch_job_reply(webtorch_job_t *job, const webtorch_reply_t *reply)
{
    size_t             size;
    u_char            *p;
    webtorch_reply_t  *copy;

    size = sizeof(webtorch_reply_t)
           + reply->nheaders * sizeof(webtorch_header_t)
           + reply->content_type.len + reply->body.len + reply->file.len + 1
           + reply->redirect.len + NGX_WEBTORCH_PADDING
           + ngx_webtorch_headers_size(reply->headers, reply->nheaders);

    copy = malloc(size);
    if (copy == NULL) {
        return -1;
    }

    *copy = *reply;
    copy->headers = (webtorch_header_t *) &copy[1];

    p = (u_char *) &copy->headers[reply->nheaders];

    /*
     * The body is first, as the elements of a tensor must be aligned.  A codec
     * may read up to NGX_WEBTORCH_PADDING bytes after the end of the body.
     */

    p = ngx_webtorch_copy_str(p, &copy->body, &reply->body);
    p = ngx_webtorch_copy_str(p, &copy->content_type, &reply->content_type);

    p = ngx_webtorch_copy_str(p, &copy->redirect, &reply->redirect);

    p = ngx_webtorch_copy_headers(p, copy->headers, reply->headers,
                                  reply->nheaders);

    /* system calls need a terminated path */

    p = ngx_webtorch_copy_str(p, &copy->file, &reply->file);
    *p = '\0';

    free(job->reply);
    job->reply = copy;

    return 0;
}


int
ngx_webtorch_job_reply_body(webtorch_job_t *job, int status, const char *type,
    const char *body, size_t len)
{
    webtorch_reply_t  reply;

    ngx_memzero(&reply, sizeof(webtorch_reply_t));

    reply.status = status;
    reply.tensor.ndim = -1;

    reply.content_type.data = (char *) type;
    reply.content_type.len = ngx_strlen(type);

    reply.body.data = (char *) body;
    reply.body.len = len;

    return ngx_webtorch_job_reply(job, &reply);
}


int
ngx_webtorch_job_reply_item(webtorch_job_t *job, const char *item, size_t len)
{
    webtorch_reply_t  reply;

    ngx_memzero(&reply, sizeof(webtorch_reply_t));

    reply.status = 200;
    reply.tensor.ndim = -1;
    reply.more = 1;

    reply.body.data = (char *) item;
    reply.body.len = len;

    return ngx_webtorch_job_reply(job, &reply);
}


static size_t
ngx_webtorch_headers_size(const webtorch_header_t *headers, uint32_t n)
{
    size_t    size;
    uint32_t  i;

    size = 0;

    for (i = 0; i < n; i++) {
        size += headers[i].name.len + headers[i].value.len;
    }

    return size;
}


static u_char *
ngx_webtorch_copy_headers(u_char *p, webtorch_header_t *dst,
    const webtorch_header_t *src, uint32_t n)
{
    uint32_t  i;

    for (i = 0; i < n; i++) {
        p = ngx_webtorch_copy_str(p, &dst[i].name, &src[i].name);
        p = ngx_webtorch_copy_str(p, &dst[i].value, &src[i].value);
    }

    return p;
}


static u_char *
ngx_webtorch_copy_str(u_char *p, webtorch_str_t *dst, const webtorch_str_t *src)
{
    dst->data = (char *) p;
    dst->len = src->len;

    /* data of an empty string may be NULL, which memcpy() does not allow */

    if (src->len == 0) {
        return p;
    }

    return ngx_cpymem(p, src->data, src->len);
}


void
ngx_webtorch_shared_free(void *p)
{
    free(p);
}


ngx_webtorch_shared_t *
ngx_webtorch_shared_create(void *data, size_t mapped, void (*free)(void *p))
{
    ngx_webtorch_shared_t  *shared;

    shared = malloc(sizeof(ngx_webtorch_shared_t));
    if (shared == NULL) {
        return NULL;
    }

    shared->count = 2;
    shared->data = data;
    shared->mapped = mapped;
    shared->free = free;

    return shared;
}


void
ngx_webtorch_shared_release(void *p)
{
    ngx_webtorch_shared_t *shared = p;

    if (shared == NULL || ngx_atomic_fetch_add(&shared->count, -1) != 1) {
        return;
    }

    if (shared->mapped) {
        (void) munmap(shared->data, shared->mapped);

    } else {
        shared->free(shared->data);
    }

    free(shared);
}


size_t
ngx_webtorch_request_size(webtorch_request_t *request)
{
    return request->size + (request->shared ? request->body : 0);
}


void
ngx_webtorch_job_free(webtorch_job_t *job)
{
    ngx_webtorch_job_owner_t  *owner;

    owner = job->owner;

    if (owner) {
        owner->released(owner, job);
    }

    if (job->request) {
        ngx_webtorch_shared_release(job->request->shared);
    }

    free(job->failure);
    free(job->request);
    free(job->reply);
    free(job->trace);
}


void
ngx_webtorch_trim(void)
{
#ifdef __GLIBC__
    (void) malloc_trim(0);
#endif
}
