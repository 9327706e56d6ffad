
/*
 * The directives of models in the phases of access, variables and logs, their
 * configuration, and what is kept of a request over internal redirects.
 */

#include "ngx_http_webtorch_phases.h"


/* how long rows of webtorch_log wait for others, in milliseconds */
#define NGX_HTTP_WEBTORCH_LOG_DELAY  100

/* and how long requests wait for a model, by default */
#define NGX_HTTP_WEBTORCH_TIMEOUT    1000


static ngx_int_t ngx_http_webtorch_phases_add_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_webtorch_phases_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_webtorch_phases_add(ngx_http_core_main_conf_t *cmcf,
    ngx_http_phases phase, ngx_http_handler_pt handler);
static void *ngx_http_webtorch_phases_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_webtorch_phases_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_webtorch_phases_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);
static char *ngx_http_webtorch_access(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_access_option(ngx_conf_t *cf,
    ngx_http_webtorch_access_t *access, ngx_str_t *option);
static char *ngx_http_webtorch_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_webtorch_set_name(ngx_conf_t *cf,
    ngx_http_webtorch_set_t *set, ngx_str_t *name);
static char *ngx_http_webtorch_log(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_webtorch_body_option(ngx_conf_t *cf,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_str_t *option);
static ngx_int_t ngx_http_webtorch_scorer_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);
static void ngx_http_webtorch_phases_cleanup(void *data);


static ngx_command_t  ngx_http_webtorch_phases_commands[] = {

    { ngx_string("webtorch_clients_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_webtorch_clients_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_access"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_access,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_set"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_2MORE,
      ngx_http_webtorch_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_log"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_log,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_webtorch_phases_module_ctx = {
    ngx_http_webtorch_phases_add_variables,     /* preconfiguration */
    ngx_http_webtorch_phases_init,              /* postconfiguration */

    ngx_http_webtorch_phases_create_main_conf,  /* create main configuration */
    NULL,                                       /* init main configuration */

    NULL,                                       /* create server configuration */
    NULL,                                       /* merge server configuration */

    ngx_http_webtorch_phases_create_loc_conf,   /* create location configuration */
    ngx_http_webtorch_phases_merge_loc_conf     /* merge location configuration */
};


ngx_module_t  ngx_http_webtorch_phases_module = {
    NGX_MODULE_V1,
    &ngx_http_webtorch_phases_module_ctx,  /* module context */
    ngx_http_webtorch_phases_commands,     /* module directives */
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


static ngx_http_variable_t  ngx_http_webtorch_phases_vars[] = {

    { ngx_string("webtorch_access_verdict"), NULL,
      ngx_http_webtorch_access_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_access_score"), NULL,
      ngx_http_webtorch_access_variable, 1, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_http_webtorch_phases_ctx_t *
ngx_http_webtorch_phases_ctx(ngx_http_request_t *r, ngx_uint_t create)
{
    ngx_pool_cleanup_t              *cln;
    ngx_http_webtorch_phases_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_webtorch_phases_module);

    if (ctx) {
        return ctx;
    }

    /* an internal redirect has forgotten it, but not the cleanup handler */

    if (r->internal || r->filter_finalize) {

        for (cln = r->pool->cleanup; cln; cln = cln->next) {
            if (cln->handler == ngx_http_webtorch_phases_cleanup) {
                ngx_http_set_ctx(r, cln->data, ngx_http_webtorch_phases_module);
                return cln->data;
            }
        }
    }

    if (!create) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_webtorch_phases_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_webtorch_phases_ctx_t));

    cln->handler = ngx_http_webtorch_phases_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_webtorch_phases_module);

    return ctx;
}


static void
ngx_http_webtorch_phases_cleanup(void *data)
{
    ngx_http_webtorch_phases_ctx_t *ctx = data;

    ngx_http_webtorch_value_t  *value;

    ngx_webtorch_batch_cancel(&ctx->waiter);

    for (value = ctx->values; value; value = value->next) {
        ngx_webtorch_batch_cancel(&value->waiter);
    }
}


static ngx_int_t
ngx_http_webtorch_phases_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_webtorch_phases_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* a configuration without these directives has no handlers of theirs */

static ngx_int_t
ngx_http_webtorch_phases_init(ngx_conf_t *cf)
{
    ngx_str_t                              name;
    ngx_http_core_main_conf_t             *cmcf;
    ngx_http_webtorch_phases_main_conf_t  *pmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    pmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_webtorch_phases_module);

    if (!pmcf->used) {
        return NGX_OK;
    }

    if (pmcf->clients == NULL
        && ngx_http_webtorch_clients_default(cf, pmcf) != NGX_CONF_OK)
    {
        return NGX_ERROR;
    }

    ngx_str_set(&name, "request_id");

    pmcf->request_id = ngx_http_get_variable_index(cf, &name);

    if (pmcf->request_id == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (pmcf->set
        && ngx_http_webtorch_phases_add(cmcf, NGX_HTTP_REWRITE_PHASE,
                                        ngx_http_webtorch_set_handler)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (pmcf->access
        && ngx_http_webtorch_phases_add(cmcf, NGX_HTTP_ACCESS_PHASE,
                                        ngx_http_webtorch_access_handler)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_webtorch_phases_add(cmcf, NGX_HTTP_LOG_PHASE,
                                        ngx_http_webtorch_log_handler);
}


static ngx_int_t
ngx_http_webtorch_phases_add(ngx_http_core_main_conf_t *cmcf,
    ngx_http_phases phase, ngx_http_handler_pt handler)
{
    ngx_http_handler_pt  *h;

    h = ngx_array_push(&cmcf->phases[phase].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = handler;

    return NGX_OK;
}


static void *
ngx_http_webtorch_phases_create_main_conf(ngx_conf_t *cf)
{
    /*
     * set by ngx_pcalloc():
     *
     *     conf->clients = NULL;
     *     conf->used = 0;
     *     conf->access = 0;
     *     conf->set = 0;
     */

    return ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_phases_main_conf_t));
}


static void *
ngx_http_webtorch_phases_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_webtorch_phases_loc_conf_t  *conf;

    conf = ngx_palloc(cf->pool, sizeof(ngx_http_webtorch_phases_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->access = NGX_CONF_UNSET_PTR;
    conf->sets = NGX_CONF_UNSET_PTR;
    conf->log = NGX_CONF_UNSET_PTR;

    return conf;
}


static char *
ngx_http_webtorch_phases_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child)
{
    ngx_http_webtorch_phases_loc_conf_t *prev = parent;
    ngx_http_webtorch_phases_loc_conf_t *conf = child;

    ngx_conf_merge_ptr_value(conf->access, prev->access, NULL);
    ngx_conf_merge_ptr_value(conf->sets, prev->sets, NULL);
    ngx_conf_merge_ptr_value(conf->log, prev->log, NULL);

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_access(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_phases_loc_conf_t *plcf = conf;

    char                                  *rv;
    ngx_str_t                             *value;
    ngx_uint_t                             i;
    ngx_http_webtorch_access_t            *access;
    ngx_http_webtorch_phases_main_conf_t  *pmcf;

    if (plcf->access != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        plcf->access = NULL;
        return NGX_CONF_OK;
    }

    access = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_access_t));
    if (access == NULL) {
        return NGX_CONF_ERROR;
    }

    access->scorer.allowed = NGX_HTTP_WEBTORCH_FEATURES;
    access->status = NGX_HTTP_FORBIDDEN;
    access->threshold = 0.5;

    rv = ngx_http_webtorch_scorer(cf, &access->scorer, &value[1]);

    for (i = 2; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {
        rv = ngx_http_webtorch_access_option(cf, access, &value[i]);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    pmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_webtorch_phases_module);
    pmcf->access = 1;
    plcf->access = access;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_access_option(ngx_conf_t *cf,
    ngx_http_webtorch_access_t *access, ngx_str_t *option)
{
    char        *end;
    ngx_int_t    n;

    if (ngx_strcmp(option->data, "dry_run") == 0) {
        access->dry_run = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(option->data, "on_error=allow") == 0) {
        access->deny_on_error = 0;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(option->data, "on_error=deny") == 0) {
        access->deny_on_error = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strncmp(option->data, "status=", 7) == 0) {
        n = ngx_atoi(option->data + 7, option->len - 7);

        if (n >= 400 && n <= 599) {
            access->status = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "threshold=", 10) == 0) {
        access->threshold = strtod((char *) option->data + 10, &end);

        /* not a NaN */

        if (option->len > 10
            && end == (char *) option->data + option->len
            && access->threshold == access->threshold)
        {
            return NGX_CONF_OK;
        }

    } else {
        return ngx_http_webtorch_body_option(cf, &access->scorer, option);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       option);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_webtorch_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_phases_loc_conf_t *plcf = conf;

    char                                   *rv;
    ngx_str_t                              *value;
    ngx_uint_t                              i;
    ngx_http_webtorch_set_t                *set, **p;
    ngx_http_webtorch_phases_main_conf_t   *pmcf;

    value = cf->args->elts;

    set = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_set_t));
    if (set == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_webtorch_set_name(cf, set, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (plcf->sets == NGX_CONF_UNSET_PTR) {
        plcf->sets = ngx_array_create(cf->pool, 2,
                                      sizeof(ngx_http_webtorch_set_t *));
        if (plcf->sets == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    p = plcf->sets->elts;

    for (i = 0; i < plcf->sets->nelts; i++) {
        if (p[i]->index == set->index) {
            return "is duplicate";
        }
    }

    set->scorer.allowed = NGX_HTTP_WEBTORCH_FEATURES;

    rv = ngx_http_webtorch_scorer(cf, &set->scorer, &value[2]);

    for (i = 3; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "lazy") == 0) {
            set->lazy = 1;
            continue;
        }

        rv = ngx_webtorch_handler_option(cf, set->scorer.handler,
                                              &value[i]);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    p = ngx_array_push(plcf->sets);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    *p = set;

    pmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_webtorch_phases_module);
    pmcf->set = 1;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_webtorch_set_name(ngx_conf_t *cf, ngx_http_webtorch_set_t *set,
    ngx_str_t *name)
{
    ngx_http_variable_t  *v;

    if (name->len < 2 || name->data[0] != '$') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid variable name \"%V\"", name);
        return NGX_ERROR;
    }

    set->name.data = name->data + 1;
    set->name.len = name->len - 1;

    v = ngx_http_add_variable(cf, &set->name, NGX_HTTP_VAR_CHANGEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    set->index = ngx_http_get_variable_index(cf, &set->name);
    if (set->index == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (v->get_handler == NULL) {
        v->get_handler = ngx_http_webtorch_set_variable;
        v->data = (uintptr_t) set->index;
    }

    if (v->get_handler != ngx_http_webtorch_set_variable) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the variable \"%V\" is set by something else",
                           name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static char *
ngx_http_webtorch_log(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_phases_loc_conf_t *plcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_http_webtorch_feature_handler_t  *log;

    if (plcf->log != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        plcf->log = NULL;
        return NGX_CONF_OK;
    }

    log = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_feature_handler_t));
    if (log == NULL) {
        return NGX_CONF_ERROR;
    }

    log->allowed = NGX_HTTP_WEBTORCH_ALL_FEATURES;

    rv = ngx_http_webtorch_scorer(cf, log, &value[1]);

    if (rv == NGX_CONF_OK) {
        log->handler->max_delay = NGX_HTTP_WEBTORCH_LOG_DELAY;
        log->handler->timeout = 60000;
        log->any_output = 1;
    }

    for (i = 2; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {
        rv = ngx_http_webtorch_body_option(cf, log, &value[i]);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    plcf->log = log;

    return NGX_CONF_OK;
}


static char *
ngx_http_webtorch_body_option(ngx_conf_t *cf,
    ngx_http_webtorch_feature_handler_t *scorer, ngx_str_t *option)
{
    ssize_t    size;
    ngx_str_t  s;

    if (ngx_strncmp(option->data, "body=", 5) != 0) {
        return ngx_webtorch_handler_option(cf, scorer->handler, option);
    }

    s.data = option->data + 5;
    s.len = option->len - 5;

    size = ngx_parse_size(&s);

    if (size == NGX_ERROR || size > NGX_WEBTORCH_TEXT_SIZE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\", "
                           "it is at most %d bytes", option,
                           NGX_WEBTORCH_TEXT_SIZE);
        return NGX_CONF_ERROR;
    }

    scorer->body = (size_t) size;

    return NGX_CONF_OK;
}


char *
ngx_http_webtorch_scorer(ngx_conf_t *cf, ngx_http_webtorch_feature_handler_t *scorer,
    ngx_str_t *name)
{
    ngx_webtorch_handler_t                *handler;
    ngx_http_webtorch_phases_main_conf_t  *pmcf;

    if (ngx_webtorch_handler_name(name) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid handler \"%V\", it must be "
                           "\"module:function\"", name);
        return NGX_CONF_ERROR;
    }

    handler = ngx_webtorch_handler_add(cf, name);
    if (handler == NULL) {
        return NGX_CONF_ERROR;
    }

    handler->timeout = NGX_HTTP_WEBTORCH_TIMEOUT;
    handler->gathers = 1;
    handler->check = ngx_http_webtorch_scorer_check;
    handler->data = scorer;

    scorer->handler = handler;

    pmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_webtorch_phases_module);
    pmcf->used = 1;

    return NGX_CONF_OK;
}


/* whether the function takes features, and gives a number for each row */

static ngx_int_t
ngx_http_webtorch_scorer_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler)
{
    int                          feature;
    char                         error[NGX_WEBTORCH_ERROR_LEN];
    uint32_t                     i;
    const char                  *why;
    webtorch_schema_t           *schema;
    ngx_http_webtorch_feature_handler_t  *scorer;

    why = NULL;
    scorer = handler->data;
    schema = &handler->schema;

    if (schema->kind == WEBTORCH_HANDLER) {
        why = "is a function of requests, one of tensors is needed";

    } else if (!schema->batched) {
        why = "takes one row, an axis \"batch\" is needed";

    } else if (schema->naxes > 1 || schema->naxes != schema->nbound) {
        why = "has more variable axes than that of tokens, sizes are needed";

    } else if (!scorer->any_output
               && (schema->noutputs == 0
                   || ngx_webtorch_is_string(schema->outputs[0].dtype)))
    {
        why = "does not return a number for each row first";
    }

    if (why) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\" %s in %V:%ui",
                      &handler->name, why, &handler->file, handler->line);
        return NGX_ERROR;
    }

    for (i = 0; i < schema->ninputs; i++) {

        feature = ngx_webtorch_feature_find(&schema->inputs[i],
                                            scorer->allowed, error,
                                            sizeof(error));
        if (feature < 0) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "webtorch handler \"%V\": %s in %V:%ui",
                          &handler->name, error, &handler->file,
                          handler->line);
            return NGX_ERROR;
        }

        scorer->inputs[i] = (ngx_webtorch_feature_e) feature;
        scorer->used |= 1U << feature;
    }

    return NGX_OK;
}
