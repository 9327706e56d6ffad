
/*
 * Origins of pages.
 */

#include "ngx_http_webtorch_origin.h"


static char *ngx_http_webtorch_origin_regex(ngx_conf_t *cf,
    ngx_http_webtorch_origin_t *origin, ngx_str_t *text);
static const char *ngx_http_webtorch_origin_fault(ngx_str_t *text);


char *
ngx_http_webtorch_origin_parse(ngx_conf_t *cf,
    ngx_http_webtorch_origin_t *origin, ngx_str_t *text)
{
    u_char      *p, *last;
    const char  *fault;

    ngx_memzero(origin, sizeof(ngx_http_webtorch_origin_t));

    if (text->data[0] == '~') {
        return ngx_http_webtorch_origin_regex(cf, origin, text);
    }

    ngx_strlow(text->data, text->data, text->len);

    fault = ngx_http_webtorch_origin_fault(text);

    if (fault) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid origin \"%V\": %s",
                           text, fault);
        return NGX_CONF_ERROR;
    }

    origin->text = *text;

    last = text->data + text->len;
    p = ngx_strlchr(text->data, last, '*');

    if (p) {
        origin->prefix.data = text->data;
        origin->prefix.len = p - text->data;
        origin->text.data = p + 1;
        origin->text.len = last - p - 1;
    }

    return NGX_CONF_OK;
}


/*
 * "~" and a pattern without regard to case, hosts of origins are lower-case.
 * It is compiled alone first: parentheses that are not balanced would end the
 * group, and an error is that of the pattern as it is written.
 */

static char *
ngx_http_webtorch_origin_regex(ngx_conf_t *cf,
    ngx_http_webtorch_origin_t *origin, ngx_str_t *text)
{
#if (NGX_PCRE)
    u_char               errstr[NGX_MAX_CONF_ERRSTR];
    ngx_str_t            patterns[2];
    ngx_uint_t           i;
    ngx_regex_compile_t  rc;

    patterns[0].data = text->data + 1;
    patterns[0].len = text->len - 1;

    if (patterns[0].len == 0) {
        return "has an empty regular expression";
    }

    patterns[1].len = patterns[0].len + sizeof("^(?:)$") - 1;
    patterns[1].data = ngx_pnalloc(cf->pool, patterns[1].len + 1);

    if (patterns[1].data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_sprintf(patterns[1].data, "^(?:%V)$%Z", &patterns[0]);

    for (i = 0; i < 2; i++) {
        ngx_memzero(&rc, sizeof(ngx_regex_compile_t));

        rc.pattern = patterns[i];
        rc.options = NGX_REGEX_CASELESS;
        rc.pool = cf->pool;
        rc.err.len = NGX_MAX_CONF_ERRSTR;
        rc.err.data = errstr;

        if (ngx_regex_compile(&rc) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V", &rc.err);
            return NGX_CONF_ERROR;
        }
    }

    origin->regex = rc.regex;

    return NGX_CONF_OK;
#else
    return "has a regular expression, which needs the PCRE library";
#endif
}


/* returns what keeps any browser from sending such an origin; NULL: nothing */

static const char *
ngx_http_webtorch_origin_fault(ngx_str_t *text)
{
    u_char      *p, *host, *last;
    ngx_uint_t   http, https;

    if (ngx_strcmp(text->data, "null") == 0) {
        return NULL;
    }

    last = text->data + text->len;
    host = (u_char *) ngx_strstr(text->data, "://");

    if (host == NULL || host == text->data) {
        return "it must be like \"https://example.com\"";
    }

    http = (ngx_strncmp(text->data, "http://", 7) == 0);
    https = (ngx_strncmp(text->data, "https://", 8) == 0);
    host += 3;

    if (host == last) {
        return "it has no host";
    }

    for (p = host; p < last; p++) {
        if (*p == '/' || *p == '?' || *p == '#' || *p == '@') {
            return "it has more than a scheme, a host and a port";
        }

        if (*p == '*' && (p != host || p + 2 >= last || p[1] != '.')) {
            return "a \"*\" can only be the beginning of a host, as in "
                   "\"https://*.example.com\"";
        }
    }

    if ((http && last - host > 3 && ngx_strncmp(last - 3, ":80", 3) == 0)
        || (https && last - host > 4 && ngx_strncmp(last - 4, ":443", 4) == 0))
    {
        return "browsers leave out the default port";
    }

    return NULL;
}


ngx_uint_t
ngx_http_webtorch_origin_fits(ngx_http_webtorch_origin_t *origin,
    ngx_str_t *text)
{
    u_char  *p, *last;

#if (NGX_PCRE)
    if (origin->regex) {
        return ngx_regex_exec(origin->regex, text, NULL, 0) >= 0;
    }
#endif

    if (origin->prefix.len == 0) {
        return text->len == origin->text.len
               && ngx_strncmp(text->data, origin->text.data, text->len) == 0;
    }

    last = text->data + text->len - ngx_min(text->len, origin->text.len);
    p = text->data + origin->prefix.len;

    if (text->len <= origin->prefix.len + origin->text.len
        || ngx_strncmp(text->data, origin->prefix.data, origin->prefix.len)
           != 0
        || ngx_strncmp(last, origin->text.data, origin->text.len) != 0)
    {
        return 0;
    }

    /* the "*" is one or several labels of a host */

    for ( /* void */ ; p < last; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9')
              || *p == '-' || *p == '_' || *p == '.'))
        {
            return 0;
        }
    }

    return 1;
}
