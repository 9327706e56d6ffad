
#include "ngx_http_webtorch_stream_conf.h"
#include "ngx_http_webtorch_generate.h"
#include "ngx_http_webtorch_generator.h"
#include "ngx_http_webtorch_stream_content.h"


static ngx_int_t ngx_http_webtorch_stream_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);
static void ngx_http_webtorch_stream_set_locations(
    ngx_http_webtorch_stream_conf_t *conf, ngx_http_handler_pt content);
static void ngx_http_webtorch_stream_set_wire(ngx_webtorch_handler_t *handler);


ngx_int_t
ngx_http_webtorch_stream_add_location(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler, ngx_http_core_loc_conf_t *clcf)
{
    ngx_http_webtorch_stream_loc_t   *loc;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;

    if (conf == NULL) {
        conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_stream_conf_t));
        if (conf == NULL) {
            return NGX_ERROR;
        }

        conf->locations = ngx_array_create(cf->pool, 1,
                                      sizeof(ngx_http_webtorch_stream_loc_t));
        if (conf->locations == NULL) {
            return NGX_ERROR;
        }

        handler->data = conf;
        handler->check = ngx_http_webtorch_stream_check;
    }

    loc = ngx_array_push(conf->locations);
    if (loc == NULL) {
        return NGX_ERROR;
    }

    loc->clcf = clcf;
    loc->max_chunk = 0;

    return NGX_OK;
}


/* the inference protocol serves functions that have no check any more */

static ngx_int_t
ngx_http_webtorch_stream_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler)
{
    if (handler->schema.stream & WEBTORCH_STREAM_GENERATE) {
        ngx_http_webtorch_stream_set_locations(handler->data,
                                           ngx_http_webtorch_generate_handler);
        ngx_http_webtorch_stream_set_wire(handler);

        return NGX_OK;
    }

    if (handler->schema.kind == WEBTORCH_STREAM) {
        ngx_http_webtorch_stream_set_locations(handler->data,
                                             ngx_http_webtorch_stream_handler);
        ngx_http_webtorch_stream_set_wire(handler);

        return NGX_OK;
    }

    if (handler->schema.stream & WEBTORCH_STREAM_ITEMS) {
        ngx_http_webtorch_stream_set_locations(handler->data,
                                          ngx_http_webtorch_generator_handler);
    }

    handler->check = NULL;

    return NGX_OK;
}


static void
ngx_http_webtorch_stream_set_locations(ngx_http_webtorch_stream_conf_t *conf,
    ngx_http_handler_pt content)
{
    ngx_uint_t                       i;
    ngx_http_webtorch_stream_loc_t  *loc;

    loc = conf->locations->elts;

    for (i = 0; i < conf->locations->nelts; i++) {
        if (loc[i].clcf->handler) {
            loc[i].clcf->handler = content;
        }
    }
}


/*
 * nginx would compare the sum of a stream with client_max_body_size, which is
 * the limit of a chunk here.
 */

static void
ngx_http_webtorch_stream_set_wire(ngx_webtorch_handler_t *handler)
{
    ngx_uint_t                        i;
    webtorch_schema_t                *wire;
    ngx_http_webtorch_stream_loc_t   *loc;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;

    wire = &conf->wire;
    *wire = handler->schema;

    /* the rows of states remain among the buffers, in front of the masks */

    wire->ninputs--;
    wire->nmasks++;

    if (wire->stream & WEBTORCH_STREAM_DONE) {
        wire->noutputs--;
    }

    if (wire->stream & WEBTORCH_STREAM_GENERATE) {
        return;
    }

    loc = conf->locations->elts;

    for (i = 0; i < conf->locations->nelts; i++) {
        loc[i].max_chunk = (size_t) loc[i].clcf->client_max_body_size;
        loc[i].clcf->client_max_body_size = 0;
    }
}
