
#include "ngx_webtorch_path.h"


ngx_int_t
ngx_webtorch_full_name(ngx_cycle_t *cycle, ngx_str_t *name,
    ngx_uint_t conf_prefix)
{
    u_char     dir[NGX_MAX_PATH];
    ngx_str_t  prefix;

    if (ngx_conf_full_name(cycle, name, conf_prefix) != NGX_OK) {
        return NGX_ERROR;
    }

    if (name->data[0] == '/') {
        return NGX_OK;
    }

    if (ngx_getcwd(dir, NGX_MAX_PATH) == 0) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "getcwd() failed, \"%V\" is relative to the directory "
                      "that nginx was started in", name);
        return NGX_ERROR;
    }

    prefix.len = ngx_strlen(dir);

    if (prefix.len == 0 || dir[prefix.len - 1] != '/') {
        dir[prefix.len++] = '/';
    }

    prefix.data = dir;

    return ngx_get_full_name(cycle->pool, &prefix, name);
}
