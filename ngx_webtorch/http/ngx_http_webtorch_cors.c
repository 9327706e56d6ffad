
/*
 * webtorch_cors: answers of a location are marked as readable for pages of
 * other origins, and preflights are answered, before the access phase: browsers
 * send them without credentials.
 */

#include "ngx_http_webtorch_cors.h"
#include "ngx_http_webtorch_ctx.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch_origin.h"


/* seconds that browsers remember the answer to a preflight */
#define NGX_HTTP_WEBTORCH_CORS_MAX_AGE  "600"


struct ngx_http_webtorch_cors_s {
    ngx_array_t    origins;               /* ngx_http_webtorch_origin_t */
    ngx_str_t      max_age;               /* seconds */
    unsigned       any:1;                 /* "*" */
    unsigned       null:1;                /* "null" is one of the origins */
    unsigned       credentials:1;
};


static char *ngx_http_webtorch_cors_option(ngx_conf_t *cf,
    ngx_http_webtorch_cors_t *cors, ngx_str_t *option);
static char *ngx_http_webtorch_cors_max_age(ngx_conf_t *cf,
    ngx_http_webtorch_cors_t *cors, ngx_str_t *option);
static char *ngx_http_webtorch_cors_origin(ngx_conf_t *cf,
    ngx_http_webtorch_cors_t *cors, ngx_str_t *text);
static ngx_uint_t ngx_http_webtorch_cors_allows(
    ngx_http_webtorch_cors_t *cors, ngx_str_t *text);
static ngx_int_t ngx_http_webtorch_cors_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_cors_preflight(ngx_http_request_t *r,
    ngx_http_webtorch_cors_t *cors, ngx_str_t *method);
static ngx_int_t ngx_http_webtorch_cors_methods(ngx_http_request_t *r,
    ngx_str_t *method, ngx_str_t *methods);
static ngx_int_t ngx_http_webtorch_cors_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_cors_mark(ngx_http_request_t *r,
    ngx_http_webtorch_cors_t *cors, ngx_str_t *origin);
static ngx_int_t ngx_http_webtorch_cors_add(ngx_http_request_t *r,
    const char *name, ngx_str_t *value);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


/*
 * Headers of answers that pages may read beside those that the standard allows,
 * where "*" would not be understood.
 */

static ngx_str_t  ngx_http_webtorch_cors_exposed =
    ngx_string("Allow, Inference-Header-Content-Length, Retry-After, "
               "Stream-Id, Stream-Offset, Tensor-Shape");

static ngx_str_t  ngx_http_webtorch_cors_any = ngx_string("*");
static ngx_str_t  ngx_http_webtorch_cors_null = ngx_string("null");
static ngx_str_t  ngx_http_webtorch_cors_true = ngx_string("true");
static ngx_str_t  ngx_http_webtorch_cors_vary = ngx_string("Origin");
static ngx_str_t  ngx_http_webtorch_cors_vary_preflight =
    ngx_string("Access-Control-Request-Headers, "
               "Access-Control-Request-Method");


char *
ngx_http_webtorch_conf_cors(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    char                      *rv;
    ngx_str_t                 *value;
    ngx_uint_t                 i;
    ngx_webtorch_conf_t       *wcf;
    ngx_http_webtorch_cors_t  *cors;

    if (wlcf->cors != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        wlcf->cors = NULL;
        return NGX_CONF_OK;
    }

    cors = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_cors_t));
    if (cors == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_array_init(&cors->origins, cf->pool, 4,
                       sizeof(ngx_http_webtorch_origin_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_webtorch_cors_option(cf, cors, &value[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (!cors->any && cors->origins.nelts == 0) {
        return "has no origin";
    }

    if (cors->any && cors->origins.nelts) {
        return "has \"*\" and other origins";
    }

    /* browsers refuse such answers, and any page could act for its visitors */

    if (cors->any && cors->credentials) {
        return "allows \"credentials\" for \"*\", name the origins instead";
    }

    /* any page has this origin in a frame with a sandbox */

    if (cors->null && cors->credentials) {
        return "allows \"credentials\" for \"null\", which any page can be";
    }

    if (cors->max_age.data == NULL) {
        ngx_str_set(&cors->max_age, NGX_HTTP_WEBTORCH_CORS_MAX_AGE);
    }

    wlcf->cors = cors;

    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);
    wcf->cors = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cors_option(ngx_conf_t *cf, ngx_http_webtorch_cors_t *cors,
    ngx_str_t *option)
{
    if (ngx_strcmp(option->data, "credentials") == 0) {
        cors->credentials = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(option->data, "max_age=", 8) == 0) {
        return ngx_http_webtorch_cors_max_age(cf, cors, option);
    }

    if (ngx_strcmp(option->data, "*") == 0) {
        cors->any = 1;
        return NGX_CONF_OK;
    }

    return ngx_http_webtorch_cors_origin(cf, cors, option);
}


static char *
ngx_http_webtorch_cors_max_age(ngx_conf_t *cf, ngx_http_webtorch_cors_t *cors,
    ngx_str_t *option)
{
    ngx_int_t  seconds;
    ngx_str_t  value;

    value.data = option->data + 8;
    value.len = option->len - 8;

    seconds = ngx_parse_time(&value, 1);

    if (seconds == NGX_ERROR || cors->max_age.data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           option);
        return NGX_CONF_ERROR;
    }

    cors->max_age.data = ngx_pnalloc(cf->pool, NGX_INT_T_LEN);
    if (cors->max_age.data == NULL) {
        return NGX_CONF_ERROR;
    }

    cors->max_age.len = ngx_sprintf(cors->max_age.data, "%i", seconds)
                        - cors->max_age.data;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_cors_origin(ngx_conf_t *cf, ngx_http_webtorch_cors_t *cors,
    ngx_str_t *text)
{
    char                        *rv;
    ngx_http_webtorch_origin_t  *origin;

    origin = ngx_array_push(&cors->origins);
    if (origin == NULL) {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_webtorch_origin_parse(cf, origin, text);

    if (rv == NGX_CONF_OK
        && ngx_http_webtorch_origin_fits(origin, &ngx_http_webtorch_cors_null))
    {
        cors->null = 1;
    }

    return rv;
}


static ngx_uint_t
ngx_http_webtorch_cors_allows(ngx_http_webtorch_cors_t *cors, ngx_str_t *text)
{
    ngx_uint_t                   i;
    ngx_http_webtorch_origin_t  *origin;

    origin = cors->origins.elts;

    for (i = 0; i < cors->origins.nelts; i++) {
        if (ngx_http_webtorch_origin_fits(&origin[i], text)) {
            return 1;
        }
    }

    return cors->any;
}


static ngx_int_t
ngx_http_webtorch_cors_handler(ngx_http_request_t *r)
{
    ngx_str_t                     *method, *origin;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);

    if (wlcf->cors == NULL || r->method != NGX_HTTP_OPTIONS || r != r->main) {
        return NGX_DECLINED;
    }

    origin = ngx_http_webtorch_find_header(r, "origin");
    method = ngx_http_webtorch_find_header(r, "access-control-request-method");

    if (origin == NULL || method == NULL || method->len == 0) {
        return NGX_DECLINED;
    }

    if (!ngx_http_webtorch_cors_allows(wlcf->cors, origin)) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "webtorch_cors does not allow the origin \"%V\"", origin);

        if (ngx_http_webtorch_get_ctx(r) == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ngx_http_finalize_request(r, ngx_http_webtorch_refuse(r,
                      NGX_HTTP_FORBIDDEN, "forbidden_origin",
                      "the origin is not one that \"webtorch_cors\" names"));
        return NGX_DONE;
    }

    return ngx_http_webtorch_cors_preflight(r, wlcf->cors, method);
}


static ngx_int_t
ngx_http_webtorch_cors_preflight(ngx_http_request_t *r,
    ngx_http_webtorch_cors_t *cors, ngx_str_t *method)
{
    ngx_int_t  rc;
    ngx_str_t  methods, headers;

    rc = ngx_http_webtorch_discard_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_webtorch_cors_methods(r, method, &methods) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_webtorch_join_headers(r, "access-control-request-headers",
                                        &headers);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_webtorch_cors_add(r, "Access-Control-Allow-Methods", &methods)
        != NGX_OK
        || (rc == NGX_OK
            && ngx_http_webtorch_cors_add(r, "Access-Control-Allow-Headers",
                                          &headers)
               != NGX_OK)
        || ngx_http_webtorch_cors_add(r, "Access-Control-Max-Age",
                                      &cors->max_age)
           != NGX_OK
        || ngx_http_webtorch_cors_add(r, "Vary",
                                      &ngx_http_webtorch_cors_vary_preflight)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_HTTP_NO_CONTENT;
}


/*
 * The methods of the handler, and the one that was asked for, if it is another
 * one: "limit_except" may have a handler of its own for OPTIONS.
 */

static ngx_int_t
ngx_http_webtorch_cors_methods(ngx_http_request_t *r, ngx_str_t *method,
    ngx_str_t *methods)
{
    u_char                        *p;
    ngx_str_t                      names;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);
    *methods = *method;

    if (wlcf->handler == NULL || wlcf->handler->schema.methods == 0) {
        return NGX_OK;
    }

    if (ngx_http_webtorch_method_names(r->pool, wlcf->handler->schema.methods,
                                       &names)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_webtorch_method_by_name(method)
        & wlcf->handler->schema.methods)
    {
        *methods = names;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, names.len + sizeof(", ") - 1 + method->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    methods->data = p;
    methods->len = ngx_sprintf(p, "%V, %V", &names, method) - p;

    return NGX_OK;
}


/*
 * Marks all answers, nginx's own errors, too.  What a handler or a proxied
 * server says about origins has precedence.
 */

static ngx_int_t
ngx_http_webtorch_cors_filter(ngx_http_request_t *r)
{
    ngx_str_t                     *origin;
    ngx_http_webtorch_cors_t      *cors;
    ngx_http_webtorch_loc_conf_t  *wlcf;

    wlcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_module);
    cors = wlcf->cors;

    if (cors == NULL || r != r->main
        || ngx_http_webtorch_has_header_out(r, "Access-Control-Allow-Origin"))
    {
        return ngx_http_next_header_filter(r);
    }

    origin = &ngx_http_webtorch_cors_any;

    if (!cors->any) {

        /* caches must not give the answer for one origin to another */

        if (ngx_http_webtorch_cors_add(r, "Vary", &ngx_http_webtorch_cors_vary)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        origin = ngx_http_webtorch_find_header(r, "origin");

        if (origin == NULL || !ngx_http_webtorch_cors_allows(cors, origin)) {
            return ngx_http_next_header_filter(r);
        }
    }

    if (ngx_http_webtorch_cors_mark(r, cors, origin) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_webtorch_cors_mark(ngx_http_request_t *r,
    ngx_http_webtorch_cors_t *cors, ngx_str_t *origin)
{
    if (ngx_http_webtorch_cors_add(r, "Access-Control-Allow-Origin", origin)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (cors->credentials
        && ngx_http_webtorch_cors_add(r, "Access-Control-Allow-Credentials",
                                      &ngx_http_webtorch_cors_true)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_webtorch_has_header_out(r, "Access-Control-Expose-Headers"))
    {
        return NGX_OK;
    }

    /* with credentials browsers take "*" as a name */

    return ngx_http_webtorch_cors_add(r, "Access-Control-Expose-Headers",
                                      cors->credentials
                                          ? &ngx_http_webtorch_cors_exposed
                                          : &ngx_http_webtorch_cors_any);
}


static ngx_int_t
ngx_http_webtorch_cors_add(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    ngx_str_t  key;

    key.data = (u_char *) name;
    key.len = ngx_strlen(name);

    return ngx_http_webtorch_add_header(r, &key, value);
}


ngx_int_t
ngx_http_webtorch_cors_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_webtorch_conf_t        *wcf;
    ngx_http_core_main_conf_t  *cmcf;

    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);

    if (!wcf->cors) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_webtorch_cors_handler;

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_webtorch_cors_filter;

    return NGX_OK;
}
