
#include "ngx_webtorch_parse.h"


ngx_int_t
ngx_webtorch_parse_zone(ngx_conf_t *cf, ngx_str_t *value, ngx_str_t *name,
    size_t *size)
{
    u_char     *colon;
    ssize_t     n;
    ngx_str_t   s;

    colon = ngx_strlchr(value->data, value->data + value->len, ':');

    if (colon == NULL || colon == value->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone \"%V\", it must be \"name:size\"",
                           value);
        return NGX_ERROR;
    }

    name->data = value->data;
    name->len = colon - value->data;

    s.data = colon + 1;
    s.len = value->data + value->len - s.data;

    n = ngx_parse_size(&s);

    if (n == NGX_ERROR || n == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid zone size \"%V\"",
                           value);
        return NGX_ERROR;
    }

    *size = (size_t) n;

    return NGX_OK;
}
