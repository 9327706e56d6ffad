
#include "ngx_http_webtorch_captures.h"
#include "ngx_webtorch_api.h"


#if (NGX_PCRE)

static ngx_int_t ngx_http_webtorch_add_captures(ngx_conf_t *cf,
    ngx_array_t **captures, ngx_http_regex_t *regex, ngx_uint_t warn);
static ngx_int_t ngx_http_webtorch_add_capture(ngx_conf_t *cf,
    ngx_array_t *captures, ngx_str_t *name, ngx_uint_t warn);
static void ngx_http_webtorch_capture_name(ngx_http_regex_t *regex,
    ngx_str_t *name);


void *
ngx_http_webtorch_captures(ngx_conf_t *cf, ngx_array_t *outer, ngx_uint_t warn)
{
    ngx_uint_t                 i;
    ngx_array_t               *captures;
    ngx_http_server_name_t    *name;
    ngx_http_core_srv_conf_t  *cscf;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    captures = outer;

    /* a location has a name, or none as an "if"; a server's has neither */

    if (clcf->name.len == 0 && !clcf->noname) {
        cscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module);
        name = cscf->server_names.elts;

        for (i = 0; i < cscf->server_names.nelts; i++) {
            if (name[i].regex
                && ngx_http_webtorch_add_captures(cf, &captures, name[i].regex,
                                                  warn)
                   != NGX_OK)
            {
                return NGX_CONF_ERROR;
            }
        }
    }

    if (clcf->regex
        && ngx_http_webtorch_add_captures(cf, &captures, clcf->regex, warn)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return captures;
}


static ngx_int_t
ngx_http_webtorch_add_captures(ngx_conf_t *cf, ngx_array_t **captures,
    ngx_http_regex_t *regex, ngx_uint_t warn)
{
    ngx_str_t                   name;
    ngx_uint_t                  i;
    ngx_array_t                *array;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    if (regex->nvariables == 0) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    v = cmcf->variables.elts;

    /* the outer ones stay as they are */

    array = ngx_array_create(cf->pool, 4, sizeof(ngx_str_t));
    if (array == NULL) {
        return NGX_ERROR;
    }

    if (*captures) {
        if (ngx_array_push_n(array, (*captures)->nelts) == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(array->elts, (*captures)->elts,
                   (*captures)->nelts * sizeof(ngx_str_t));
    }

    for (i = 0; i < regex->nvariables; i++) {
        name = v[regex->variables[i].index].name;

        ngx_http_webtorch_capture_name(regex, &name);

        if (ngx_http_webtorch_add_capture(cf, array, &name, warn) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    *captures = array;

    return NGX_OK;
}


static ngx_int_t
ngx_http_webtorch_add_capture(ngx_conf_t *cf, ngx_array_t *captures,
    ngx_str_t *name, ngx_uint_t warn)
{
    ngx_str_t   *known;
    ngx_uint_t   i;

    known = captures->elts;

    for (i = 0; i < captures->nelts; i++) {
        if (known[i].len == name->len
            && ngx_strncasecmp(known[i].data, name->data, name->len) == 0)
        {
            known[i] = *name;
            return NGX_OK;
        }
    }

    /* others are variables, but no arguments */

    if (captures->nelts == WEBTORCH_MAX_CAPTURES
        || name->len >= WEBTORCH_NAME_LEN)
    {
        if (warn) {
            ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                          "the named capture \"%V\" cannot be an argument of "
                          "a handler, as it is longer than %d bytes or there "
                          "are more than %d",
                          name, WEBTORCH_NAME_LEN - 1, WEBTORCH_MAX_CAPTURES);
        }

        return NGX_OK;
    }

    known = ngx_array_push(captures);
    if (known == NULL) {
        return NGX_ERROR;
    }

    *known = *name;

    return NGX_OK;
}


/* names of variables are in lower case, those of arguments need not be */

static void
ngx_http_webtorch_capture_name(ngx_http_regex_t *regex, ngx_str_t *name)
{
    u_char  *p, *last, end;

    p = regex->name.data;
    last = p + regex->name.len;

    for ( /* void */ ; p + name->len + 2 <= last; p++) {

        if (*p != '<' && *p != '\'') {
            continue;
        }

        end = (*p == '<') ? '>' : '\'';

        if (p[1 + name->len] == end
            && ngx_strncasecmp(p + 1, name->data, name->len) == 0)
        {
            name->data = p + 1;
            return;
        }
    }
}

#else

void *
ngx_http_webtorch_captures(ngx_conf_t *cf, ngx_array_t *outer, ngx_uint_t warn)
{
    return NULL;
}

#endif
