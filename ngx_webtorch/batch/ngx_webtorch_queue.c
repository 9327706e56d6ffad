
#include "ngx_webtorch_queue.h"


/* bytes; threads change them while they inflate and decode, and release */
static ngx_atomic_t  ngx_webtorch_queue_held;
static ngx_atomic_t  ngx_webtorch_queue_leaving;


static ngx_uint_t ngx_webtorch_queue_allows(ngx_webtorch_account_t *account,
    size_t held, size_t size);


ngx_int_t
ngx_webtorch_queue_reserve(ngx_webtorch_account_t *account, size_t size)
{
    ngx_atomic_uint_t  held;

    do {
        held = ngx_webtorch_queue_held;

        if (!ngx_webtorch_queue_allows(account, held, size)) {
            return NGX_BUSY;
        }

    } while (!ngx_atomic_cmp_set(&ngx_webtorch_queue_held, held, held + size));

    account->held += size;

    return NGX_OK;
}


ngx_uint_t
ngx_webtorch_queue_fits(ngx_webtorch_account_t *account, size_t size)
{
    return ngx_webtorch_queue_allows(account, ngx_webtorch_queue_held, size);
}


/*
 * Bytes that a thread is about to release are no reason to refuse a client's
 * next request, unless threads are behind with as many as may be held.
 */

static ngx_uint_t
ngx_webtorch_queue_allows(ngx_webtorch_account_t *account, size_t held,
    size_t size)
{
    if (held <= account->held) {
        return 1;
    }

    size += held;

    return size <= account->limit
           && size + ngx_webtorch_queue_leaving <= 2 * account->limit;
}


void
ngx_webtorch_queue_hold(ngx_webtorch_account_t *account, size_t size)
{
    ngx_webtorch_queue_add(size);
    account->held += size;
}


void
ngx_webtorch_queue_release(ngx_webtorch_account_t *account, size_t size)
{
    account->held -= size;
    ngx_webtorch_queue_sub(size);
}


void
ngx_webtorch_queue_add(size_t size)
{
    (void) ngx_atomic_fetch_add(&ngx_webtorch_queue_held, size);
}


void
ngx_webtorch_queue_sub(size_t size)
{
    (void) ngx_atomic_fetch_add(&ngx_webtorch_queue_held,
                                -(ngx_atomic_int_t) size);
}


void
ngx_webtorch_queue_leave(size_t size)
{
    (void) ngx_atomic_fetch_add(&ngx_webtorch_queue_leaving, size);
}


void
ngx_webtorch_queue_left(size_t size)
{
    (void) ngx_atomic_fetch_add(&ngx_webtorch_queue_leaving,
                                -(ngx_atomic_int_t) size);
}


ngx_uint_t
ngx_webtorch_queue_full(size_t limit, size_t held)
{
    size_t  others;

    others = ngx_webtorch_queue_held - held;

    return others >= limit
           || (others && others + ngx_webtorch_queue_leaving >= 2 * limit);
}
