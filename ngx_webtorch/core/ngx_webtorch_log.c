
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
