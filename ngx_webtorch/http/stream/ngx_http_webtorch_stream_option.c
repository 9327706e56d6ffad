
#include "ngx_http_webtorch_stream_option.h"
#include "ngx_webtorch_option.h"


#define NGX_HTTP_WEBTORCH_MAX_STREAMS        1000000
#define NGX_HTTP_WEBTORCH_MAX_STEPS          1000000
#define NGX_HTTP_WEBTORCH_MIN_RESUME_BUFFER  1024
#define NGX_HTTP_WEBTORCH_MAX_RESUME_BUFFER  (16 * 1024 * 1024)


static const ngx_webtorch_option_t  ngx_http_webtorch_stream_options[] = {

    { ngx_string("max_streams"), ngx_webtorch_option_number,
      offsetof(ngx_http_webtorch_stream_conf_t, max_streams),
      1, NGX_HTTP_WEBTORCH_MAX_STREAMS },

    { ngx_string("max_steps"), ngx_webtorch_option_number,
      offsetof(ngx_http_webtorch_stream_conf_t, max_steps),
      1, NGX_HTTP_WEBTORCH_MAX_STEPS },

    { ngx_string("idle"), ngx_webtorch_option_time,
      offsetof(ngx_http_webtorch_stream_conf_t, idle), 1, NGX_MAX_INT_T_VALUE },

    { ngx_string("ping"), ngx_webtorch_option_time,
      offsetof(ngx_http_webtorch_stream_conf_t, ping), 1, NGX_MAX_INT_T_VALUE },

    { ngx_string("resume"), ngx_webtorch_option_time,
      offsetof(ngx_http_webtorch_stream_conf_t, resume),
      1, NGX_MAX_INT_T_VALUE },

    { ngx_string("resume_buffer"), ngx_webtorch_option_size,
      offsetof(ngx_http_webtorch_stream_conf_t, resume_buffer),
      NGX_HTTP_WEBTORCH_MIN_RESUME_BUFFER,
      NGX_HTTP_WEBTORCH_MAX_RESUME_BUFFER },

    { ngx_string("origins"), ngx_webtorch_option_text,
      offsetof(ngx_http_webtorch_stream_conf_t, origins), 0, 0 },

    { ngx_string("protocols"), ngx_webtorch_option_text,
      offsetof(ngx_http_webtorch_stream_conf_t, protocols), 0, 0 },

    { ngx_string("deflate"), ngx_webtorch_option_flag,
      offsetof(ngx_http_webtorch_stream_conf_t, deflate), 0, 0 },

    { ngx_null_string, NULL, 0, 0, 0 }
};


void
ngx_http_webtorch_stream_options_init(ngx_http_webtorch_stream_conf_t *conf)
{
    conf->max_streams = 4096;
    conf->max_steps = 4096;
    conf->idle = 300000;
    conf->ping = 20000;
    conf->resume_buffer = 16384;
}


ngx_int_t
ngx_http_webtorch_stream_option(ngx_webtorch_handler_t *handler,
    ngx_str_t *param)
{
    ngx_str_t                         value;
    const ngx_webtorch_option_t      *option;
    ngx_http_webtorch_stream_conf_t  *conf;

    option = ngx_webtorch_option_find(ngx_http_webtorch_stream_options, param,
                                      &value);
    if (option == NULL) {
        return NGX_DECLINED;
    }

    conf = handler->data;

    if (ngx_webtorch_option_set(option, conf, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    conf->option = &option->name;
    handler->resume = (conf->resume != 0);

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_stream_options_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler)
{
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;

    if (conf->option == NULL
        || handler->schema.kind == WEBTORCH_STREAM
        || handler->schema.stream != 0)
    {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                  "webtorch handler \"%V\": \"%V=\" is for functions under "
                  "@webtorch.stream and @webtorch.generate, and for those that "
                  "yield in %V:%ui",
                  &handler->name, conf->option, &handler->file, handler->line);

    return NGX_ERROR;
}
