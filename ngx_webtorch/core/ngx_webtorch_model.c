
#include "ngx_webtorch_model.h"


static ngx_uint_t ngx_webtorch_model_is(ngx_webtorch_handler_t *handler);
static ngx_webtorch_model_t *ngx_webtorch_model_full(ngx_webtorch_conf_t *conf,
    ngx_str_t *name);
static ngx_uint_t ngx_webtorch_model_unique(ngx_webtorch_conf_t *conf,
    ngx_str_t *function);
static ngx_int_t ngx_webtorch_model_json(ngx_cycle_t *cycle,
    ngx_webtorch_model_t *model);
static ngx_str_t ngx_webtorch_model_function(ngx_webtorch_model_t *model);
static ngx_uint_t ngx_webtorch_model_same(ngx_str_t *name, ngx_str_t *other);


ngx_int_t
ngx_webtorch_models_init(ngx_cycle_t *cycle, ngx_webtorch_conf_t *conf)
{
    ngx_uint_t                i;
    ngx_webtorch_model_t     *model;
    ngx_webtorch_handler_t  **handler;

    handler = conf->handlers.elts;

    for (i = 0; i < conf->handlers.nelts; i++) {

        if (!ngx_webtorch_model_is(handler[i])
            || ngx_webtorch_model_full(conf, &handler[i]->name))
        {
            continue;
        }

        model = ngx_array_push(&conf->models);
        if (model == NULL) {
            return NGX_ERROR;
        }

        model->handler = handler[i];
    }

    model = conf->models.elts;

    for (i = 0; i < conf->models.nelts; i++) {
        model[i].name = ngx_webtorch_model_function(&model[i]);

        if (!ngx_webtorch_model_unique(conf, &model[i].name)) {
            model[i].name = model[i].handler->name;
        }

        if (ngx_webtorch_model_json(cycle, &model[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * A function that a phase calls gets its rows from requests.  A generate
 * function has an opener.
 */

static ngx_uint_t
ngx_webtorch_model_is(ngx_webtorch_handler_t *handler)
{
    return handler->opener
           || (handler->schema.kind < WEBTORCH_HANDLER
               && handler->check == NULL);
}


ngx_webtorch_model_t *
ngx_webtorch_model_find(ngx_webtorch_conf_t *conf, ngx_str_t *name)
{
    ngx_uint_t             i;
    ngx_webtorch_model_t  *model;

    model = conf->models.elts;

    for (i = 0; i < conf->models.nelts; i++) {
        if (ngx_webtorch_model_same(&model[i].name, name)) {
            return &model[i];
        }
    }

    return ngx_webtorch_model_full(conf, name);
}


ngx_uint_t
ngx_webtorch_model_loaded(ngx_webtorch_model_t *model)
{
    ngx_webtorch_handler_t  *opener;

    opener = model->handler->opener;

    return model->handler->runner && (opener == NULL || opener->runner);
}


static ngx_webtorch_model_t *
ngx_webtorch_model_full(ngx_webtorch_conf_t *conf, ngx_str_t *name)
{
    ngx_uint_t             i;
    ngx_webtorch_model_t  *model;

    model = conf->models.elts;

    for (i = 0; i < conf->models.nelts; i++) {
        if (ngx_webtorch_model_same(&model[i].handler->name, name)) {
            return &model[i];
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_webtorch_model_unique(ngx_webtorch_conf_t *conf, ngx_str_t *function)
{
    ngx_str_t              other;
    ngx_uint_t             i, n;
    ngx_webtorch_model_t  *model;

    n = 0;
    model = conf->models.elts;

    for (i = 0; i < conf->models.nelts; i++) {
        other = ngx_webtorch_model_function(&model[i]);
        n += ngx_webtorch_model_same(&other, function);
    }

    return n == 1;
}


static ngx_int_t
ngx_webtorch_model_json(ngx_cycle_t *cycle, ngx_webtorch_model_t *model)
{
    size_t  escape;

    escape = ngx_escape_json(NULL, model->name.data, model->name.len);

    model->json.len = model->name.len + escape;
    model->json.data = ngx_pnalloc(cycle->pool, model->json.len);

    if (model->json.data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_escape_json(model->json.data, model->name.data,
                           model->name.len);

    return NGX_OK;
}


/* a handler's name has one colon */

static ngx_str_t
ngx_webtorch_model_function(ngx_webtorch_model_t *model)
{
    u_char     *last;
    ngx_str_t   name;

    name = model->handler->name;
    last = name.data + name.len;

    name.data = ngx_strlchr(name.data, last, ':') + 1;
    name.len = last - name.data;

    return name;
}


static ngx_uint_t
ngx_webtorch_model_same(ngx_str_t *name, ngx_str_t *other)
{
    return name->len == other->len
           && ngx_memcmp(name->data, other->data, name->len) == 0;
}
