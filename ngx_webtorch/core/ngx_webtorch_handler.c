
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
    handler->max_streams = 4096;
    handler->max_steps = 4096;
    handler->idle = 300000;
    handler->ping = 20000;
    handler->resume_buffer = 16384;
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


char *
ngx_webtorch_handler_option(ngx_conf_t *cf, ngx_webtorch_handler_t *handler,
    ngx_str_t *option)
{
    ssize_t     size;
    ngx_int_t   n;
    ngx_str_t   s;
    ngx_uint_t  i;

    static ngx_conf_enum_t  modes[] = {
        { ngx_string("auto"), NGX_WEBTORCH_MODE_AUTO },
        { ngx_string("inline"), NGX_WEBTORCH_MODE_INLINE },
        { ngx_string("thread"), NGX_WEBTORCH_MODE_THREAD },
        { ngx_null_string, 0 }
    };

    if (ngx_strncmp(option->data, "mode=", 5) == 0) {

        s.data = option->data + 5;
        s.len = option->len - 5;

        for (i = 0; modes[i].name.len; i++) {
            if (modes[i].name.len == s.len
                && ngx_strncmp(modes[i].name.data, s.data, s.len) == 0)
            {
                handler->mode = modes[i].value;
                return NGX_CONF_OK;
            }
        }

    } else if (ngx_strncmp(option->data, "threads=", 8) == 0) {

        n = ngx_atoi(option->data + 8, option->len - 8);

        if (n >= 1 && n <= NGX_WEBTORCH_MAX_THREADS) {
            handler->threads = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "max_batch=", 10) == 0) {

        n = ngx_atoi(option->data + 10, option->len - 10);

        if (n >= 1 && n <= 65536) {
            handler->max_batch = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "queue=", 6) == 0) {

        n = ngx_atoi(option->data + 6, option->len - 6);

        if (n >= 1 && n <= 1000000) {
            handler->queue = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "queue_size=", 11) == 0) {

        s.data = option->data + 11;
        s.len = option->len - 11;
        size = ngx_parse_size(&s);

        if (size >= 1) {
            handler->queue_size = (size_t) size;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "max_delay=", 10) == 0) {

        s.data = option->data + 10;
        s.len = option->len - 10;
        n = ngx_parse_time(&s, 0);

        if (n != NGX_ERROR && n <= 60000) {
            handler->max_delay = (ngx_msec_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "timeout=", 8) == 0) {

        s.data = option->data + 8;
        s.len = option->len - 8;
        n = ngx_parse_time(&s, 0);

        if (n >= 1) {
            handler->timeout = (ngx_msec_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "max_streams=", 12) == 0) {

        n = ngx_atoi(option->data + 12, option->len - 12);

        if (n >= 1 && n <= 1000000) {
            handler->max_streams = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "max_steps=", 10) == 0) {

        n = ngx_atoi(option->data + 10, option->len - 10);

        if (n >= 1 && n <= 1000000) {
            handler->max_steps = (ngx_uint_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "origins=", 8) == 0) {

        if (option->len > 8) {
            handler->origins.data = option->data + 8;
            handler->origins.len = option->len - 8;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "protocols=", 10) == 0) {

        if (option->len > 10) {
            handler->protocols.data = option->data + 10;
            handler->protocols.len = option->len - 10;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "deflate=", 8) == 0) {

        s.data = option->data + 8;
        s.len = option->len - 8;

        if (s.len == 2 && ngx_strncmp(s.data, "on", 2) == 0) {
            handler->deflate = 1;
            return NGX_CONF_OK;
        }

        if (s.len == 3 && ngx_strncmp(s.data, "off", 3) == 0) {
            handler->deflate = 0;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "idle=", 5) == 0) {

        s.data = option->data + 5;
        s.len = option->len - 5;
        n = ngx_parse_time(&s, 0);

        if (n >= 1) {
            handler->idle = (ngx_msec_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "ping=", 5) == 0) {

        s.data = option->data + 5;
        s.len = option->len - 5;
        n = ngx_parse_time(&s, 0);

        if (n >= 1) {
            handler->ping = (ngx_msec_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "resume=", 7) == 0) {

        s.data = option->data + 7;
        s.len = option->len - 7;
        n = ngx_parse_time(&s, 0);

        if (n >= 1) {
            handler->resume = (ngx_msec_t) n;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "resume_buffer=", 14) == 0) {

        s.data = option->data + 14;
        s.len = option->len - 14;
        size = ngx_parse_size(&s);

        if (size >= 1024 && size <= 16 * 1024 * 1024) {
            handler->resume_buffer = (size_t) size;
            return NGX_CONF_OK;
        }

    } else if (ngx_strncmp(option->data, "stuck=", 6) == 0) {

        s.data = option->data + 6;
        s.len = option->len - 6;
        n = ngx_parse_time(&s, 0);

        if (n >= 1) {
            handler->stuck = (ngx_msec_t) n;
            return NGX_CONF_OK;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       option);

    return NGX_CONF_ERROR;
}
