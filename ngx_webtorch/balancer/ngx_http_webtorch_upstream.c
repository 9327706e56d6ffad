
/*
 * webtorch_balancer: sends each request to the server of an upstream where it
 * costs least.  It works on the round robin's peers, as least_conn does, but
 * counts failures itself: "max_fails" and "fail_timeout" are applied where
 * costs are known.
 */

#include "ngx_http_webtorch_upstream.h"
#include "ngx_http_webtorch_upstream_peer.h"
#include "ngx_http_webtorch_upstream_variable.h"
#include "ngx_http_webtorch_upstream_watch.h"


static void *ngx_http_webtorch_upstream_create_conf(ngx_conf_t *cf);
static char *ngx_http_webtorch_upstream_balancer(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);
static ngx_int_t ngx_http_webtorch_upstream_set_key(ngx_conf_t *cf,
    ngx_http_webtorch_upstream_conf_t *wucf, ngx_str_t *value);
static ngx_uint_t ngx_http_webtorch_upstream_is_variable(ngx_str_t *name);
static ngx_int_t ngx_http_webtorch_upstream_set_fail_status(
    ngx_http_webtorch_upstream_conf_t *wucf, ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_upstream_add_statuses(
    ngx_http_webtorch_upstream_conf_t *wucf, u_char *begin, u_char *end);
static ngx_int_t ngx_http_webtorch_upstream_parse_status(u_char *p);


static ngx_command_t  ngx_http_webtorch_upstream_commands[] = {

    { ngx_string("webtorch_balancer"),
      NGX_HTTP_UPS_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE123,
      ngx_http_webtorch_upstream_balancer,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_webtorch_upstream_module_ctx = {
    ngx_http_webtorch_upstream_add_variables, /* preconfiguration */
    NULL,                                  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_http_webtorch_upstream_create_conf, /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_webtorch_upstream_module = {
    NGX_MODULE_V1,
    &ngx_http_webtorch_upstream_module_ctx, /* module context */
    ngx_http_webtorch_upstream_commands,   /* module directives */
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


static void *
ngx_http_webtorch_upstream_create_conf(ngx_conf_t *cf)
{
    ngx_http_webtorch_upstream_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_upstream_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->balancer = NULL;
     *     conf->upstream = NULL;
     *     conf->groups = NULL;
     *     conf->failures = { 0 };
     *     conf->fail_status = 0;
     */

    conf->key = NGX_CONF_UNSET;

    return conf;
}


static char *
ngx_http_webtorch_upstream_balancer(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_webtorch_upstream_conf_t *wucf = conf;

    ngx_int_t                      rc;
    ngx_str_t                     *value, name;
    ngx_uint_t                     i;
    ngx_webtorch_handler_t        *policy;
    ngx_http_upstream_srv_conf_t  *uscf;

    static ngx_str_t  failures = ngx_string("fail_status=500-599");

    if (wucf->balancer) {
        return "is duplicate";
    }

    ngx_str_set(&name, "webtorch.balancer:Policy");

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        rc = ngx_http_webtorch_upstream_set_key(cf, wucf, &value[i]);

        if (rc == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_OK
            || ngx_http_webtorch_upstream_set_fail_status(wucf, &value[i])
               == NGX_OK)
        {
            continue;
        }

        if (i == 1 && ngx_webtorch_handler_name(&value[i]) == NGX_OK) {
            name = value[i];
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           &value[i]);
        return NGX_CONF_ERROR;
    }

    if (!wucf->fail_status) {
        (void) ngx_http_webtorch_upstream_set_fail_status(wucf, &failures);
    }

    uscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);

    policy = ngx_webtorch_handler_add(cf, &name);
    if (policy == NULL) {
        return NGX_CONF_ERROR;
    }

    policy->policy = 1;

    wucf->balancer = ngx_webtorch_balancer_add(cf, &uscf->host);
    if (wucf->balancer == NULL) {
        return NGX_CONF_ERROR;
    }

    wucf->upstream = uscf;

    wucf->balancer->policy = policy;
    wucf->balancer->watch = ngx_http_webtorch_upstream_watch;
    wucf->balancer->data = wucf;

    if (uscf->peer.init_upstream) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "load balancing method redefined");
    }

    uscf->peer.init_upstream = ngx_http_webtorch_upstream_init;

    uscf->flags = NGX_HTTP_UPSTREAM_CREATE
#if defined(NGX_HTTP_UPSTREAM_MODIFY)
                  |NGX_HTTP_UPSTREAM_MODIFY
#endif
                  |NGX_HTTP_UPSTREAM_WEIGHT
                  |NGX_HTTP_UPSTREAM_MAX_CONNS
                  |NGX_HTTP_UPSTREAM_MAX_FAILS
                  |NGX_HTTP_UPSTREAM_FAIL_TIMEOUT
                  |NGX_HTTP_UPSTREAM_DOWN
                  |NGX_HTTP_UPSTREAM_BACKUP;

    return NGX_CONF_OK;
}


/* parses "key=$variable"; NGX_DECLINED: it is another parameter */

static ngx_int_t
ngx_http_webtorch_upstream_set_key(ngx_conf_t *cf,
    ngx_http_webtorch_upstream_conf_t *wucf, ngx_str_t *value)
{
    ngx_str_t  key;

    if (ngx_strncmp(value->data, "key=$", 5) != 0
        || value->len == 5 || wucf->key != NGX_CONF_UNSET)
    {
        return NGX_DECLINED;
    }

    key.data = value->data + 5;
    key.len = value->len - 5;

    if (!ngx_http_webtorch_upstream_is_variable(&key)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not the name of one variable, "
                           "join several with \"map\"", value);
        return NGX_ERROR;
    }

    wucf->key = ngx_http_get_variable_index(cf, &key);

    return wucf->key == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* nginx accepts any name that begins with arg_, http_ and other prefixes */

static ngx_uint_t
ngx_http_webtorch_upstream_is_variable(ngx_str_t *name)
{
    u_char      c;
    ngx_uint_t  i;

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z')
            && !(c >= '0' && c <= '9') && c != '_')
        {
            return 0;
        }
    }

    return 1;
}


/*
 * Parses "fail_status=" and statuses or ranges of them that are separated by
 * commas, or "off".  NGX_DECLINED: it is another parameter, or malformed.
 */

static ngx_int_t
ngx_http_webtorch_upstream_set_fail_status(
    ngx_http_webtorch_upstream_conf_t *wucf, ngx_str_t *value)
{
    u_char  *p, *end, *comma;

    if (ngx_strncmp(value->data, "fail_status=", 12) != 0
        || wucf->fail_status)
    {
        return NGX_DECLINED;
    }

    p = value->data + 12;
    end = value->data + value->len;

    if (ngx_strcmp(p, "off") == 0) {
        wucf->fail_status = 1;
        return NGX_OK;
    }

    for ( ;; ) {
        comma = ngx_strlchr(p, end, ',');

        if (ngx_http_webtorch_upstream_add_statuses(wucf, p,
                                                    comma ? comma : end)
            != NGX_OK)
        {
            return NGX_DECLINED;
        }

        if (comma == NULL) {
            break;
        }

        p = comma + 1;
    }

    wucf->fail_status = 1;

    return NGX_OK;
}


/* parses "500" or "500-599"; NGX_DECLINED: it is malformed */

static ngx_int_t
ngx_http_webtorch_upstream_add_statuses(
    ngx_http_webtorch_upstream_conf_t *wucf, u_char *begin, u_char *end)
{
    ngx_int_t  first, last;

    if (end - begin != 3 && (end - begin != 7 || begin[3] != '-')) {
        return NGX_DECLINED;
    }

    first = ngx_http_webtorch_upstream_parse_status(begin);
    last = ngx_http_webtorch_upstream_parse_status(end - 3);

    if (first == NGX_ERROR || last == NGX_ERROR || first > last) {
        return NGX_DECLINED;
    }

    ngx_memset(&wucf->failures[first - NGX_HTTP_WEBTORCH_UPSTREAM_MIN_STATUS],
               1, last - first + 1);

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_upstream_parse_status(u_char *p)
{
    ngx_int_t  status;

    status = ngx_atoi(p, 3);

    return status >= NGX_HTTP_WEBTORCH_UPSTREAM_MIN_STATUS
           && status <= NGX_HTTP_WEBTORCH_UPSTREAM_MAX_STATUS
           ? status : NGX_ERROR;
}
