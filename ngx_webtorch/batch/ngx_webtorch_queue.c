
#include "ngx_webtorch_queue.h"


/* bytes; threads change it while they inflate and decode */
static ngx_atomic_t  ngx_webtorch_queue_held;


ngx_int_t
ngx_webtorch_queue_reserve(ngx_webtorch_account_t *account, size_t size)
{
    ngx_atomic_uint_t  held;

    do {
        held = ngx_webtorch_queue_held;

        if (held + size > account->limit && held > account->held) {
            return NGX_BUSY;
        }

    } while (!ngx_atomic_cmp_set(&ngx_webtorch_queue_held, held, held + size));

    account->held += size;

    return NGX_OK;
}


ngx_uint_t
ngx_webtorch_queue_fits(ngx_webtorch_account_t *account, size_t size)
{
    size_t  held;

    held = ngx_webtorch_queue_held;

    return held + size <= account->limit || held <= account->held;
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


size_t
ngx_webtorch_queue_size(void)
{
    return ngx_webtorch_queue_held;
}
