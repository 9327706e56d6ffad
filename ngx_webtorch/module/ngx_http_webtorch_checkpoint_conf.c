
/*
 * The directive webtorch_checkpoint: a directory, object storage, or both, in
 * a line of its own each.
 */

#include "ngx_http_webtorch_checkpoint_conf.h"
#include "ngx_webtorch_path.h"


/* each is a request at least: msec */
#define NGX_HTTP_WEBTORCH_STORE_INTERVAL  1000


typedef struct {
    ngx_msec_t   interval;
    ngx_uint_t   keep;
    ngx_str_t    endpoint;
} ngx_http_webtorch_checkpoint_params_t;


static char *ngx_http_webtorch_checkpoint_directory(ngx_conf_t *cf,
    ngx_webtorch_conf_t *wcf, ngx_http_webtorch_checkpoint_params_t *params);
static char *ngx_http_webtorch_checkpoint_store(ngx_conf_t *cf,
    ngx_webtorch_conf_t *wcf, ngx_http_webtorch_checkpoint_params_t *params);
static ngx_int_t ngx_http_webtorch_checkpoint_parse(ngx_conf_t *cf,
    ngx_http_webtorch_checkpoint_params_t *params, ngx_uint_t is_store);
static ngx_uint_t ngx_http_webtorch_checkpoint_is_url(ngx_str_t *value);


char *
ngx_http_webtorch_conf_checkpoint(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_webtorch_conf_t *wcf = conf;

    ngx_str_t                              *value;
    ngx_uint_t                              is_store;
    ngx_http_webtorch_checkpoint_params_t   params;

    value = cf->args->elts;

    is_store = (ngx_strncmp(value[1].data, "s3://", 5) == 0);

    if (is_store ? wcf->store != NULL : wcf->checkpoint != NULL) {
        return "is duplicate";
    }

    params.interval = is_store ? 60000 : 10000;
    params.keep = 3;
    ngx_str_null(&params.endpoint);

    if (ngx_http_webtorch_checkpoint_parse(cf, &params, is_store) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return is_store ? ngx_http_webtorch_checkpoint_store(cf, wcf, &params)
                    : ngx_http_webtorch_checkpoint_directory(cf, wcf, &params);
}


static char *
ngx_http_webtorch_checkpoint_directory(ngx_conf_t *cf,
    ngx_webtorch_conf_t *wcf, ngx_http_webtorch_checkpoint_params_t *params)
{
    ngx_str_t        *value;
    ngx_path_t       *path;
    ngx_file_info_t   fi;

    value = cf->args->elts;

    /* nginx creates the directory, for the workers' user */

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

    if (ngx_webtorch_full_name(cf->cycle, &path->name, 0) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* ngx_create_paths() would give any file to the workers' user */

    if (ngx_process != NGX_PROCESS_SIGNALLER
        && ngx_file_info(path->name.data, &fi) != NGX_FILE_ERROR
        && !ngx_is_dir(&fi))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not a directory", &path->name);
        return NGX_CONF_ERROR;
    }

    if (ngx_add_path(cf, &path) == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    wcf->checkpoint = path;
    wcf->interval = params->interval;
    wcf->keep = params->keep;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_checkpoint_store(ngx_conf_t *cf, ngx_webtorch_conf_t *wcf,
    ngx_http_webtorch_checkpoint_params_t *params)
{
    u_char                *p, *last;
    ngx_str_t             *value;
    ngx_webtorch_store_t  *store;

    value = cf->args->elts;

    p = value[1].data + 5;
    last = value[1].data + value[1].len;

    while (last > p && last[-1] == '/') {
        *--last = '\0';
        value[1].len--;
    }

    if (p == last || *p == '/') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no bucket in \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    store = ngx_palloc(cf->pool, sizeof(ngx_webtorch_store_t));
    if (store == NULL) {
        return NGX_CONF_ERROR;
    }

    store->url = value[1];
    store->endpoint = params->endpoint;
    store->interval = params->interval;
    store->keep = params->keep;
    store->directive.file = cf->conf_file->file.name.data;
    store->directive.line = cf->conf_file->line;

    wcf->store = store;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_webtorch_checkpoint_parse(ngx_conf_t *cf,
    ngx_http_webtorch_checkpoint_params_t *params, ngx_uint_t is_store)
{
    ngx_int_t    n;
    ngx_str_t   *value, s;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "interval=", 9) == 0) {
            s.data = value[i].data + 9;
            s.len = value[i].len - 9;

            n = ngx_parse_time(&s, 0);

            if (n == NGX_ERROR || n < (is_store ? NGX_HTTP_WEBTORCH_STORE_INTERVAL
                                                : 1))
            {
                goto invalid;
            }

            params->interval = (ngx_msec_t) n;
            continue;
        }

        if (ngx_strncmp(value[i].data, "keep=", 5) == 0) {
            n = ngx_atoi(value[i].data + 5, value[i].len - 5);

            if (n == NGX_ERROR || n == 0) {
                goto invalid;
            }

            params->keep = (ngx_uint_t) n;
            continue;
        }

        if (is_store && ngx_strncmp(value[i].data, "endpoint=", 9) == 0) {
            s.data = value[i].data + 9;
            s.len = value[i].len - 9;

            if (!ngx_http_webtorch_checkpoint_is_url(&s)) {
                goto invalid;
            }

            params->endpoint = s;
            continue;
        }

        goto invalid;
    }

    return NGX_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\"", &value[i]);
    return NGX_ERROR;
}


/* an URL with a user and a password would have these in the configuration */

static ngx_uint_t
ngx_http_webtorch_checkpoint_is_url(ngx_str_t *value)
{
    size_t  scheme;

    if (ngx_strncmp(value->data, "https://", 8) == 0) {
        scheme = 8;

    } else if (ngx_strncmp(value->data, "http://", 7) == 0) {
        scheme = 7;

    } else {
        return 0;
    }

    return value->len > scheme && ngx_strlchr(value->data,
                                              value->data + value->len, '@')
                                  == NULL;
}
