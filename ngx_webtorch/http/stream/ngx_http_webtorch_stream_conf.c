
#include "ngx_http_webtorch_stream_conf.h"
#include "ngx_http_webtorch_stream_generate.h"
#include "ngx_http_webtorch_stream_generate_protocol.h"
#include "ngx_http_webtorch_stream_generator.h"
#include "ngx_http_webtorch_protocol.h"
#include "ngx_http_webtorch_stream_content.h"
#include "ngx_http_webtorch_stream_option.h"
#include "ngx_http_webtorch_stream_upkeep.h"

#include <ngx_md5.h>


static ngx_int_t ngx_http_webtorch_stream_check(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);
static void ngx_http_webtorch_stream_set_locations(
    ngx_http_webtorch_stream_conf_t *conf, ngx_http_handler_pt content);
static ngx_int_t ngx_http_webtorch_stream_set_wire(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler);
static ngx_int_t ngx_http_webtorch_stream_check_resume(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_stream_conf_t *conf);


ngx_int_t
ngx_http_webtorch_stream_create_conf(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler)
{
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_webtorch_stream_conf_t));
    if (conf == NULL) {
        return NGX_ERROR;
    }

    conf->locations = ngx_array_create(cf->pool, 1,
                                       sizeof(ngx_http_webtorch_stream_loc_t));
    if (conf->locations == NULL) {
        return NGX_ERROR;
    }

    ngx_http_webtorch_stream_options_init(conf);

    handler->data = conf;
    handler->check = ngx_http_webtorch_stream_check;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_stream_add_location(ngx_conf_t *cf,
    ngx_webtorch_handler_t *handler, ngx_http_core_loc_conf_t *clcf)
{
    ngx_http_webtorch_stream_loc_t   *loc;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;

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
    if (ngx_http_webtorch_stream_options_check(cycle, handler) != NGX_OK) {
        return NGX_ERROR;
    }

    if (handler->schema.stream & WEBTORCH_STREAM_GENERATE) {
        ngx_http_webtorch_stream_set_locations(handler->data,
                                    ngx_http_webtorch_stream_generate_handler);

        handler->describe = ngx_http_webtorch_stream_generate_describe;
        ngx_http_webtorch_protocol_generate =
                                    ngx_http_webtorch_stream_generate_protocol;

        return ngx_http_webtorch_stream_set_wire(cycle, handler);
    }

    if (handler->schema.kind == WEBTORCH_STREAM) {
        ngx_http_webtorch_stream_set_locations(handler->data,
                                             ngx_http_webtorch_stream_handler);

        return ngx_http_webtorch_stream_set_wire(cycle, handler);
    }

    if (handler->schema.stream & WEBTORCH_STREAM_ITEMS) {
        ngx_http_webtorch_stream_set_locations(handler->data,
                                   ngx_http_webtorch_stream_generator_handler);
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

static ngx_int_t
ngx_http_webtorch_stream_set_wire(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler)
{
    uint32_t                          n;
    ngx_uint_t                        i;
    webtorch_schema_t                *wire;
    ngx_http_webtorch_stream_loc_t   *loc;
    ngx_http_webtorch_stream_conf_t  *conf;

    conf = handler->data;

    wire = &conf->wire;
    *wire = handler->schema;

    if (handler->resume) {

        if (ngx_http_webtorch_stream_check_resume(cycle, handler, conf)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        handler->start = ngx_http_webtorch_stream_upkeep_start;
    }

    /* states or their rows remain among the buffers, in front of the masks */

    n = handler->resume ? wire->nstates : 1;

    wire->ninputs -= n;
    wire->nmasks += n;
    wire->noutputs -= wire->nstates;

    if (wire->stream & WEBTORCH_STREAM_DONE) {
        wire->noutputs--;
    }

    if (wire->stream & WEBTORCH_STREAM_GENERATE) {
        return NGX_OK;
    }

    loc = conf->locations->elts;

    for (i = 0; i < conf->locations->nelts; i++) {
        loc[i].max_chunk = (size_t) loc[i].clcf->client_max_body_size;
        loc[i].clcf->client_max_body_size = 0;
    }

    return NGX_OK;
}


/* streams of the same function with the same signature can be continued */

static ngx_int_t
ngx_http_webtorch_stream_check_resume(ngx_cycle_t *cycle,
    ngx_webtorch_handler_t *handler, ngx_http_webtorch_stream_conf_t *conf)
{
    size_t                size;
    ngx_md5_t             md5;
    ngx_webtorch_conf_t  *wcf;
    webtorch_schema_t    *schema;

    schema = &handler->schema;
    wcf = ngx_webtorch_get_conf(cycle);

    if (wcf->zone_size == 0) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": \"resume=\" requires "
                      "\"webtorch_zone\" in %V:%ui",
                      &handler->name, &handler->file, handler->line);
        return NGX_ERROR;
    }

    if (handler->name.len >= WEBTORCH_MODEL_LEN) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\" has too long a name for "
                      "\"resume=\" in %V:%ui",
                      &handler->name, &handler->file, handler->line);
        return NGX_ERROR;
    }

    ngx_webtorch_record_form_init(&conf->form,
                                  &schema->inputs[schema->ninputs
                                                  - schema->nstates],
                                  schema->nstates, conf->resume_buffer);

    size = conf->form.size + 2 * sizeof(ngx_webtorch_record_t);

    if (size > wcf->zone_size) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "webtorch handler \"%V\": a stream with \"resume=\" "
                      "takes %uz bytes of \"webtorch_zone\", which has %uz "
                      "bytes in %V:%ui",
                      &handler->name, size, wcf->zone_size,
                      &handler->file, handler->line);
        return NGX_ERROR;
    }

    ngx_md5_init(&md5);
    ngx_md5_update(&md5, &conf->form, sizeof(ngx_webtorch_record_form_t));
    ngx_md5_update(&md5, schema->inputs, sizeof(schema->inputs));
    ngx_md5_update(&md5, schema->outputs, sizeof(schema->outputs));
    ngx_md5_update(&md5, schema->gaps, sizeof(schema->gaps));
    ngx_md5_update(&md5, schema->axes, sizeof(schema->axes));
    ngx_md5_final(conf->digest, &md5);

    return NGX_OK;
}
