
#include "ngx_webtorch_log.h"
#include "ngx_webtorch_api.h"


void
ngx_webtorch_log(int level, const char *text, size_t len)
{
    ngx_str_t  s;

    s.data = (u_char *) text;
    s.len = len;

    ngx_webtorch_log_error((ngx_uint_t) level, ngx_cycle->log, 0,
                           "webtorch: %V", &s);
}


/*
 * At most once a second.  Each call of ngx_time_sigsafe_update() in a second
 * that the event loop has not seen yet takes another one of nginx's 64 slots of
 * cached times; after 64 of them it would clear the time that is in use.
 */

void
ngx_webtorch_log_update_time(void)
{
    ngx_err_t            err;
    ngx_atomic_uint_t    now, last;

    static ngx_atomic_t  updated;

    err = ngx_errno;
    now = (ngx_atomic_uint_t) time(NULL);
    last = updated;

    if (now != last && ngx_atomic_cmp_set(&updated, last, now)) {
        ngx_time_sigsafe_update();
    }

    ngx_set_errno(err);
}
