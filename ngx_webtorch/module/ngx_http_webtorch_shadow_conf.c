
#include "ngx_http_webtorch_shadow_conf.h"
#include "ngx_http_webtorch_shadow.h"
#include "ngx_webtorch_agree.h"
#include "ngx_webtorch_option.h"


/* copies of a location that wait or run in a worker */
#define NGX_HTTP_WEBTORCH_SHADOW_QUEUE  4096

/*
 * ms in which copies are collected for one call.  While a call runs, requests
 * of mode "auto" take longer: with few calls those are less than one in a
 * hundred.
 */
#define NGX_HTTP_WEBTORCH_SHADOW_DELAY  100


static ngx_http_webtorch_shadow_conf_t *ngx_http_webtorch_shadow_get_conf(
    ngx_conf_t *cf, ngx_http_webtorch_loc_conf_t *wlcf);
static char *ngx_http_webtorch_shadow_set_function(ngx_conf_t *cf,
    ngx_http_webtorch_shadow_conf_t *shadow, ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_shadow_set_rate(
    const ngx_webtorch_option_t *option, void *field, ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_shadow_set_tolerance(
    const ngx_webtorch_option_t *option, void *field, ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_shadow_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);
static const char *ngx_http_webtorch_shadow_reason(webtorch_schema_t *schema,
    webtorch_schema_t *other);
static ngx_uint_t ngx_http_webtorch_shadow_same(const webtorch_spec_t *one,
    const webtorch_spec_t *other, uint32_t n);


static const ngx_webtorch_option_t  ngx_http_webtorch_shadow_options[] = {

    /* the function, which is added to those of the configuration */

    { ngx_string("shadow"), NULL, 0, 0, 0 },

    { ngx_string("shadow_rate"), ngx_http_webtorch_shadow_set_rate,
      offsetof(ngx_http_webtorch_shadow_conf_t, rate), 0, 0 },

    { ngx_string("shadow_tolerance"), ngx_http_webtorch_shadow_set_tolerance,
      offsetof(ngx_http_webtorch_shadow_conf_t, tolerance), 0, 0 },

    { ngx_null_string, NULL, 0, 0, 0 }
};


ngx_uint_t
ngx_http_webtorch_shadow_is_option(ngx_str_t *option)
{
    ngx_str_t  value;

    return ngx_webtorch_option_find(ngx_http_webtorch_shadow_options, option,
                                    &value)
           != NULL;
}


char *
ngx_http_webtorch_shadow_option(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf, ngx_str_t *option)
{
    ngx_str_t                         value;
    const ngx_webtorch_option_t      *found;
    ngx_http_webtorch_shadow_conf_t  *shadow;

    shadow = ngx_http_webtorch_shadow_get_conf(cf, wlcf);
    if (shadow == NULL) {
        return NGX_CONF_ERROR;
    }

    found = ngx_webtorch_option_find(ngx_http_webtorch_shadow_options, option,
                                     &value);

    if (found->set == NULL) {
        return ngx_http_webtorch_shadow_set_function(cf, shadow, &value);
    }

    if (ngx_webtorch_option_set(found, shadow, &value) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           option);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_http_webtorch_shadow_conf_t *
ngx_http_webtorch_shadow_get_conf(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf)
{
    if (wlcf->shadow) {
        return wlcf->shadow;
    }

    wlcf->shadow = ngx_pcalloc(cf->pool,
                               sizeof(ngx_http_webtorch_shadow_conf_t));
    if (wlcf->shadow == NULL) {
        return NULL;
    }

    wlcf->shadow->rate = NGX_HTTP_WEBTORCH_SHADOW_ALL;
    wlcf->shadow->tolerance = NGX_WEBTORCH_AGREE_TOLERANCE;

    return wlcf->shadow;
}


/* "module:function", or "module:function@version" */

static char *
ngx_http_webtorch_shadow_set_function(ngx_conf_t *cf,
    ngx_http_webtorch_shadow_conf_t *shadow, ngx_str_t *value)
{
    u_char     *at, *last;
    ngx_str_t   name, version;

    if (shadow->handler) {
        return "has a second \"shadow=\"";
    }

    last = value->data + value->len;
    at = ngx_strlchr(value->data, last, '@');

    name.data = value->data;
    name.len = (at ? at : last) - value->data;
    version.data = at;
    version.len = at ? last - at : 0;

    if (ngx_webtorch_handler_name(&name) != NGX_OK || version.len == 1
        || value->len + 2 > WEBTORCH_VERSION_SET_LEN)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"shadow=%V\", it must be "
                           "\"shadow=module:function\" or "
                           "\"shadow=module:function@version\"", value);
        return NGX_CONF_ERROR;
    }

    /* Python gets a name that ends with a zero byte */

    name.data = ngx_pnalloc(cf->pool, name.len + 1);
    if (name.data == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_cpystrn(name.data, value->data, name.len + 1);

    shadow->handler = ngx_webtorch_handler_add(cf, &name);
    if (shadow->handler == NULL) {
        return NGX_CONF_ERROR;
    }

    shadow->handler->model = version;

    /* version 1 is that of the code, as in the inference protocol */

    if (version.len == 0 || (version.len == 2 && at[1] == '1')) {
        return NGX_CONF_OK;
    }

    shadow->version_set.len = value->len + 1;
    shadow->version_set.data = ngx_pnalloc(cf->pool, shadow->version_set.len);

    if (shadow->version_set.data == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_sprintf(shadow->version_set.data, "/%V", value);

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_webtorch_shadow_set_rate(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value)
{
    ngx_uint_t *share = field;

    ngx_int_t  rate;

    rate = ngx_http_webtorch_parse_percent(value);

    if (rate < 1) {
        return NGX_ERROR;
    }

    *share = (ngx_uint_t) rate;

    return NGX_OK;
}


/* "argmax", or a tolerance such as "0.01" */

static ngx_int_t
ngx_http_webtorch_shadow_set_tolerance(const ngx_webtorch_option_t *option,
    void *field, ngx_str_t *value)
{
    double *tolerance = field;

    ngx_int_t  n;

    if (value->len == 6 && ngx_strncmp(value->data, "argmax", 6) == 0) {
        *tolerance = NGX_WEBTORCH_AGREE_ARGMAX;
        return NGX_OK;
    }

    n = ngx_atofp(value->data, value->len, 9);

    if (n == NGX_ERROR) {
        return NGX_ERROR;
    }

    *tolerance = (double) n / 1e9;

    return NGX_OK;
}


char *
ngx_http_webtorch_shadow_finish(ngx_conf_t *cf,
    ngx_http_webtorch_loc_conf_t *wlcf)
{
    ngx_webtorch_handler_t  *handler, *main;

    if (wlcf->shadow == NULL) {
        return NGX_CONF_OK;
    }

    handler = wlcf->shadow->handler;
    main = wlcf->handler;

    if (handler == NULL) {
        return "has \"shadow_rate=\" or \"shadow_tolerance=\" without "
               "\"shadow=\"";
    }

    handler->shadowed = main;
    handler->check = ngx_http_webtorch_shadow_check;

    /* never in the event loop, where requests would wait for it */

    handler->mode = NGX_WEBTORCH_MODE_THREAD;
    handler->max_delay = NGX_HTTP_WEBTORCH_SHADOW_DELAY;
    handler->max_batch = main->max_batch;
    handler->queue = ngx_min(main->queue, NGX_HTTP_WEBTORCH_SHADOW_QUEUE);
    handler->queue_size = main->queue_size;
    handler->timeout = main->timeout;

    /* no "stuck": a shadow that hangs must not replace a worker that serves */

#if (NGX_THREADS)
    wlcf->shadow->thread_pool = wlcf->thread_pool;
#endif

    return NGX_CONF_OK;
}


void
ngx_http_webtorch_shadow_merge(ngx_http_webtorch_loc_conf_t *wlcf)
{
    wlcf->shadow->handler->device = wlcf->device;
    wlcf->shadow->handler->owner = wlcf->owner;
    wlcf->shadow->handler->slow = wlcf->slow;
}


/* the one that it shadows was checked before */

static ngx_int_t
ngx_http_webtorch_shadow_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler)
{
    const char  *reason;

    reason = ngx_http_webtorch_shadow_reason(&handler->schema,
                                             &handler->shadowed->schema);

    if (reason == NULL) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                  "\"shadow=%V%V\" of webtorch handler \"%V\": %s in %V:%ui",
                  &handler->name, &handler->model, &handler->shadowed->name,
                  reason, &handler->file, handler->line);

    return NGX_ERROR;
}


/* why a function cannot shadow the other one; NULL: it can */

static const char *
ngx_http_webtorch_shadow_reason(webtorch_schema_t *schema,
    webtorch_schema_t *other)
{
    if (other->kind != WEBTORCH_INFER) {
        return "only functions under @webtorch.infer have a shadow, as it "
               "repeats what they do";
    }

    if (schema->kind != WEBTORCH_INFER) {
        return "the shadow is not under @webtorch.infer";
    }

    if (schema->batched != other->batched
        || schema->ninputs != other->ninputs
        || schema->nmasks != other->nmasks
        || schema->noptional != other->noptional
        || schema->nbound != other->nbound
        || !ngx_http_webtorch_shadow_same(schema->inputs, other->inputs,
                                          schema->ninputs)
        || ngx_memcmp(schema->gaps, other->gaps,
                      schema->ninputs * sizeof(webtorch_gap_t)) != 0)
    {
        return "the two have different inputs";
    }

    if (schema->noutputs != other->noutputs
        || !ngx_http_webtorch_shadow_same(schema->outputs, other->outputs,
                                          schema->noutputs))
    {
        return "the two have different outputs";
    }

    return NULL;
}


static ngx_uint_t
ngx_http_webtorch_shadow_same(const webtorch_spec_t *one,
    const webtorch_spec_t *other, uint32_t n)
{
    uint32_t  i;

    for (i = 0; i < n; i++) {

        if (ngx_strcmp(one[i].name, other[i].name) != 0
            || !ngx_webtorch_agree_shapes(&one[i], &other[i]))
        {
            return 0;
        }
    }

    return 1;
}
