
/*
 * The parameters of handlers, "name=value".
 */

#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"


#define NGX_WEBTORCH_MAX_BATCH          65536       /* rows */
#define NGX_WEBTORCH_MAX_QUEUE          1000000     /* requests */
#define NGX_WEBTORCH_MAX_STREAMS        1000000
#define NGX_WEBTORCH_MAX_STEPS          1000000
#define NGX_WEBTORCH_MAX_DELAY          60000       /* milliseconds */
#define NGX_WEBTORCH_MIN_RESUME_BUFFER  1024
#define NGX_WEBTORCH_MAX_RESUME_BUFFER  (16 * 1024 * 1024)


typedef struct ngx_webtorch_option_s  ngx_webtorch_option_t;

struct ngx_webtorch_option_s {
    ngx_str_t     name;
    ngx_int_t   (*set)(const ngx_webtorch_option_t *option, void *field,
                       ngx_str_t *value);
    size_t        offset;               /* in ngx_webtorch_handler_t */
    ngx_int_t     min;
    ngx_int_t     max;
    ngx_uint_t    stream;               /* has an effect on streams only */
};


static ngx_int_t ngx_webtorch_option_mode(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);
static ngx_int_t ngx_webtorch_option_number(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);
static ngx_int_t ngx_webtorch_option_time(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);
static ngx_int_t ngx_webtorch_option_size(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);
static ngx_int_t ngx_webtorch_option_text(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);
static ngx_int_t ngx_webtorch_option_flag(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value);


static const ngx_webtorch_option_t  ngx_webtorch_options[] = {

    { ngx_string("mode"), ngx_webtorch_option_mode,
      offsetof(ngx_webtorch_handler_t, mode), 0, 0, 0 },

    { ngx_string("threads"), ngx_webtorch_option_number,
      offsetof(ngx_webtorch_handler_t, threads),
      1, NGX_WEBTORCH_MAX_THREADS, 0 },

    { ngx_string("max_batch"), ngx_webtorch_option_number,
      offsetof(ngx_webtorch_handler_t, max_batch),
      1, NGX_WEBTORCH_MAX_BATCH, 0 },

    { ngx_string("max_delay"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, max_delay),
      0, NGX_WEBTORCH_MAX_DELAY, 0 },

    { ngx_string("queue"), ngx_webtorch_option_number,
      offsetof(ngx_webtorch_handler_t, queue), 1, NGX_WEBTORCH_MAX_QUEUE, 0 },

    { ngx_string("queue_size"), ngx_webtorch_option_size,
      offsetof(ngx_webtorch_handler_t, queue_size),
      1, NGX_MAX_INT_T_VALUE, 0 },

    { ngx_string("timeout"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, timeout), 1, NGX_MAX_INT_T_VALUE, 0 },

    { ngx_string("stuck"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, stuck), 1, NGX_MAX_INT_T_VALUE, 0 },

    { ngx_string("max_streams"), ngx_webtorch_option_number,
      offsetof(ngx_webtorch_handler_t, max_streams),
      1, NGX_WEBTORCH_MAX_STREAMS, 1 },

    { ngx_string("max_steps"), ngx_webtorch_option_number,
      offsetof(ngx_webtorch_handler_t, max_steps),
      1, NGX_WEBTORCH_MAX_STEPS, 1 },

    { ngx_string("idle"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, idle), 1, NGX_MAX_INT_T_VALUE, 1 },

    { ngx_string("ping"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, ping), 1, NGX_MAX_INT_T_VALUE, 1 },

    { ngx_string("resume"), ngx_webtorch_option_time,
      offsetof(ngx_webtorch_handler_t, resume), 1, NGX_MAX_INT_T_VALUE, 1 },

    { ngx_string("resume_buffer"), ngx_webtorch_option_size,
      offsetof(ngx_webtorch_handler_t, resume_buffer),
      NGX_WEBTORCH_MIN_RESUME_BUFFER, NGX_WEBTORCH_MAX_RESUME_BUFFER, 1 },

    { ngx_string("origins"), ngx_webtorch_option_text,
      offsetof(ngx_webtorch_handler_t, origins), 0, 0, 1 },

    { ngx_string("protocols"), ngx_webtorch_option_text,
      offsetof(ngx_webtorch_handler_t, protocols), 0, 0, 1 },

    { ngx_string("deflate"), ngx_webtorch_option_flag,
      offsetof(ngx_webtorch_handler_t, deflate), 0, 0, 1 },

    { ngx_null_string, NULL, 0, 0, 0, 0 }
};


static ngx_conf_enum_t  ngx_webtorch_option_modes[] = {
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

    for (option = ngx_webtorch_options; option->name.len; option++) {

        if (param->len <= option->name.len
            || param->data[option->name.len] != '='
            || ngx_strncmp(param->data, option->name.data, option->name.len)
               != 0)
        {
            continue;
        }

        value.data = param->data + option->name.len + 1;
        value.len = param->len - option->name.len - 1;

        if (option->set(option, (u_char *) handler + option->offset, &value)
            != NGX_OK)
        {
            break;
        }

        if (option->stream) {
            handler->stream_option = &option->name;
        }

        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", param);

    return NGX_CONF_ERROR;
}


static ngx_int_t
ngx_webtorch_option_mode(const ngx_webtorch_option_t *option, void *field,
    ngx_str_t *value)
{
    ngx_uint_t *mode = field;

    ngx_conf_enum_t  *e;

    for (e = ngx_webtorch_option_modes; e->name.len; e++) {
        if (e->name.len == value->len
            && ngx_strncmp(e->name.data, value->data, value->len) == 0)
        {
            *mode = e->value;
            return NGX_OK;
        }
    }

    return NGX_ERROR;
}


static ngx_int_t
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


static ngx_int_t
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


static ngx_int_t
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


static ngx_int_t
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


static ngx_int_t
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
