
/*
 * Python writes the document, as it knows the signatures.  It gets the locations
 * of the server in a variable.
 */

#include "ngx_http_webtorch_openapi.h"
#include "ngx_http_webtorch.h"


typedef struct {
    ngx_http_core_srv_conf_t   *server;
    ngx_http_core_loc_conf_t   *location;
    ngx_webtorch_handler_t     *handler;
} ngx_http_webtorch_location_t;


static ngx_int_t ngx_http_webtorch_locations_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static const char *ngx_http_webtorch_location_modifier(
    ngx_http_core_loc_conf_t *clcf);


ngx_int_t
ngx_http_webtorch_openapi_add_variable(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var;

    static ngx_str_t  name = ngx_string("webtorch_locations");

    var = ngx_http_add_variable(cf, &name, 0);
    if (var == NULL) {
        return NGX_ERROR;
    }

    var->get_handler = ngx_http_webtorch_locations_variable;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_openapi_add(ngx_conf_t *cf, ngx_webtorch_handler_t *handler)
{
    ngx_webtorch_conf_t           *wcf;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_webtorch_location_t  *location;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* "if", "limit_except" and named locations have no address */

    if (clcf->noname || clcf->named) {
        return NGX_OK;
    }

    wcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_webtorch_module);

    if (wcf->locations == NULL) {
        wcf->locations = ngx_array_create(cf->pool, 4,
                                        sizeof(ngx_http_webtorch_location_t));
        if (wcf->locations == NULL) {
            return NGX_ERROR;
        }
    }

    location = ngx_array_push(wcf->locations);
    if (location == NULL) {
        return NGX_ERROR;
    }

    location->server = ngx_http_conf_get_module_srv_conf(cf,
                                                         ngx_http_core_module);
    location->location = clcf;
    location->handler = handler;

    return NGX_OK;
}


/* a line for each: its modifier or "-", the function, and the location */

static ngx_int_t
ngx_http_webtorch_locations_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                        *p;
    size_t                         len;
    ngx_uint_t                     i, n;
    ngx_webtorch_conf_t           *wcf;
    ngx_http_core_srv_conf_t      *cscf;
    ngx_http_webtorch_location_t  *location;

    wcf = ngx_http_get_module_main_conf(r, ngx_http_webtorch_module);
    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);

    n = wcf->locations ? wcf->locations->nelts : 0;
    location = wcf->locations ? wcf->locations->elts : NULL;
    len = 0;

    for (i = 0; i < n; i++) {
        len += sizeof("^~  \n") + location[i].handler->name.len
               + location[i].location->name.len;
    }

    p = ngx_pnalloc(r->pool, len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;

    for (i = 0; i < n; i++) {

        if (location[i].server == cscf && !location[i].location->internal) {
            p = ngx_sprintf(p, "%s %V %V\n",
                            ngx_http_webtorch_location_modifier(
                                location[i].location),
                            &location[i].handler->name,
                            &location[i].location->name);
        }
    }

    v->len = (unsigned) (p - v->data);
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static const char *
ngx_http_webtorch_location_modifier(ngx_http_core_loc_conf_t *clcf)
{
#if (NGX_PCRE)

    if (clcf->regex) {
        return "~";
    }

#endif

    return clcf->exact_match ? "=" : "-";
}
