
/*
 * The directives of http, their configuration, the phases.
 */

#include "ngx_http_webtorch.h"


static void *ngx_http_webtorch_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_webtorch_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_webtorch_full_name(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_webtorch_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_preload(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_handler_option(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler, ngx_str_t *option);
static char *ngx_http_webtorch_inference_protocol(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);


static ngx_conf_num_bounds_t  ngx_http_webtorch_threads_bounds = {
    ngx_conf_check_num_bounds, 1, 1024
};


static ngx_conf_post_t  ngx_http_webtorch_python_post = {
    ngx_http_webtorch_full_name
};


static ngx_command_t  ngx_http_webtorch_commands[] = {

    { ngx_string("webtorch_python"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, python),
      &ngx_http_webtorch_python_post },

    { ngx_string("webtorch_path"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_path,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_preload"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_preload,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_threads"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, threads),
      &ngx_http_webtorch_threads_bounds },

    { ngx_string("webtorch_handler"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_inference_protocol"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_NOARGS,
      ngx_http_webtorch_inference_protocol,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_webtorch_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_webtorch_error_init,          /* postconfiguration */

    ngx_http_webtorch_create_main_conf,    /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_webtorch_create_loc_conf,     /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_webtorch_module = {
    NGX_MODULE_V1,
    &ngx_http_webtorch_module_ctx,         /* module context */
    ngx_http_webtorch_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* the settings are of all protocols, and kept by the core module */

static void *
ngx_http_webtorch_create_main_conf(ngx_conf_t *cf)
{
    return ngx_get_conf(cf->cycle->conf_ctx, ngx_webtorch_module);
}


static void *
ngx_http_webtorch_create_loc_conf(ngx_conf_t *cf)
{
    /*
     * set by ngx_pcalloc(), and not inherited, as a content handler is not:
     *
     *     conf->handler = NULL;
     *     conf->protocol = 0;
     */

    return ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_loc_conf_t));
}


/* relative to the configuration file, as the names of "include" are */

static char *
ngx_http_webtorch_full_name(ngx_conf_t *cf, void *post, void *data)
{
    ngx_str_t *name = data;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_webtorch_conf_t *wcf = conf;

    ngx_str_t        *value, *path;
    ngx_uint_t        i;
    ngx_file_info_t   fi;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        path = ngx_array_push(wcf->path);
        if (path == NULL) {
            return NGX_CONF_ERROR;
        }

        *path = value[i];

        if (ngx_conf_full_name(cf->cycle, path, 1) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        if (ngx_file_info(path->data, &fi) == NGX_FILE_ERROR
            || !ngx_is_dir(&fi))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" is not a directory", path);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_preload(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_webtorch_conf_t *wcf = conf;

    ngx_str_t   *value, *name;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        name = ngx_array_push(wcf->preload);
        if (name == NULL) {
            return NGX_CONF_ERROR;
        }

        *name = value[i];
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_handler(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    char                       *rv;
    ngx_str_t                  *value;
    ngx_uint_t                  i;
    ngx_webtorch_conf_t        *wcf;
    ngx_webtorch_handler_t     *handler;
    ngx_http_core_loc_conf_t   *clcf;

    if (wlcf->handler) {
        return "is duplicate";
    }

    if (wlcf->protocol) {
        return "conflicts with \"webtorch_inference_protocol\"";
    }

    value = cf->args->elts;

    if (ngx_http_webtorch_handler_name(&value[1]) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid handler \"%V\", it must be "
                           "\"module:function\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);

    handler = ngx_http_webtorch_handler_add(cf, wcf, &value[1]);
    if (handler == NULL) {
        return NGX_CONF_ERROR;
    }

    handler->mode = NGX_WEBTORCH_MODE_AUTO;
    handler->max_batch = 256;
    handler->max_delay = 0;
    handler->queue = 4096;
    handler->timeout = 60000;

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_webtorch_handler_option(cf, handler, &value[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    wlcf->handler = handler;

#if (NGX_THREADS)
    wlcf->thread_pool = ngx_thread_pool_add(cf, NULL);
    if (wlcf->thread_pool == NULL) {
        return NGX_CONF_ERROR;
    }
#endif

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_webtorch_content_handler;

    return NGX_CONF_OK;
}


ngx_webtorch_handler_t *
ngx_http_webtorch_handler_add(ngx_conf_t *cf, ngx_webtorch_conf_t *wcf,
    ngx_str_t *name)
{
    ngx_webtorch_handler_t  *handler, **p;

    handler = ngx_pcalloc(cf->pool, sizeof(ngx_webtorch_handler_t));
    if (handler == NULL) {
        return NULL;
    }

    p = ngx_array_push(&wcf->handlers);
    if (p == NULL) {
        return NULL;
    }

    *p = handler;

    handler->name = *name;
    handler->index = wcf->handlers.nelts - 1;
    handler->file = cf->conf_file->file.name;
    handler->line = cf->conf_file->line;

    return handler;
}


ngx_int_t
ngx_http_webtorch_handler_name(ngx_str_t *name)
{
    u_char  *p, *last;

    last = name->data + name->len;
    p = ngx_strlchr(name->data, last, ':');

    if (p == NULL || p == name->data || p + 1 == last
        || ngx_strlchr(p + 1, last, ':'))
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static char *
ngx_http_webtorch_handler_option(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler, ngx_str_t *option)
{
    ngx_int_t   n;
    ngx_str_t   s;
    ngx_uint_t  i;

    static ngx_conf_enum_t  modes[] = {
        { ngx_string("auto"), NGX_WEBTORCH_MODE_AUTO },
        { ngx_string("inline"), NGX_WEBTORCH_MODE_INLINE },
        { ngx_string("thread"), NGX_WEBTORCH_MODE_THREAD },
        { ngx_null_string, 0 }
    };

    if (ngx_strncmp(option->data, "mode=", 5) == 0) {

        s.data = option->data + 5;
        s.len = option->len - 5;

        for (i = 0; modes[i].name.len; i++) {
            if (modes[i].name.len == s.len
                && ngx_strncmp(modes[i].name.data, s.data, s.len) == 0)
            {
                handler->mode = modes[i].value;
                return NGX_CONF_OK;
            }
        }

    } else if (ngx_strncmp(option->data, "max_batch=", 10) == 0) {

        n = ngx_atoi(option->data + 10, option->len - 10);

        if (n >= 1 && n <= 65536) {
            handler->max_batch = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "queue=", 6) == 0) {

        n = ngx_atoi(option->data + 6, option->len - 6);

        if (n >= 1 && n <= 1000000) {
            handler->queue = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "max_delay=", 10) == 0) {

        s.data = option->data + 10;
        s.len = option->len - 10;
        n = ngx_parse_time(&s, 0);

        if (n != NGX_ERROR && n <= 60000) {
            handler->max_delay = (ngx_msec_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "timeout=", 8) == 0) {

        s.data = option->data + 8;
        s.len = option->len - 8;
        n = ngx_parse_time(&s, 0);

        if (n >= 1) {
            handler->timeout = (ngx_msec_t) n;
            return NGX_CONF_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       option);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_webtorch_inference_protocol(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    ngx_http_core_loc_conf_t  *clcf;

    if (wlcf->protocol) {
        return "is duplicate";
    }

    if (wlcf->handler) {
        return "conflicts with \"webtorch_handler\"";
    }

    wlcf->protocol = 1;

#if (NGX_THREADS)
    wlcf->thread_pool = ngx_thread_pool_add(cf, NULL);
    if (wlcf->thread_pool == NULL) {
        return NGX_CONF_ERROR;
    }
#endif

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_webtorch_protocol_handler;

    /* "location /v2/" without the slash, as modules of upstreams do */

    if (clcf->name.len && clcf->name.data[clcf->name.len - 1] == '/') {
        clcf->auto_redirect = 1;
    }

    return NGX_CONF_OK;
}
