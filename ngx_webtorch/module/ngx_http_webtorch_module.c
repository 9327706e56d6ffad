
/*
 * The directives of http, their configuration, the phases.
 */

#include "ngx_http_webtorch.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_protocol.h"
#include "ngx_webtorch_zone.h"


static void *ngx_http_webtorch_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_webtorch_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_webtorch_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_webtorch_add_loader(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *conf);
static char *ngx_http_webtorch_full_name(ngx_conf_t *cf, void *post,
    void *data);
static char *ngx_http_webtorch_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_preload(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_checkpoint(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_serve_location(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_http_handler_pt handler);
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

    { ngx_string("webtorch_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_webtorch_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_checkpoint"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE123,
      ngx_http_webtorch_checkpoint,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_worker_memory"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, worker_memory),
      NULL },

    { ngx_string("webtorch_reload"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, reload),
      NULL },

    { ngx_string("webtorch_handler"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_torch_load"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_webtorch_loc_conf_t, torch_load),
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
    ngx_http_webtorch_merge_loc_conf       /* merge location configuration */
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
    ngx_http_webtorch_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->handler = NULL;
     *     conf->loader = NULL;
     *     conf->protocol = 0;
     *     conf->thread_pool = NULL;
     */

    conf->torch_load = NGX_CONF_UNSET;

    return conf;
}


/*
 * Like a content handler, ours are not inherited by locations, but "if" and
 * "limit_except" without a handler of their own are of their location.
 */

static char *
ngx_http_webtorch_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_webtorch_loc_conf_t *prev = parent;
    ngx_http_webtorch_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    ngx_conf_merge_value(conf->torch_load, prev->torch_load, 0);

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->noname
        && clcf->handler == NULL
        && (prev->handler || prev->protocol))
    {
        conf->handler = prev->handler;
        conf->loader = prev->loader;
        conf->protocol = prev->protocol;
#if (NGX_THREADS)
        conf->thread_pool = prev->thread_pool;
#endif

        if (clcf->lmt_excpt) {
            clcf->handler = conf->protocol ? ngx_http_webtorch_protocol_handler
                                           : ngx_http_webtorch_content_handler;
        }
    }

    if (!conf->torch_load) {
        conf->loader = NULL;
        return NGX_CONF_OK;
    }

    if (conf->handler == NULL || conf->loader) {
        return NGX_CONF_OK;
    }

    return ngx_http_webtorch_add_loader(cf, conf);
}


/* files wait in a queue of their own, with the bounds of the handler's */

static char *
ngx_http_webtorch_add_loader(ngx_conf_t *cf, ngx_http_webtorch_loc_conf_t *conf)
{
    ngx_str_t                name;
    ngx_webtorch_handler_t  *loader;

    ngx_str_set(&name, "webtorch._torch_files:load");

    loader = ngx_webtorch_handler_add(cf, &name);
    if (loader == NULL) {
        return NGX_CONF_ERROR;
    }

    loader->mode = NGX_WEBTORCH_MODE_THREAD;
    loader->max_batch = 1;
    loader->queue = conf->handler->queue;
    loader->timeout = conf->handler->timeout;
    loader->file = conf->handler->file;
    loader->line = conf->handler->line;

    conf->loader = loader;

    return NGX_CONF_OK;
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
ngx_http_webtorch_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_webtorch_conf_t *wcf = conf;

    u_char     *colon;
    ssize_t     size;
    ngx_str_t  *value, s;

    if (wcf->zone_name.len) {
        return "is duplicate";
    }

    value = cf->args->elts;
    colon = ngx_strlchr(value[1].data, value[1].data + value[1].len, ':');

    if (colon == NULL || colon == value[1].data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone \"%V\", it must be \"name:size\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    wcf->zone_name.data = value[1].data;
    wcf->zone_name.len = colon - value[1].data;

    if (wcf->zone_name.len >= NGX_WEBTORCH_ZONE_NAME) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the zone's name \"%V\" is longer than %d bytes",
                           &wcf->zone_name, NGX_WEBTORCH_ZONE_NAME - 1);
        return NGX_CONF_ERROR;
    }

    s.data = colon + 1;
    s.len = value[1].data + value[1].len - s.data;

    size = ngx_parse_size(&s);

    if (size == NGX_ERROR || size == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone size \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    wcf->zone_size = (size_t) size;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_checkpoint(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_webtorch_conf_t *wcf = conf;

    ngx_str_t   *value, s;
    ngx_int_t    n;
    ngx_uint_t   i;
    ngx_path_t  *path;

    if (wcf->checkpoint) {
        return "is duplicate";
    }

    value = cf->args->elts;

    /* nginx makes the directory, for the workers' user */

    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    if (path == NULL) {
        return NGX_CONF_ERROR;
    }

    path->name = value[1];
    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;

    if (path->name.data[path->name.len - 1] == '/') {
        path->name.data[--path->name.len] = '\0';
    }

    if (ngx_conf_full_name(cf->cycle, &path->name, 0) != NGX_OK
        || ngx_add_path(cf, &path) == NGX_ERROR)
    {
        return NGX_CONF_ERROR;
    }

    wcf->checkpoint = path;
    wcf->interval = 10000;
    wcf->keep = 3;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "interval=", 9) == 0) {
            s.data = value[i].data + 9;
            s.len = value[i].len - 9;

            n = ngx_parse_time(&s, 0);

            if (n == NGX_ERROR || n == 0) {
                goto invalid;
            }

            wcf->interval = (ngx_msec_t) n;
            continue;
        }

        if (ngx_strncmp(value[i].data, "keep=", 5) == 0) {
            n = ngx_atoi(value[i].data + 5, value[i].len - 5);

            if (n == NGX_ERROR || n == 0) {
                goto invalid;
            }

            wcf->keep = (ngx_uint_t) n;
            continue;
        }

        goto invalid;
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\"", &value[i]);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_webtorch_handler(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    char                    *rv;
    ngx_str_t               *value;
    ngx_uint_t               i;
    ngx_webtorch_handler_t  *handler;

    if (wlcf->handler) {
        return "is duplicate";
    }

    if (wlcf->protocol) {
        return "conflicts with \"webtorch_inference_protocol\"";
    }

    value = cf->args->elts;

    if (ngx_webtorch_handler_name(&value[1]) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid handler \"%V\", it must be "
                           "\"module:function\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    handler = ngx_webtorch_handler_add(cf, &value[1]);
    if (handler == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_webtorch_handler_option(cf, handler, &value[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    wlcf->handler = handler;

    return ngx_http_webtorch_serve_location(cf, wlcf,
                                            ngx_http_webtorch_content_handler);
}


static char *
ngx_http_webtorch_serve_location(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

#if (NGX_THREADS)
    wlcf->thread_pool = ngx_thread_pool_add(cf, NULL);
    if (wlcf->thread_pool == NULL) {
        return NGX_CONF_ERROR;
    }
#endif

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = handler;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_inference_protocol(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    ngx_str_t                  name;
    ngx_http_core_loc_conf_t  *clcf;

    if (wlcf->protocol) {
        return "is duplicate";
    }

    if (wlcf->handler) {
        return "conflicts with \"webtorch_handler\"";
    }

    wlcf->protocol = 1;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /*
     * An address without the slash at the end is not the location's: nginx
     * redirects it, which not all clients follow.
     */

    if (clcf->name.len && clcf->name.data[clcf->name.len - 1] == '/') {
        clcf->auto_redirect = 1;

        name.data = clcf->name.data;
        name.len = clcf->name.len - 1;

        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"GET %V\", the server's metadata, is redirected "
                           "to \"location %V\", use \"location %V\" instead",
                           &name, &clcf->name, &name);
    }

    return ngx_http_webtorch_serve_location(cf, wlcf,
                                           ngx_http_webtorch_protocol_handler);
}
