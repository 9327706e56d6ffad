
#include "ngx_http_webtorch_upstream_variable.h"
#include "ngx_http_webtorch_upstream_peer.h"


static ngx_int_t ngx_http_webtorch_upstream_score(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_webtorch_upstream_reason(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


static ngx_http_variable_t  ngx_http_webtorch_upstream_vars[] = {

    { ngx_string("webtorch_upstream_score"), NULL,
      ngx_http_webtorch_upstream_score, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("webtorch_upstream_reason"), NULL,
      ngx_http_webtorch_upstream_reason, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_webtorch_upstream_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_webtorch_upstream_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


/* the cost, in seconds, of the last server that the request was sent to */

static ngx_int_t
ngx_http_webtorch_upstream_score(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                         *p;
    ngx_http_webtorch_upstream_peer_t  *wp;

    wp = ngx_http_webtorch_upstream_get_ctx(r);

    if (wp == NULL || !wp->known) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN + sizeof(".000000") - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%.6f", (double) wp->balance.cost) - p;
    v->data = p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_upstream_reason(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                      *reason;
    ngx_http_webtorch_upstream_peer_t  *wp;

    wp = ngx_http_webtorch_upstream_get_ctx(r);

    if (wp == NULL || !wp->known) {
        v->not_found = 1;
        return NGX_OK;
    }

    reason = &ngx_http_webtorch_upstream_reasons[wp->balance.reason];

    v->len = reason->len;
    v->data = reason->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}


