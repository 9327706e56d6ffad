
/*
 * The parameters of handlers, "name=value".
 */

#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"
#include "ngx_webtorch_option.h"


#define NGX_WEBTORCH_MAX_BATCH  65536     /* rows */
#define NGX_WEBTORCH_MAX_QUEUE  1000000   /* requests */
#define NGX_WEBTORCH_MAX_DELAY  60000     /* milliseconds */


static ngx_int_t ngx_webtorch_handler_option_mode(
    const ngx_webtorch_option_t *option, void *field, ngx_str_t *value);


static const ngx_webtorch_option_t  ngx_webtorch_handler_options[] = {

    { ngx_string("mode"), ngx_webtorch_handler_option_mode,
      offsetof(ngx_webtorch_handler_t, mode), 0, 0 },

    { ngx_string("threads"), ngx_webtorch_option_number,
      offsetof(ngx_webtorch_handler_t, threads),
      1, NGX_WEBTORCH_MAX_THREADS },

    { ngx_string("max_batch"), ngx_webtorch_option_number,
      offsetof(ngx_webtorch_handler_t, max_batch),
      1, NGX_WEBTORCH_MAX_BATCH },

    { ngx_string("max_delay"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, max_delay),
      0, NGX_WEBTORCH_MAX_DELAY },

    { ngx_string("queue"), ngx_webtorch_option_number,
      offsetof(ngx_webtorch_handler_t, queue), 1, NGX_WEBTORCH_MAX_QUEUE },

    { ngx_string("queue_size"), ngx_webtorch_option_size,
      offsetof(ngx_webtorch_handler_t, queue_size),
      1, NGX_MAX_INT_T_VALUE },

    { ngx_string("timeout"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, timeout), 1, NGX_MAX_INT_T_VALUE },

    { ngx_string("stuck"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, stuck), 1, NGX_MAX_INT_T_VALUE },

    { ngx_null_string, NULL, 0, 0, 0 }
};


static ngx_conf_enum_t  ngx_webtorch_handler_option_modes[] = {
    { ngx_string("auto"), NGX_WEBTORCH_MODE_AUTO },
    { ngx_string("inline"), NGX_WEBTORCH_MODE_INLINE },
    { ngx_string("thread"), NGX_WEBTORCH_MODE_THREAD },
    { ngx_null_string, 0 }
};


char *
ngx_webtorch_handler_option(ngx_conf_t *cf, ngx_webtorch_handler_t *handler,
    ngx_str_t *param)
{
    ngx_str_t                     value;
    const ngx_webtorch_option_t  *option;

    option = ngx_webtorch_option_find(ngx_webtorch_handler_options, param,
                                      &value);

    if (option && ngx_webtorch_option_set(option, handler, &value) == NGX_OK) {
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", param);

    return NGX_CONF_ERROR;
}


static ngx_int_t
ngx_webtorch_handler_option_mode(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value)
{
    ngx_uint_t *mode = field;

    ngx_conf_enum_t  *e;

    for (e = ngx_webtorch_handler_option_modes; e->name.len; e++) {
        if (e->name.len == value->len
            && ngx_strncmp(e->name.data, value->data, value->len) == 0)
        {
            *mode = e->value;
            return NGX_OK;
        }
    }

    return NGX_ERROR;
}
