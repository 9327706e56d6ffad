
#include "ngx_http_webtorch_feature_handler.h"
#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_text.h"


/* how long requests wait for a model by default, in milliseconds */
#define NGX_HTTP_WEBTORCH_TIMEOUT    1000


static ngx_int_t ngx_http_webtorch_feature_handler_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);
static ngx_int_t ngx_http_webtorch_feature_handler_refuse(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler, const char *why);


char *
ngx_http_webtorch_feature_handler_init(ngx_conf_t *cf,
    ngx_http_webtorch_feature_handler_t *fh, ngx_str_t *name)
{
    ngx_webtorch_handler_t                *handler;
    ngx_http_core_loc_conf_t              *clcf;
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
    handler->keep_open = 1;
    handler->check = ngx_http_webtorch_feature_handler_check;
    handler->data = fh;

    if (cf->cmd_type & (NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF)) {
        clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
        handler->location = clcf->name;
    }

    fh->handler = handler;

    pmcf = ngx_http_conf_get_module_main_conf(cf,
                                              ngx_http_webtorch_phases_module);
    pmcf->used = 1;

    return NGX_CONF_OK;
}


/* the function must take features and return a number for each row */

static ngx_int_t
ngx_http_webtorch_feature_handler_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler)
{
    int                                   feature;
    char                                  error[NGX_WEBTORCH_ERROR_LEN];
    uint32_t                              i;
    const char                           *why;
    webtorch_schema_t                    *schema;
    ngx_http_webtorch_feature_handler_t  *fh;

    why = NULL;
    fh = handler->data;
    schema = &handler->schema;

    if (schema->kind == WEBTORCH_HANDLER) {
        why = "is a function of requests, one of tensors is needed";

    } else if (schema->kind == WEBTORCH_STREAM) {
        why = "is a function of streams, one of tensors is needed";

    } else if (!schema->batched) {
        why = "takes one row, an axis \"batch\" is needed";

    } else if (schema->naxes > 1 || schema->naxes != schema->nbound) {
        why = "has more variable axes than that of tokens, sizes are needed";

    } else if (schema->nmasks) {
        why = "has masks of missing elements, of features none is missing";

    } else if (!fh->any_output
               && (schema->noutputs == 0
                   || ngx_webtorch_is_string(schema->outputs[0].dtype)))
    {
        why = "does not return a number for each row first";
    }

    if (why) {
        return ngx_http_webtorch_feature_handler_refuse(cycle, handler, why);
    }

    for (i = 0; i < schema->ninputs; i++) {

        feature = ngx_webtorch_feature_find(&schema->inputs[i],
                                            fh->allowed, error,
                                            sizeof(error));
        if (feature < 0) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "webtorch handler \"%V\": %s in %V:%ui",
                          &handler->name, error, &handler->file,
                          handler->line);
            return NGX_ERROR;
        }

        fh->inputs[i] = (ngx_webtorch_feature_e) feature;
        fh->used |= 1U << feature;
    }

    if (fh->used & NGX_HTTP_WEBTORCH_SCORED) {

        if (!schema->native) {
            why = "has the feature \"logits\" or \"prints\", and no \"native=\"";

        } else if (fh->used & (1U << NGX_WEBTORCH_FEATURE_NUMBERS
                               | 1U << NGX_WEBTORCH_FEATURE_WINDOWS))
        {
            why = "has features of a net and of numbers";
        }
    }

    if (why) {
        return ngx_http_webtorch_feature_handler_refuse(cycle, handler, why);
    }

    if (fh->target > 0 && !(fh->used & 1U << NGX_WEBTORCH_FEATURE_TARGET)) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": \"target=\" needs a function "
                      "with the feature \"target\" in %V:%ui",
                      &handler->name, &handler->file, handler->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_feature_handler_refuse(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler, const char *why)
{
    ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                  "webtorch handler \"%V\" %s in %V:%ui",
                  &handler->name, why, &handler->file, handler->line);

    return NGX_ERROR;
}


char *
ngx_http_webtorch_feature_handler_option(ngx_conf_t *cf,
    ngx_http_webtorch_feature_handler_t *fh, ngx_str_t *option)
{
    ssize_t    size;
    ngx_str_t  s;

    if (ngx_strncmp(option->data, "body=", 5) != 0) {
        return ngx_webtorch_handler_option(cf, fh->handler, option);
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

    fh->body = (size_t) size;

    return NGX_CONF_OK;
}
