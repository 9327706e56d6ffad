
#include "ngx_webtorch_option.h"


const ngx_webtorch_option_t *
ngx_webtorch_option_find(const ngx_webtorch_option_t *options,
    ngx_str_t *param, ngx_str_t *value)
{
    const ngx_webtorch_option_t  *option;

    for (option = options; option->name.len; option++) {

        if (param->len <= option->name.len
            || param->data[option->name.len] != '='
            || ngx_strncmp(param->data, option->name.data, option->name.len)
               != 0)
        {
            continue;
        }

        value->data = param->data + option->name.len + 1;
        value->len = param->len - option->name.len - 1;

        return option;
    }

    return NULL;
}


ngx_int_t
ngx_webtorch_option_set(const ngx_webtorch_option_t *option, void *conf,
    ngx_str_t *value)
{
    return option->set(option, (u_char *) conf + option->offset, value);
}


ngx_int_t
ngx_webtorch_option_number(const ngx_webtorch_option_t *option, void *field,
    ngx_str_t *value)
{
    ngx_uint_t *number = field;

    ngx_int_t  n;

    n = ngx_atoi(value->data, value->len);

    if (n < option->min || n > option->max) {
        return NGX_ERROR;
    }

    *number = (ngx_uint_t) n;

    return NGX_OK;
}


ngx_int_t
ngx_webtorch_option_time(const ngx_webtorch_option_t *option, void *field,
    ngx_str_t *value)
{
    ngx_msec_t *msec = field;

    ngx_int_t  n;

    n = ngx_parse_time(value, 0);

    if (n < option->min || n > option->max) {
        return NGX_ERROR;
    }

    *msec = (ngx_msec_t) n;

    return NGX_OK;
}


ngx_int_t
ngx_webtorch_option_size(const ngx_webtorch_option_t *option, void *field,
    ngx_str_t *value)
{
    size_t *size = field;

    off_t  n;

    n = ngx_parse_offset(value);

    if (n < option->min || n > option->max) {
        return NGX_ERROR;
    }

    *size = (size_t) n;

    return NGX_OK;
}


ngx_int_t
ngx_webtorch_option_text(const ngx_webtorch_option_t *option, void *field,
    ngx_str_t *value)
{
    ngx_str_t *text = field;

    if (value->len == 0) {
        return NGX_ERROR;
    }

    *text = *value;

    return NGX_OK;
}


ngx_int_t
ngx_webtorch_option_flag(const ngx_webtorch_option_t *option, void *field,
    ngx_str_t *value)
{
    ngx_uint_t *flag = field;

    if (value->len == 2 && ngx_strncmp(value->data, "on", 2) == 0) {
        *flag = 1;
        return NGX_OK;
    }

    if (value->len == 3 && ngx_strncmp(value->data, "off", 3) == 0) {
        *flag = 0;
        return NGX_OK;
    }

    return NGX_ERROR;
}
