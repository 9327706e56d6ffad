
/*
 * webtorch_split: a variable whose value is one of several choices, mostly the
 * one that has earned the most.  Rewards are reported by Python, or are the
 * value of a string when the request has ended.
 */

#include "ngx_http_webtorch_split.h"
#include "ngx_webtorch_balance_math.h"
#include "ngx_webtorch_split.h"


/* pages of nginx's slab allocator, and the memory of the choices */
#define NGX_HTTP_WEBTORCH_SPLIT_SIZE       (8 * ngx_pagesize + 16384)

#define NGX_HTTP_WEBTORCH_SPLIT_HALF_LIFE  3600000

/* share of each choice, of 10,000 */
#define NGX_HTTP_WEBTORCH_SPLIT_MINIMUM    100

/* digits after the point of a reward in a variable */
#define NGX_HTTP_WEBTORCH_SPLIT_DIGITS     6
#define NGX_HTTP_WEBTORCH_SPLIT_ONE        1000000


typedef struct {
    ngx_webtorch_split_t         split;      /* first, as in conf->splits */
    ngx_int_t                    index;      /* of the variable */
    ngx_http_complex_value_t    *key;        /* NULL: a draw for each request */
    ngx_http_complex_value_t    *reward;     /* NULL: Python reports it */
    time_t                       warned;     /* of a reward, once a second */
} ngx_http_webtorch_split_t;


static char *ngx_http_webtorch_split_option(ngx_conf_t *cf,
    ngx_http_webtorch_split_t *hs, ngx_str_t *option);
static char *ngx_http_webtorch_split_value(ngx_conf_t *cf,
    ngx_http_complex_value_t **to, ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_split_minimum(ngx_http_webtorch_split_t *hs,
    ngx_str_t *value);
static ngx_int_t ngx_http_webtorch_split_half_life(
    ngx_http_webtorch_split_t *hs, ngx_str_t *value);
static char *ngx_http_webtorch_split_choice(ngx_conf_t *cf,
    ngx_webtorch_split_t *split, ngx_str_t *name);
static char *ngx_http_webtorch_split_add_variable(ngx_conf_t *cf,
    ngx_http_webtorch_split_t *hs);
static char *ngx_http_webtorch_split_add_zone(ngx_conf_t *cf,
    ngx_webtorch_split_t *split);
static ngx_int_t ngx_http_webtorch_split_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_split_log_handler(ngx_http_request_t *r);
static void ngx_http_webtorch_split_reward(ngx_http_request_t *r,
    ngx_http_webtorch_split_t *hs);


char *
ngx_http_webtorch_conf_split(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_webtorch_conf_t *wcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_webtorch_split_t       **split;
    ngx_http_webtorch_split_t   *hs;

    value = cf->args->elts;

    if (value[1].len < 2 || value[1].data[0] != '$') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid variable name \"%V\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    hs = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_split_t));
    if (hs == NULL) {
        return NGX_CONF_ERROR;
    }

    hs->split.name.data = value[1].data + 1;
    hs->split.name.len = value[1].len - 1;
    ngx_strlow(hs->split.name.data, hs->split.name.data, hs->split.name.len);

    hs->split.minimum = NGX_HTTP_WEBTORCH_SPLIT_MINIMUM / 10000.0;
    hs->split.half_life = NGX_HTTP_WEBTORCH_SPLIT_HALF_LIFE;

    for (i = 2; i < cf->args->nelts; i++) {

        rv = ngx_strlchr(value[i].data, value[i].data + value[i].len, '=')
             ? ngx_http_webtorch_split_option(cf, hs, &value[i])
             : ngx_http_webtorch_split_choice(cf, &hs->split, &value[i]);

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (hs->split.nchoices < 2) {
        return "needs two choices or more";
    }

    if (hs->split.minimum * (double) hs->split.nchoices > 1) {
        return "has a \"min=\" that is too large for so many choices";
    }

    rv = ngx_http_webtorch_split_add_variable(cf, hs);

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    split = ngx_array_push(&wcf->splits);
    if (split == NULL) {
        return NGX_CONF_ERROR;
    }

    *split = &hs->split;

    return ngx_http_webtorch_split_add_zone(cf, &hs->split);
}


static char *
ngx_http_webtorch_split_option(ngx_conf_t *cf, ngx_http_webtorch_split_t *hs,
    ngx_str_t *option)
{
    ngx_int_t  rc;
    ngx_str_t  value;

    value.data = ngx_strlchr(option->data, option->data + option->len, '=') + 1;
    value.len = option->data + option->len - value.data;

    rc = NGX_ERROR;

    if (value.len == 0) {
        goto invalid;
    }

    if (ngx_strncmp(option->data, "key=", 4) == 0) {
        return ngx_http_webtorch_split_value(cf, &hs->key, &value);
    }

    if (ngx_strncmp(option->data, "reward=", 7) == 0) {
        return ngx_http_webtorch_split_value(cf, &hs->reward, &value);
    }

    if (ngx_strncmp(option->data, "min=", 4) == 0) {
        rc = ngx_http_webtorch_split_minimum(hs, &value);

    } else if (ngx_strncmp(option->data, "half_life=", 10) == 0) {
        rc = ngx_http_webtorch_split_half_life(hs, &value);
    }

    if (rc == NGX_OK) {
        return NGX_CONF_OK;
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       option);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_webtorch_split_value(ngx_conf_t *cf, ngx_http_complex_value_t **to,
    ngx_str_t *value)
{
    ngx_http_compile_complex_value_t  ccv;

    if (*to) {
        return "has a parameter twice";
    }

    *to = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (*to == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = *to;

    return ngx_http_compile_complex_value(&ccv) == NGX_OK ? NGX_CONF_OK
                                                          : NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_webtorch_split_minimum(ngx_http_webtorch_split_t *hs,
    ngx_str_t *value)
{
    ngx_int_t  n;

    n = ngx_http_webtorch_parse_percent(value);

    if (n == NGX_ERROR) {
        return NGX_ERROR;
    }

    hs->split.minimum = (double) n / 10000.0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_split_half_life(ngx_http_webtorch_split_t *hs,
    ngx_str_t *value)
{
    ngx_int_t  n;

    if (value->len == 3 && ngx_strncmp(value->data, "off", 3) == 0) {
        hs->split.half_life = 0;
        return NGX_OK;
    }

    n = ngx_parse_time(value, 0);

    if (n == NGX_ERROR || n < 10000) {
        return NGX_ERROR;
    }

    hs->split.half_life = (ngx_msec_t) n;

    return NGX_OK;
}


static char *
ngx_http_webtorch_split_choice(ngx_conf_t *cf, ngx_webtorch_split_t *split,
    ngx_str_t *name)
{
    ngx_uint_t  i;

    /* they are labels of metrics, and parts of paths */

    for (i = 0; i < name->len; i++) {

        if (name->data[i] <= ' ' || ngx_strchr("\"\\$/", name->data[i])) {
            break;
        }
    }

    if (name->len == 0 || i < name->len
        || name->len > NGX_WEBTORCH_SPLIT_NAME)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid choice \"%V\", it must have 1 to %d "
                           "characters, and none of \", \\, $, / and space",
                           name, NGX_WEBTORCH_SPLIT_NAME);
        return NGX_CONF_ERROR;
    }

    if (ngx_webtorch_split_find(split, name->data, name->len)) {
        return "has a choice twice";
    }

    if (split->nchoices == NGX_WEBTORCH_SPLIT_CHOICES) {
        return "has more than 16 choices";
    }

    split->choices[split->nchoices++].name = *name;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_split_add_variable(ngx_conf_t *cf,
    ngx_http_webtorch_split_t *hs)
{
    ngx_http_variable_t  *var;

    /* without a flag: another directive must not set it, too */

    var = ngx_http_add_variable(cf, &hs->split.name, 0);
    if (var == NULL) {
        return NGX_CONF_ERROR;
    }

    var->get_handler = ngx_http_webtorch_split_variable;
    var->data = (uintptr_t) hs;

    hs->index = ngx_http_get_variable_index(cf, &hs->split.name);

    return (hs->index == NGX_ERROR) ? NGX_CONF_ERROR : NGX_CONF_OK;
}


static char *
ngx_http_webtorch_split_add_zone(ngx_conf_t *cf, ngx_webtorch_split_t *split)
{
    ngx_str_t        name;
    ngx_shm_zone_t  *zone;

    name.len = sizeof("webtorch_split:") - 1 + split->name.len;
    name.data = ngx_pnalloc(cf->pool, name.len);
    if (name.data == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_sprintf(name.data, "webtorch_split:%V", &split->name);

    zone = ngx_shared_memory_add(cf, &name, NGX_HTTP_WEBTORCH_SPLIT_SIZE,
                                 &ngx_http_webtorch_module);
    if (zone == NULL) {
        return NGX_CONF_ERROR;
    }

    zone->init = ngx_webtorch_split_init_zone;
    zone->data = split;

    return NGX_CONF_OK;
}


/* once for a request, as nginx keeps the value */

static ngx_int_t
ngx_http_webtorch_split_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_webtorch_split_t *hs = (ngx_http_webtorch_split_t *) data;

    uint64_t                      number;
    ngx_str_t                     key;
    ngx_webtorch_split_choice_t  *choice;

    ngx_str_null(&key);

    if (hs->key && ngx_http_complex_value(r, hs->key, &key) != NGX_OK) {
        return NGX_ERROR;
    }

    /* all who have no key, as no cookie, must not get the same choice */

    number = key.len ? ngx_murmur_hash2(key.data, key.len)
             : ((uint64_t) ngx_random() << 32 ^ (uint64_t) ngx_random());

    choice = ngx_webtorch_split_pick(&hs->split, number);

    v->len = choice->name.len;
    v->data = choice->name.data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_split_init(ngx_conf_t *cf)
{
    ngx_array_t                *handlers;
    ngx_webtorch_conf_t        *wcf;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);
    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    if (wcf->splits.nelts == 0) {
        return NGX_OK;
    }

    handlers = &cmcf->phases[NGX_HTTP_LOG_PHASE].handlers;

    if (ngx_array_push(handlers) == NULL) {
        return NGX_ERROR;
    }

    /* before access logs, which may have the variable */

    h = handlers->elts;
    ngx_memmove(h + 1, h, (handlers->nelts - 1) * sizeof(ngx_http_handler_pt));

    h[0] = ngx_http_webtorch_split_log_handler;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_split_log_handler(ngx_http_request_t *r)
{
    ngx_uint_t                   i;
    ngx_webtorch_conf_t         *wcf;
    ngx_http_webtorch_split_t  **hs;
    ngx_http_variable_value_t   *v;

    if (r != r->main) {
        return NGX_OK;
    }

    wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);
    hs = wcf->splits.elts;

    for (i = 0; i < wcf->splits.nelts; i++) {

        v = &r->variables[hs[i]->index];

        if (!v->valid) {
            /* a log is no use of it, and shows "-" */
            v->not_found = 1;

        } else if (hs[i]->reward) {
            ngx_http_webtorch_split_reward(r, hs[i]);
        }
    }

    return NGX_OK;
}


/* an empty string is no reward: it may be reported later */

static void
ngx_http_webtorch_split_reward(ngx_http_request_t *r,
    ngx_http_webtorch_split_t *hs)
{
    ngx_int_t                     n;
    ngx_str_t                     value;
    ngx_http_variable_value_t    *v;
    ngx_webtorch_split_choice_t  *choice;

    if (ngx_http_complex_value(r, hs->reward, &value) != NGX_OK
        || value.len == 0)
    {
        return;
    }

    n = ngx_atofp(value.data, value.len, NGX_HTTP_WEBTORCH_SPLIT_DIGITS);

    if (n == NGX_ERROR || n > NGX_HTTP_WEBTORCH_SPLIT_ONE) {

        if (hs->warned == ngx_time()) {
            return;
        }

        hs->warned = ngx_time();

        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "webtorch_split \"$%V\": the reward \"%V\" is not a "
                      "number from 0 to 1 with up to %d digits after the point",
                      &hs->split.name, &value, NGX_HTTP_WEBTORCH_SPLIT_DIGITS);
        return;
    }

    /* another directive may have set the variable meanwhile */

    v = &r->variables[hs->index];
    choice = ngx_webtorch_split_find(&hs->split, v->data, v->len);

    if (choice) {
        ngx_webtorch_split_add(&hs->split, choice,
                               (double) n / NGX_HTTP_WEBTORCH_SPLIT_ONE);
    }
}
