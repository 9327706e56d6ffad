
#include "ngx_http_webtorch_loc_conf.h"
#include "ngx_http_webtorch.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_captures.h"
#include "ngx_http_webtorch_content.h"
#include "ngx_http_webtorch_openapi.h"
#include "ngx_http_webtorch_protocol.h"
#include "ngx_http_webtorch_shadow_conf.h"
#include "ngx_http_webtorch_stream_conf.h"
#include "ngx_http_webtorch_stream_option.h"


/* bytes of a batch that another worker runs; pages are allocated when
   they are written */
#define NGX_HTTP_WEBTORCH_OWNER_SIZE  (256 * 1024 * 1024)
#define NGX_HTTP_WEBTORCH_OWNER_MIN   (64 * 1024)
#define NGX_HTTP_WEBTORCH_OWNER_MAX   (4LL * 1024 * 1024 * 1024)


static ngx_int_t ngx_http_webtorch_serves_alone(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf);
static char *ngx_http_webtorch_add_loader(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *conf);
static ngx_int_t ngx_http_webtorch_set_owner(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_str_t *option);
static char *ngx_http_webtorch_set_model(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_webtorch_handler_t *handler,
    ngx_str_t *option);
static char *ngx_http_webtorch_serve_function(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_str_t *name);
static ngx_webtorch_handler_t *ngx_http_webtorch_add_handler(ngx_conf_t *cf,
    ngx_str_t *name);
static char *ngx_http_webtorch_serve_location(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_http_handler_pt handler);


void *
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
     *     conf->captures = NULL;
     *     conf->model = NULL;
     *     conf->device = { 0, NULL };
     *     conf->owner = 0;
     *     conf->shadow = NULL;
     *     conf->protocol = 0;
     *     conf->thread_pool = NULL;
     */

    conf->torch_load = NGX_CONF_UNSET;
    conf->intercept_errors = NGX_CONF_UNSET;
    conf->client_abort = NGX_CONF_UNSET_UINT;
    conf->cors = NGX_CONF_UNSET_PTR;
    conf->slow = NGX_CONF_UNSET_MSEC;
    conf->load_report = NGX_CONF_UNSET;

    return conf;
}


/*
 * Handlers are not inherited by nested locations, like those of other content
 * modules, but by "if" and "limit_except" without a handler of their own.
 */

char *
ngx_http_webtorch_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_webtorch_loc_conf_t *prev = parent;
    ngx_http_webtorch_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    ngx_conf_merge_value(conf->torch_load, prev->torch_load, 0);
    ngx_conf_merge_value(conf->intercept_errors, prev->intercept_errors, 0);
    ngx_conf_merge_uint_value(conf->client_abort, prev->client_abort,
                              NGX_HTTP_WEBTORCH_ABORT_HALF_CLOSED);
    ngx_conf_merge_ptr_value(conf->cors, prev->cors, NULL);
    ngx_conf_merge_msec_value(conf->slow, prev->slow, 0);
    ngx_conf_merge_value(conf->load_report, prev->load_report, 0);

    if (conf->device.data == NULL) {
        conf->owner = prev->owner;
    }

    ngx_conf_merge_str_value(conf->device, prev->device, "");

    conf->captures = ngx_http_webtorch_captures(cf, prev->captures,
                                                conf->handler != NULL);

    if (conf->captures == NGX_CONF_ERROR) {
        return NGX_CONF_ERROR;
    }

    if (conf->handler) {
        conf->handler->captures = conf->captures;
        conf->handler->device = conf->device;
        conf->handler->owner = conf->owner;
        conf->handler->slow = conf->slow;
    }

    if (conf->shadow) {
        ngx_http_webtorch_shadow_merge(conf);
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (ngx_http_webtorch_serves_alone(cf, conf, clcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (clcf->noname
        && clcf->handler == NULL
        && (prev->handler || prev->protocol))
    {
        conf->handler = prev->handler;
        conf->loader = prev->loader;
        conf->model = prev->model;
        conf->shadow = prev->shadow;
        conf->protocol = prev->protocol;
#if (NGX_THREADS)
        conf->thread_pool = prev->thread_pool;
#endif

        if (clcf->lmt_excpt) {
            clcf->handler = conf->protocol ? ngx_http_webtorch_protocol_handler
                                           : ngx_http_webtorch_content_handler;
        }
    }

    if (conf->handler
        && ngx_http_webtorch_stream_add_location(cf, conf->handler, clcf)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
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


/*
 * A directive of another module after that of the handler has replaced it, for
 * example "proxy_pass".
 */

static ngx_int_t
ngx_http_webtorch_serves_alone(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *conf, ngx_http_core_loc_conf_t *clcf)
{
    if (conf->handler && clcf->handler != ngx_http_webtorch_content_handler) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "webtorch handler \"%V\" conflicts with another handler "
                      "of its location in %V:%ui", &conf->handler->name,
                      &conf->handler->file, conf->handler->line);
        return NGX_ERROR;
    }

    if (conf->protocol
        && clcf->handler != ngx_http_webtorch_protocol_handler)
    {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"webtorch_inference_protocol\" conflicts with another "
                      "handler of location \"%V\"", &clcf->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* files wait in a queue of their own, with the limits of the handler's */

static char *
ngx_http_webtorch_add_loader(ngx_conf_t *cf, ngx_http_webtorch_loc_conf_t *conf)
{
    ngx_str_t                name;
    ngx_webtorch_handler_t  *loader;

    ngx_str_set(&name, "webtorch._handlers.torch_files:load");

    loader = ngx_webtorch_handler_add(cf, &name);
    if (loader == NULL) {
        return NGX_CONF_ERROR;
    }

    loader->mode = NGX_WEBTORCH_MODE_THREAD;
    loader->threads = 1;
    loader->max_batch = 1;
    loader->queue = conf->handler->queue;
    loader->queue_size = conf->handler->queue_size;
    loader->timeout = conf->handler->timeout;
    loader->stuck = conf->handler->stuck;
    loader->slow = conf->handler->slow;
    loader->file = conf->handler->file;
    loader->line = conf->handler->line;

    conf->loader = loader;

    return NGX_CONF_OK;
}


char *
ngx_http_webtorch_conf_handler(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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

    handler = ngx_http_webtorch_add_handler(cf, &value[1]);
    if (handler == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_http_webtorch_stream_option(handler, &value[i]) == NGX_OK) {
            continue;
        }

        if (ngx_strncmp(value[i].data, "model=", 6) == 0) {
            rv = ngx_http_webtorch_set_model(cf, wlcf, handler, &value[i]);

        } else if (ngx_http_webtorch_shadow_is_option(&value[i])) {
            rv = ngx_http_webtorch_shadow_option(cf, wlcf, &value[i]);

        } else {
            rv = ngx_webtorch_handler_option(cf, handler, &value[i]);
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    wlcf->handler = handler;

    if (ngx_http_webtorch_openapi_add(cf, handler) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_webtorch_serve_location(cf, wlcf,
                                          ngx_http_webtorch_content_handler);

    return (rv == NGX_CONF_OK) ? ngx_http_webtorch_shadow_finish(cf, wlcf) : rv;
}


char *
ngx_http_webtorch_conf_slow(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    ngx_str_t  *value;

    if (wlcf->slow != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        wlcf->slow = 0;
        return NGX_CONF_OK;
    }

    wlcf->slow = ngx_parse_time(&value[1], 0);

    if (wlcf->slow == (ngx_msec_t) NGX_ERROR
        || wlcf->slow == 0
        || wlcf->slow > NGX_MAX_INT32_VALUE)
    {
        return "needs a time above 0, or \"off\"";
    }

    return NGX_CONF_OK;
}


char *
ngx_http_webtorch_conf_openapi(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    ngx_str_t  name;

    if (wlcf->handler || wlcf->protocol) {
        return "conflicts with another handler of the location";
    }

    ngx_str_set(&name, "webtorch._openapi.documents:serve");

    return ngx_http_webtorch_serve_function(cf, wlcf, &name);
}


/*
 * The check of handlers gets the version, or the model alone if the version has
 * variables.
 */

static char *
ngx_http_webtorch_set_model(ngx_conf_t *cf, ngx_http_webtorch_loc_conf_t *wlcf,
    ngx_webtorch_handler_t *handler, ngx_str_t *option)
{
    u_char                            *p, *last, *at, *variable;
    ngx_str_t                          value;
    ngx_http_compile_complex_value_t   ccv;

    value.data = option->data + 6;
    value.len = option->len - 6;
    last = value.data + value.len;

    variable = ngx_strlchr(value.data, last, '$');
    at = NULL;

    for (p = value.data; p < (variable ? variable : last); p++) {
        if (*p == '@') {
            at = p;
        }
    }

    if (wlcf->model) {
        return "has a second \"model=\"";
    }

    if (at == NULL || at == value.data || at + 1 == last
        || value.len > WEBTORCH_VERSION_SET_LEN - 2)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\", it must be "
                           "\"model=name@version\", in which the version may "
                           "have variables", option);
        return NGX_CONF_ERROR;
    }

    handler->model.data = value.data;
    handler->model.len = variable ? (size_t) (at + 1 - value.data) : value.len;

    wlcf->model = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (wlcf->model == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &value;
    ccv.complex_value = wlcf->model;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_webtorch_conf_device(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    ngx_str_t  *value;
    ngx_uint_t  i;

    static ngx_str_t  names[] = {
        ngx_string("auto"), ngx_string("cpu"), ngx_string("cuda")
    };

    if (wlcf->device.data) {
        return "is duplicate";
    }

    value = cf->args->elts;
    wlcf->device = value[1];

    if (cf->args->nelts == 3
        && ngx_http_webtorch_set_owner(cf, wlcf, &value[2]) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (value[1].len == names[i].len
            && ngx_strncmp(value[1].data, names[i].data, names[i].len) == 0)
        {
            return NGX_CONF_OK;
        }
    }

    /* the number of a device has up to three digits */

    if (value[1].len > 5 && value[1].len < 9
        && ngx_strncmp(value[1].data, "cuda:", 5) == 0
        && ngx_atoi(value[1].data + 5, value[1].len - 5) != NGX_ERROR)
    {
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid device \"%V\", it must be \"cpu\", "
                       "\"cuda\", \"cuda:\" and a number, or \"auto\"",
                       &value[1]);

    return NGX_CONF_ERROR;
}


/* owner, or owner=size of a batch with its results */

static ngx_int_t
ngx_http_webtorch_set_owner(ngx_conf_t *cf, ngx_http_webtorch_loc_conf_t *wlcf,
    ngx_str_t *option)
{
    off_t      size;
    ngx_str_t  s;

    if (option->len == 5 && ngx_strncmp(option->data, "owner", 5) == 0) {
        wlcf->owner = NGX_HTTP_WEBTORCH_OWNER_SIZE;
        return NGX_OK;
    }

    if (option->len > 6 && ngx_strncmp(option->data, "owner=", 6) == 0) {

        s.data = option->data + 6;
        s.len = option->len - 6;
        size = ngx_parse_offset(&s);

        if (size >= NGX_HTTP_WEBTORCH_OWNER_MIN
            && size <= NGX_HTTP_WEBTORCH_OWNER_MAX)
        {
            wlcf->owner = (size_t) size;
            return NGX_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\", it must be \"owner\" or "
                       "\"owner=\" and a size from 64k to 4g", option);

    return NGX_ERROR;
}


/* Python answers: a function of requests, whose calls wait for each other */

char *
ngx_http_webtorch_conf_control(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_loc_conf_t *wlcf = conf;

    ngx_str_t  name;

    if (wlcf->handler) {
        return "is duplicate or conflicts with \"webtorch_handler\"";
    }

    if (wlcf->protocol) {
        return "conflicts with \"webtorch_inference_protocol\"";
    }

    ngx_str_set(&name, "webtorch._worker.control.handler:control");

    return ngx_http_webtorch_serve_function(cf, wlcf, &name);
}


char *
ngx_http_webtorch_conf_protocol(ngx_conf_t *cf, ngx_command_t *cmd,
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
     * nginx redirects the address without the slash at the end to the location,
     * which not all clients follow.
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


static char *
ngx_http_webtorch_serve_function(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_str_t *name)
{
    wlcf->handler = ngx_http_webtorch_add_handler(cf, name);
    if (wlcf->handler == NULL) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_webtorch_serve_location(cf, wlcf,
                                            ngx_http_webtorch_content_handler);
}


/* its schema, and with it whether it is a stream, is known later */

static ngx_webtorch_handler_t *
ngx_http_webtorch_add_handler(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_webtorch_handler_t  *handler;

    handler = ngx_webtorch_handler_add(cf, name);
    if (handler == NULL) {
        return NULL;
    }

    if (ngx_http_webtorch_stream_create_conf(cf, handler) != NGX_OK) {
        return NULL;
    }

    return handler;
}


static char *
ngx_http_webtorch_serve_location(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "conflicts with another handler of the location";
    }

#if (NGX_THREADS)
    wlcf->thread_pool = ngx_thread_pool_add(cf, NULL);
    if (wlcf->thread_pool == NULL) {
        return NGX_CONF_ERROR;
    }
#endif

    clcf->handler = handler;

    return NGX_CONF_OK;
}
