
/*
 * The module of models in the phases of requests: directives, variables and
 * handlers of phases.
 */

#include "ngx_http_webtorch_phases.h"
#include "ngx_http_webtorch_access.h"
#include "ngx_http_webtorch_clients.h"
#include "ngx_http_webtorch_log.h"
#include "ngx_http_webtorch_reason.h"
#include "ngx_http_webtorch_variable.h"


static ngx_int_t ngx_http_webtorch_phases_add_variables(ngx_conf_t *cf);
static ngx_int_t ngx_http_webtorch_phases_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_webtorch_phases_add(ngx_http_core_main_conf_t *cmcf,
    ngx_http_phases phase, ngx_http_handler_pt handler);
static void *ngx_http_webtorch_phases_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_webtorch_phases_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_webtorch_phases_merge_loc_conf(ngx_conf_t *cf,
    void *parent, void *child);


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
    ngx_http_webtorch_phases_add_variables,    /* preconfiguration */
    ngx_http_webtorch_phases_init,             /* postconfiguration */

    ngx_http_webtorch_phases_create_main_conf, /* create main configuration */
    NULL,                                      /* init main configuration */

    NULL,                                      /* create server configuration */
    NULL,                                      /* merge server configuration */

    ngx_http_webtorch_phases_create_loc_conf,  /* create location configuration */
    ngx_http_webtorch_phases_merge_loc_conf    /* merge location configuration */
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

    { ngx_string("webtorch_access_field"), NULL,
      ngx_http_webtorch_access_reason_variable,
      offsetof(ngx_http_webtorch_reason_t, field),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_access_kind"), NULL,
      ngx_http_webtorch_access_reason_variable,
      offsetof(ngx_http_webtorch_reason_t, kind),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


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


/* a configuration without these directives gets no phase handlers */

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
        && (ngx_http_webtorch_phases_add(cmcf, NGX_HTTP_ACCESS_PHASE,
                                         ngx_http_webtorch_access_handler)
            != NGX_OK
            || ngx_http_webtorch_phases_add(cmcf, NGX_HTTP_PRECONTENT_PHASE,
                                            ngx_http_webtorch_access_passed)
               != NGX_OK))
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
