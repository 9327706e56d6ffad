
/*
 * http: requests of nginx become rows of a handler's batch, and its outputs
 * their answers.  The files from the bottom to the top: header, ctx, logged,
 * trace, abort, task, thread, body, scratch, inflate, encode, send, error,
 * failure, origin, cors, request, query, accel, reply, shadow, job, decode,
 * load, negotiate, metadata, version_set, content, infer, protocol, split; a
 * file calls only those before it.
 *
 * The folder includes headers of api/, tensor/, core/ to batch/, and of
 * nginx's HTTP; never Python.h, nor headers of http/phases/ or module/.  This
 * header has what the whole folder and http/phases/ need, each other one
 * belongs to the .c of its name.
 */


#ifndef _NGX_HTTP_WEBTORCH_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_H_INCLUDED_


#include <ngx_http.h>

#include "ngx_webtorch.h"
#include "ngx_webtorch_handler.h"


typedef struct ngx_http_webtorch_cors_s         ngx_http_webtorch_cors_t;
typedef struct ngx_http_webtorch_shadow_conf_s  ngx_http_webtorch_shadow_conf_t;


typedef struct {
    ngx_webtorch_handler_t      *handler;
    ngx_webtorch_handler_t      *loader;  /* of torch files; NULL: none */
    ngx_array_t                 *captures;   /* names, of ngx_str_t; NULL:
                                                none */
    ngx_http_complex_value_t    *model;   /* "name@version"; NULL: as the code
                                             has it */
    ngx_str_t                    device;  /* empty: the CPU */
    size_t                       owner;   /* see the handler */
    ngx_http_webtorch_shadow_conf_t  *shadow;  /* NULL: none */
    ngx_flag_t                   protocol;
    ngx_flag_t                   torch_load;
    ngx_flag_t                   intercept_errors;
    ngx_uint_t                   client_abort;
    ngx_http_webtorch_cors_t    *cors;    /* NULL: off */
    void                        *health;  /* of webtorch_health; or NULL */
    ngx_msec_t                   slow;    /* 0: off */
    ngx_flag_t                   load_report;

#if (NGX_THREADS)
    ngx_thread_pool_t           *thread_pool;
#endif
} ngx_http_webtorch_loc_conf_t;


/* hundredths of "10%", 0 to 10000, with up to two digits after the point */

static ngx_inline ngx_int_t
ngx_http_webtorch_parse_percent(ngx_str_t *value)
{
    ngx_int_t  n;

    if (value->len < 2 || value->data[value->len - 1] != '%') {
        return NGX_ERROR;
    }

    n = ngx_atofp(value->data, value->len - 1, 2);

    return (n > 10000) ? NGX_ERROR : n;
}


/* nothing is copied */

static ngx_inline void
ngx_http_webtorch_get_str(ngx_str_t *to, const webtorch_str_t *from)
{
    to->data = (u_char *) from->data;
    to->len = from->len;
}


extern ngx_module_t  ngx_http_webtorch_module;


#endif /* _NGX_HTTP_WEBTORCH_H_INCLUDED_ */
