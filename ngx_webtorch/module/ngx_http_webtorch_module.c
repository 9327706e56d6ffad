
/*
 * The HTTP module: all directives but those of phases and of upstreams.  What
 * sets them is in the files of their subjects.
 */

#include "ngx_http_webtorch.h"
#include "ngx_http_webtorch_abort.h"
#include "ngx_http_webtorch_checkpoint_conf.h"
#include "ngx_http_webtorch_cluster_conf.h"
#include "ngx_http_webtorch_cors.h"
#include "ngx_http_webtorch_error.h"
#include "ngx_http_webtorch_health.h"
#include "ngx_http_webtorch_load_report.h"
#include "ngx_http_webtorch_loc_conf.h"
#include "ngx_http_webtorch_main_conf.h"
#include "ngx_http_webtorch_openapi.h"
#include "ngx_http_webtorch_split.h"
#include "ngx_http_webtorch_status.h"
#include "ngx_http_webtorch_variables.h"


static ngx_int_t ngx_http_webtorch_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_webtorch_init(ngx_conf_t *cf);
static void *ngx_http_webtorch_create_main_conf(ngx_conf_t *cf);


static ngx_conf_num_bounds_t  ngx_http_webtorch_intraop_threads_bounds = {
    ngx_conf_check_num_bounds, 1, 1024
};


static ngx_conf_post_t  ngx_http_webtorch_python_post = {
    ngx_http_webtorch_conf_full_name
};


static ngx_conf_enum_t  ngx_http_webtorch_client_abort[] = {
    { ngx_string("off"), NGX_HTTP_WEBTORCH_ABORT_OFF },
    { ngx_string("on"), NGX_HTTP_WEBTORCH_ABORT_ON },
    { ngx_string("half_closed"), NGX_HTTP_WEBTORCH_ABORT_HALF_CLOSED },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_http_webtorch_commands[] = {

    { ngx_string("webtorch_python"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, python),
      &ngx_http_webtorch_python_post },

    { ngx_string("webtorch_path"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_conf_path,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_preload"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_conf_preload,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_intraop_threads"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, threads),
      &ngx_http_webtorch_intraop_threads_bounds },

    { ngx_string("webtorch_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_webtorch_conf_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_checkpoint"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_conf_checkpoint,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_cluster"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_webtorch_conf_cluster,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_device"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_webtorch_conf_device,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_split"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_webtorch_conf_split,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_worker_memory"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, worker_memory),
      NULL },

    { ngx_string("webtorch_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_webtorch_conf_status,
      0,
      0,
      NULL },

    { ngx_string("webtorch_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_webtorch_conf_health,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_metrics"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, metrics),
      NULL },

    { ngx_string("webtorch_reload"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_webtorch_conf_t, reload),
      NULL },

    { ngx_string("webtorch_handler"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_conf_handler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_torch_load"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_webtorch_loc_conf_t, torch_load),
      NULL },

    { ngx_string("webtorch_intercept_errors"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_webtorch_loc_conf_t, intercept_errors),
      NULL },

    { ngx_string("webtorch_ignore_client_abort"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_webtorch_loc_conf_t, client_abort),
      &ngx_http_webtorch_client_abort },

    { ngx_string("webtorch_cors"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_webtorch_conf_cors,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_slow"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_TAKE1,
      ngx_http_webtorch_conf_slow,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_load_report"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF
                        |NGX_CONF_FLAG,
      ngx_http_webtorch_conf_load_report,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_webtorch_loc_conf_t, load_report),
      NULL },

    { ngx_string("webtorch_openapi"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_webtorch_conf_openapi,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_control"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_NOARGS,
      ngx_http_webtorch_conf_control,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("webtorch_inference_protocol"),
      NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_NOARGS,
      ngx_http_webtorch_conf_protocol,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_webtorch_module_ctx = {
    ngx_http_webtorch_preconfiguration,    /* preconfiguration */
    ngx_http_webtorch_init,                /* postconfiguration */

    ngx_http_webtorch_create_main_conf,    /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_webtorch_create_loc_conf,     /* create location configuration */
    ngx_http_webtorch_merge_loc_conf       /* merge location configuration */
};


ngx_module_t  ngx_http_webtorch_module = {
    NGX_MODULE_V1,
    &ngx_http_webtorch_module_ctx,         /* module context */
    ngx_http_webtorch_commands,            /* module directives */
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


static ngx_int_t
ngx_http_webtorch_preconfiguration(ngx_conf_t *cf)
{
    if (ngx_http_webtorch_variables_add(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_webtorch_openapi_add_variable(cf);
}


static ngx_int_t
ngx_http_webtorch_init(ngx_conf_t *cf)
{
    if (ngx_http_webtorch_error_init(cf) != NGX_OK
        || ngx_http_webtorch_variables_init(cf) != NGX_OK
        || ngx_http_webtorch_split_init(cf) != NGX_OK
        || ngx_http_webtorch_load_report_init(cf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_webtorch_cors_init(cf);
}


/* the core module keeps the settings, for protocols other than HTTP, too */

static void *
ngx_http_webtorch_create_main_conf(ngx_conf_t *cf)
{
    return ngx_get_conf(cf->cycle->conf_ctx, ngx_webtorch_module);
}
