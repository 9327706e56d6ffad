
/*
 * The owner is the first worker.  The master starts another one under its
 * number when it has exited, so no worker has to become the owner while it
 * serves, and none has a context on the device but that.
 */

#include "ngx_webtorch_owner.h"
#include "ngx_webtorch_handoff.h"
#include "ngx_webtorch_metrics.h"

#include <ngx_event.h>


static ngx_int_t ngx_webtorch_owner_sizes(ngx_array_t *handlers,
    ngx_array_t *sizes);
static void ngx_webtorch_owner_cleanup(void *data);


ngx_int_t
ngx_webtorch_owner_init(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_array_t          sizes;
    ngx_core_conf_t     *ccf;
    ngx_pool_cleanup_t  *cln;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    if (ngx_array_init(&sizes, cycle->pool, 4, sizeof(size_t)) != NGX_OK
        || ngx_webtorch_owner_sizes(&conf->handlers, &sizes) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (sizes.nelts == 0 || !ccf->master || ccf->worker_processes < 2) {
        return NGX_OK;
    }

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    conf->handoff = ngx_webtorch_handoff_create(
                        (ngx_uint_t) ccf->worker_processes, sizes.elts,
                        sizes.nelts);

    if (conf->handoff == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "no memory for batches of %i workers, which "
                      "\"webtorch_device\" lets an owner run; \"owner=\" "
                      "sets how large they are",
                      ccf->worker_processes);
        return NGX_ERROR;
    }

    cln->handler = ngx_webtorch_owner_cleanup;
    cln->data = conf->handoff;

    return NGX_OK;
}


/* a slot for each thread of a handler, which has one batch at a time */

static ngx_int_t
ngx_webtorch_owner_sizes(ngx_array_t *handlers, ngx_array_t *sizes)
{
    size_t                   *size;
    ngx_uint_t                i, n;
    ngx_webtorch_handler_t  **handler;

    handler = handlers->elts;

    for (i = 0; i < handlers->nelts; i++) {

        if (handler[i]->schema.kind != WEBTORCH_INFER
            && handler[i]->schema.kind != WEBTORCH_TRAIN)
        {
            handler[i]->owner = 0;
        }

        if (handler[i]->owner == 0) {
            continue;
        }

        handler[i]->offload_slot = sizes->nelts;

        for (n = 0; n < handler[i]->threads; n++) {
            size = ngx_array_push(sizes);
            if (size == NULL) {
                return NGX_ERROR;
            }

            *size = handler[i]->owner;
        }
    }

    return NGX_OK;
}


/* a worker holds a mutex in it until the kernel passes that on */

static void
ngx_webtorch_owner_cleanup(void *data)
{
    if (ngx_process != NGX_PROCESS_WORKER) {
        ngx_webtorch_handoff_free(data);
    }
}


void
ngx_webtorch_owner_init_process(ngx_webtorch_conf_t *conf, ngx_log_t *log)
{
    ngx_uint_t                i;
    ngx_webtorch_handler_t  **handler;

    if (conf->handoff == NULL) {
        return;
    }

    if (ngx_worker == 0) {
        ngx_webtorch_handoff_own(conf->handoff);

        if (ngx_webtorch_metrics_own) {
            ngx_webtorch_metrics_set(&ngx_webtorch_metrics_own->worker.owner,
                                     1);
        }

        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "the worker runs the functions that others offload");
        return;
    }

    ngx_webtorch_handoff_join(conf->handoff, ngx_worker);

    handler = conf->handlers.elts;

    for (i = 0; i < conf->handlers.nelts; i++) {

        if (handler[i]->owner) {
            handler[i]->offloaded = 1;
            handler[i]->mode = NGX_WEBTORCH_MODE_THREAD;
        }
    }
}
