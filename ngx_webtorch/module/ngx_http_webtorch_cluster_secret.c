
/*
 * The master reads the secrets, as the workers' user need not be able to:
 * Python finds them in its settings.
 */

#include "ngx_http_webtorch_cluster_secret.h"


/* bytes */
#define NGX_HTTP_WEBTORCH_CLUSTER_SECRET  32
#define NGX_HTTP_WEBTORCH_CLUSTER_MAX     4096


static char *ngx_http_webtorch_cluster_read_secret(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *name, ngx_file_t *file);


char *
ngx_http_webtorch_cluster_secret(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *value)
{
    char        *rc;
    ngx_str_t    name;
    ngx_file_t   file;

    if (cluster->nsecrets == WEBTORCH_MAX_SECRETS) {
        return "has more than two secrets";
    }

    name = *value;

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return "has no memory";
    }

    ngx_memzero(&file, sizeof(ngx_file_t));

    file.name = name;
    file.log = cf->log;
    file.fd = ngx_open_file(name.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (file.fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", &name);
        return NGX_CONF_ERROR;
    }

    rc = ngx_http_webtorch_cluster_read_secret(cf, cluster, &name, &file);

    if (ngx_close_file(file.fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", &name);
    }

    return rc;
}


static char *
ngx_http_webtorch_cluster_read_secret(ngx_conf_t *cf,
    webtorch_cluster_t *cluster, ngx_str_t *name, ngx_file_t *file)
{
    u_char           *p;
    size_t            len;
    ssize_t           n;
    ngx_file_info_t   fi;

    if (ngx_fd_info(file->fd, &fi) == NGX_FILE_ERROR || !ngx_is_file(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the secret \"%V\" is not a file", name);
        return NGX_CONF_ERROR;
    }

    if (ngx_file_access(&fi) & 0177) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the secret \"%V\" can be read by others, its "
                           "mode must be 0600 or 0400", name);
        return NGX_CONF_ERROR;
    }

    if (ngx_file_size(&fi) > NGX_HTTP_WEBTORCH_CLUSTER_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the secret \"%V\" is longer than %d bytes", name,
                           NGX_HTTP_WEBTORCH_CLUSTER_MAX);
        return NGX_CONF_ERROR;
    }

    len = (size_t) ngx_file_size(&fi);

    p = ngx_pnalloc(cf->pool, len + 1);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    n = ngx_read_file(file, p, len, 0);

    if (n == NGX_ERROR || (size_t) n != len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the secret \"%V\" could not be read", name);
        return NGX_CONF_ERROR;
    }

    /* an editor's end of the line is not a part of it */

    if (len && p[len - 1] == LF) {
        len--;
    }

    if (len && p[len - 1] == CR) {
        len--;
    }

    if (len < NGX_HTTP_WEBTORCH_CLUSTER_SECRET) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the secret \"%V\" has %uz bytes, at least %d are "
                           "needed", name, len,
                           NGX_HTTP_WEBTORCH_CLUSTER_SECRET);
        return NGX_CONF_ERROR;
    }

    cluster->secret[cluster->nsecrets] = (char *) p;
    cluster->secret_len[cluster->nsecrets] = (uint32_t) len;
    cluster->nsecrets++;

    return NGX_CONF_OK;
}
