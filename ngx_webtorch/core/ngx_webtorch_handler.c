
#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"


static ngx_webtorch_handler_t *ngx_webtorch_handler_add_part(
    ngx_cycle_t *cycle, ngx_array_t *handlers, ngx_webtorch_handler_t *handler,
    const char *suffix);
static void ngx_webtorch_handler_set_life(ngx_webtorch_handler_t *life,
    webtorch_schema_t *of);


ngx_webtorch_handler_t *
ngx_webtorch_handler_add(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_webtorch_conf_t     *wcf;
    ngx_webtorch_handler_t  *handler, **p;

    handler = ngx_pcalloc(cf->pool, sizeof(ngx_webtorch_handler_t));
    if (handler == NULL) {
        return NULL;
    }

    ngx_webtorch_handler_init(handler);

    handler->name = *name;
    handler->file = cf->conf_file->file.name;
    handler->line = cf->conf_file->line;

    wcf = ngx_webtorch_get_conf(cf->cycle);

    p = ngx_array_push(&wcf->handlers);
    if (p == NULL) {
        return NULL;
    }

    *p = handler;
    handler->index = wcf->handlers.nelts - 1;

    return handler;
}


void
ngx_webtorch_handler_init(ngx_webtorch_handler_t *handler)
{
    handler->mode = NGX_WEBTORCH_MODE_AUTO;
    handler->max_batch = 256;
    handler->max_delay = 0;
    handler->queue = 65536;
    handler->queue_size = 256 * 1024 * 1024;
    handler->timeout = 60000;
}


ngx_int_t
ngx_webtorch_handlers_add_lives(ngx_cycle_t *cycle, ngx_array_t *handlers)
{
    ngx_uint_t               i, n;
    ngx_webtorch_handler_t  *handler, **elts;

    n = handlers->nelts;

    for (i = 0; i < n; i++) {
        elts = handlers->elts;
        handler = elts[i];

        if (handler->schema.kind != WEBTORCH_STREAM) {
            continue;
        }

        if (handler->schema.stream & (WEBTORCH_STREAM_OPEN
                                      |WEBTORCH_STREAM_CLOSE))
        {
            handler->life = ngx_webtorch_handler_add_part(cycle, handlers,
                                                          handler, "/life");
            if (handler->life == NULL) {
                return NGX_ERROR;
            }

            ngx_webtorch_handler_set_life(handler->life, &handler->schema);
        }

        if (handler->schema.stream & WEBTORCH_STREAM_GENERATE) {
            handler->opener = ngx_webtorch_handler_add_part(cycle, handlers,
                                                            handler, "/open");
            if (handler->opener == NULL) {
                return NGX_ERROR;
            }

            handler->opener->loaded = 1;
        }
    }

    return NGX_OK;
}


/* a handler of calls beside those of the function itself; NULL: no memory */

static ngx_webtorch_handler_t *
ngx_webtorch_handler_add_part(ngx_cycle_t *cycle, ngx_array_t *handlers,
    ngx_webtorch_handler_t *handler, const char *suffix)
{
    u_char                  *p;
    ngx_webtorch_handler_t  *part, **elts;

    part = ngx_palloc(cycle->pool, sizeof(ngx_webtorch_handler_t));
    if (part == NULL) {
        return NULL;
    }

    *part = *handler;

    p = ngx_pnalloc(cycle->pool, handler->name.len + ngx_strlen(suffix) + 1);
    if (p == NULL) {
        return NULL;
    }

    part->name.data = p;
    part->name.len = (size_t) (ngx_sprintf(p, "%V%s%Z", &handler->name, suffix)
                               - p - 1);
    part->check = NULL;
    part->start = NULL;
    part->index = handlers->nelts;

    elts = ngx_array_push(handlers);
    if (elts == NULL) {
        return NULL;
    }

    *elts = part;

    return part;
}


/* the schema is the one that Python gives it */

static void
ngx_webtorch_handler_set_life(ngx_webtorch_handler_t *life,
    webtorch_schema_t *of)
{
    char               *name;
    uint32_t            i;
    webtorch_schema_t  *schema;

    life->threads = life->life_threads;
    life->max_batch = 1;

    if (of->waits && life->mode == NGX_WEBTORCH_MODE_AUTO) {
        life->mode = NGX_WEBTORCH_MODE_THREAD;
    }

    schema = &life->schema;

    ngx_memzero(schema, sizeof(webtorch_schema_t));

    schema->kind = WEBTORCH_HANDLER;
    schema->stream = of->stream & WEBTORCH_STREAM_RESUME;
    schema->ncaptures = of->ncaptures;
    schema->nvars = schema->ncaptures;

    for (i = 0; i < schema->ncaptures; i++) {
        name = of->captures[i];

        ngx_memcpy(schema->captures[i], name, WEBTORCH_NAME_LEN);
        ngx_strlow((u_char *) schema->vars[i], (u_char *) name,
                   ngx_strlen(name));
    }
}


/* steps of training are made in the order of the batches */

ngx_uint_t
ngx_webtorch_handler_threads(ngx_webtorch_handler_t *handler)
{
    if (handler->schema.kind == WEBTORCH_HANDLER) {
        return NGX_WEBTORCH_THREADS;
    }

    return (ngx_webtorch_handler_on_device(handler)
            && handler->schema.kind == WEBTORCH_INFER)
               ? NGX_WEBTORCH_DEVICE_THREADS : 1;
}


void
ngx_webtorch_handler_adapt(ngx_webtorch_handler_t *handler)
{
    /* the event loop must not wait for another worker or for a device; of a
       stream only the functions that open and close it wait for workers */

    if (((handler->schema.waits && handler->schema.kind != WEBTORCH_STREAM)
         || ngx_webtorch_handler_on_device(handler))
        && handler->mode == NGX_WEBTORCH_MODE_AUTO)
    {
        handler->mode = NGX_WEBTORCH_MODE_THREAD;
    }

    if (!handler->schema.batched) {
        /* a call is one request, which is answered when the call returns */
        handler->max_batch = 1;
    }
}


ngx_int_t
ngx_webtorch_handler_name(ngx_str_t *name)
{
    u_char  *p, *last;

    last = name->data + name->len;
    p = ngx_strlchr(name->data, last, ':');

    if (p == NULL || p == name->data || p + 1 == last
        || ngx_strlchr(p + 1, last, ':'))
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}
