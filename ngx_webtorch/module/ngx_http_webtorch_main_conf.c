
#include "ngx_http_webtorch_main_conf.h"
#include "ngx_webtorch_parse.h"
#include "ngx_webtorch_path.h"
#include "ngx_webtorch_zone.h"


static void ngx_http_webtorch_conf_set_directive(ngx_conf_t *cf,
    ngx_webtorch_directive_t *directive);


char *
ngx_http_webtorch_conf_full_name(ngx_conf_t *cf, void *post, void *data)
{
    ngx_str_t *name = data;

    ngx_webtorch_conf_t  *wcf;

    if (ngx_webtorch_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    wcf = ngx_webtorch_get_conf(cf->cycle);

    ngx_http_webtorch_conf_set_directive(cf, &wcf->python_directive);

    return NGX_CONF_OK;
}


static void
ngx_http_webtorch_conf_set_directive(ngx_conf_t *cf,
    ngx_webtorch_directive_t *directive)
{
    directive->file = cf->conf_file->file.name.data;
    directive->line = cf->conf_file->line;
}


char *
ngx_http_webtorch_conf_path(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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

        if (ngx_webtorch_full_name(cf->cycle, path, 1) != NGX_OK) {
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


char *
ngx_http_webtorch_conf_preload(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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

    ngx_http_webtorch_conf_set_directive(cf, &wcf->preload_directive);

    return NGX_CONF_OK;
}


char *
ngx_http_webtorch_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_webtorch_conf_t *wcf = conf;

    ngx_str_t  *value;

    if (wcf->zone_name.len) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_webtorch_parse_zone(cf, &value[1], &wcf->zone_name, &wcf->zone_size)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (wcf->zone_name.len >= NGX_WEBTORCH_ZONE_NAME) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the zone's name \"%V\" is longer than %d bytes",
                           &wcf->zone_name, NGX_WEBTORCH_ZONE_NAME - 1);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
