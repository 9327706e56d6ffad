
/*
 * webtorch_log: rows of finished requests.  No request waits for what a model
 * makes of them; rows beyond the queue are dropped and counted.
 */

#include "ngx_http_webtorch_log.h"
#include "ngx_http_webtorch_clients.h"
#include "ngx_http_webtorch_feature_handler.h"
#include "ngx_http_webtorch_outcome.h"
#include "ngx_http_webtorch_phases_ctx.h"
#include "ngx_http_webtorch_score.h"


/* how long rows wait for a larger batch, in milliseconds */
#define NGX_HTTP_WEBTORCH_LOG_DELAY       100

/* rows that may wait, so that they leave room for requests that wait */
#define NGX_HTTP_WEBTORCH_LOG_QUEUE       4096
#define NGX_HTTP_WEBTORCH_LOG_QUEUE_SIZE  (64 * 1024 * 1024)


char *
ngx_http_webtorch_log(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_webtorch_phases_loc_conf_t *plcf = conf;

    char                                 *rv;
    ngx_str_t                            *value;
    ngx_uint_t                            i;
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

    rv = ngx_http_webtorch_feature_handler_init(cf, log, &value[1]);

    if (rv == NGX_CONF_OK) {
        log->handler->max_delay = NGX_HTTP_WEBTORCH_LOG_DELAY;
        log->handler->timeout = 60000;
        log->handler->queue = NGX_HTTP_WEBTORCH_LOG_QUEUE;
        log->handler->queue_size = NGX_HTTP_WEBTORCH_LOG_QUEUE_SIZE;
        log->handler->deferred = 1;
        log->any_output = 1;
        log->body_optional = 1;
        log->partial = 1;
    }

    for (i = 2; rv == NGX_CONF_OK && i < cf->args->nelts; i++) {
        rv = ngx_http_webtorch_feature_handler_option(cf, log, &value[i]);
    }

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    plcf->log = log;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_webtorch_log_handler(ngx_http_request_t *r)
{
    ngx_int_t                             rc;
    ngx_webtorch_outcome_t                outcome;
    ngx_http_webtorch_phases_ctx_t       *ctx;
    ngx_http_webtorch_feature_handler_t  *log;
    ngx_http_webtorch_phases_loc_conf_t  *plcf;

    if (r != r->main) {
        return NGX_OK;
    }

    plcf = ngx_http_get_module_loc_conf(r, ngx_http_webtorch_phases_module);
    log = plcf->log;

    /* most requests need no context, it would cost more than their rows */

    ctx = ngx_http_webtorch_phases_ctx(r,
                            log && (log->used & NGX_HTTP_WEBTORCH_CLIENTS));

    if (log) {
        rc = (ctx == NULL && (log->used & NGX_HTTP_WEBTORCH_CLIENTS))
             ? NGX_ERROR : ngx_http_webtorch_score(r, log, NULL);

        if (rc != NGX_OK) {
            ngx_http_webtorch_score_log_error(r, log, NGX_LOG_WARN,
                                        ngx_http_webtorch_score_strerror(rc));
        }
    }

    if (ctx && ctx->counted) {
        ngx_http_webtorch_outcome(r, &outcome);
        ngx_http_webtorch_clients_finish(r, ctx, &outcome);
    }

    return NGX_OK;
}
