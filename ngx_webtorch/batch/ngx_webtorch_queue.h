
/*
 * The bytes that requests of this worker hold while they wait: bodies, what
 * they are inflated to, rows and answers.  They are one sum for all handlers;
 * the option queue_size= of a handler is the sum beyond which its requests are
 * refused.
 */


#ifndef _NGX_WEBTORCH_QUEUE_H_INCLUDED_
#define _NGX_WEBTORCH_QUEUE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* bytes held by one request; changed by one thread at a time */

typedef struct {
    size_t       limit;                   /* queue_size= of its handler */
    size_t       held;                    /* bytes */
} ngx_webtorch_account_t;


/*
 * Adds bytes to what a request holds; NGX_BUSY: they would be too many.  A
 * request that has the queue for itself gets them in any case, as it would be
 * refused forever.  Called in any thread.
 */
ngx_int_t ngx_webtorch_queue_reserve(ngx_webtorch_account_t *account,
    size_t size);

/* whether a call of ngx_webtorch_queue_reserve() would succeed now */
ngx_uint_t ngx_webtorch_queue_fits(ngx_webtorch_account_t *account,
    size_t size);

/* adds bytes that are there already, however many there are */
void ngx_webtorch_queue_hold(ngx_webtorch_account_t *account, size_t size);

/* releases bytes that a request holds; called in any thread */
void ngx_webtorch_queue_release(ngx_webtorch_account_t *account, size_t size);

/* add and subtract bytes that no request holds, such as those of batches */
void ngx_webtorch_queue_add(size_t size);
void ngx_webtorch_queue_sub(size_t size);

/* bytes that wait for a thread which releases them, until it has */
void ngx_webtorch_queue_leave(size_t size);
void ngx_webtorch_queue_left(size_t size);

/* whether a request, which holds so many bytes already, would be refused */
ngx_uint_t ngx_webtorch_queue_full(size_t limit, size_t held);


#endif /* _NGX_WEBTORCH_QUEUE_H_INCLUDED_ */
