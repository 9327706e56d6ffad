
#include "ngx_http_webtorch_header.h"
#include "ngx_http_webtorch.h"


/* a header of an answer that nginx's filters find by a member of headers_out */

typedef struct {
    ngx_str_t    name;
    ngx_uint_t   offset;
} ngx_http_webtorch_header_out_t;


static ngx_uint_t ngx_http_webtorch_header_is(ngx_table_elt_t *h,
    const char *name, size_t len);
static ngx_table_elt_t *ngx_http_webtorch_push_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);
static void ngx_http_webtorch_set_header_out(ngx_http_request_t *r,
    ngx_table_elt_t *h);
static ngx_int_t ngx_http_webtorch_add_cache_control(ngx_http_request_t *r,
    ngx_table_elt_t *h);
static void ngx_http_webtorch_clear_headers(ngx_http_request_t *r,
    ngx_http_webtorch_header_mark_t *mark);
static void ngx_http_webtorch_clear_cache_control(ngx_http_request_t *r);
static ngx_int_t ngx_http_webtorch_add_authenticate(ngx_http_request_t *r,
    webtorch_header_t *headers, uint32_t n);


static ngx_http_webtorch_header_out_t  ngx_http_webtorch_headers_out[] = {

    { ngx_string("Content-Encoding"),
      offsetof(ngx_http_headers_out_t, content_encoding) },

    { ngx_string("ETag"), offsetof(ngx_http_headers_out_t, etag) },

    { ngx_string("Expires"), offsetof(ngx_http_headers_out_t, expires) },

    { ngx_string("Last-Modified"),
      offsetof(ngx_http_headers_out_t, last_modified) },

    { ngx_string("WWW-Authenticate"),
      offsetof(ngx_http_headers_out_t, www_authenticate) },
};

#define NGX_HTTP_WEBTORCH_NHEADERS                                            \
    (sizeof(ngx_http_webtorch_headers_out)                                    \
     / sizeof(ngx_http_webtorch_header_out_t))


ngx_str_t *
ngx_http_webtorch_find_header(ngx_http_request_t *r, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_webtorch_header_is(&h[i], name, len)) {
                return &h[i].value;
            }
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_http_webtorch_header_is(ngx_table_elt_t *h, const char *name, size_t len)
{
    return h->key.len == len && ngx_memcmp(h->lowcase_key, name, len) == 0;
}


ngx_int_t
ngx_http_webtorch_join_headers(ngx_http_request_t *r, const char *name,
    ngx_str_t *value)
{
    u_char           *p;
    size_t            len, size;
    ngx_uint_t        i, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = 0;
    size = 0;
    len = ngx_strlen(name);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_webtorch_header_is(&h[i], name, len)) {
                *value = h[i].value;
                size += value->len + sizeof(", ") - 1;
                n++;
            }
        }
    }

    if (n < 2) {
        return n ? NGX_OK : NGX_DECLINED;
    }

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;
    value->len = size - (sizeof(", ") - 1);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_webtorch_header_is(&h[i], name, len)) {
                p = ngx_cpymem(p, h[i].value.data, h[i].value.len);
                *p++ = ',';
                *p++ = ' ';
            }
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_add_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_http_webtorch_push_header(r, name, value);
    if (h == NULL) {
        return NGX_ERROR;
    }

    if (name->len == sizeof("Cache-Control") - 1
        && ngx_strncasecmp(name->data, (u_char *) "Cache-Control", name->len)
           == 0)
    {
        return ngx_http_webtorch_add_cache_control(r, h);
    }

    ngx_http_webtorch_set_header_out(r, h);

    return NGX_OK;
}


static ngx_table_elt_t *
ngx_http_webtorch_push_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
    h->key = *name;
    h->value = *value;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return h;
}


ngx_int_t
ngx_http_webtorch_copy_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_str_t  copy[2];

    copy[0].len = name->len;
    copy[0].data = ngx_pstrdup(r->pool, name);

    copy[1].len = value->len;
    copy[1].data = ngx_pstrdup(r->pool, value);

    if (copy[0].data == NULL || copy[1].data == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_webtorch_add_header(r, &copy[0], &copy[1]);
}


static void
ngx_http_webtorch_set_header_out(ngx_http_request_t *r, ngx_table_elt_t *h)
{
    ngx_uint_t                       i;
    ngx_http_webtorch_header_out_t  *out;

    for (i = 0; i < NGX_HTTP_WEBTORCH_NHEADERS; i++) {
        out = &ngx_http_webtorch_headers_out[i];

        if (out->name.len == h->key.len
            && ngx_strncasecmp(out->name.data, h->key.data, h->key.len) == 0)
        {
            *(ngx_table_elt_t **) ((char *) &r->headers_out + out->offset) = h;
            break;
        }
    }

    if (h == r->headers_out.last_modified) {
        r->headers_out.last_modified_time = ngx_parse_http_time(h->value.data,
                                                                h->value.len);
    }
}


/* "expires" replaces these, and does not add a line */

static ngx_int_t
ngx_http_webtorch_add_cache_control(ngx_http_request_t *r, ngx_table_elt_t *h)
{
    ngx_table_elt_t  **ph;

#if (nginx_version >= 1023000)

    for (ph = &r->headers_out.cache_control; *ph; ph = &(*ph)->next) {
        /* void */
    }

#else

    if (r->headers_out.cache_control.elts == NULL
        && ngx_array_init(&r->headers_out.cache_control, r->pool, 1,
                          sizeof(ngx_table_elt_t *))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ph = ngx_array_push(&r->headers_out.cache_control);
    if (ph == NULL) {
        return NGX_ERROR;
    }

#endif

    *ph = h;

    return NGX_OK;
}


ngx_int_t
ngx_http_webtorch_add_vary(ngx_http_request_t *r)
{
    ngx_str_t  name, value;

    ngx_str_set(&name, "Vary");
    ngx_str_set(&value, "Accept");

    /* no filter has a member for it */

    return ngx_http_webtorch_push_header(r, &name, &value) ? NGX_OK : NGX_ERROR;
}


void
ngx_http_webtorch_mark_headers(ngx_http_request_t *r,
    ngx_http_webtorch_header_mark_t *mark)
{
    mark->part = r->headers_out.headers.last;
    mark->n = mark->part->nelts;
}


ngx_int_t
ngx_http_webtorch_replace_headers(ngx_http_request_t *r, ngx_int_t rc,
    ngx_http_webtorch_header_mark_t *mark, webtorch_header_t *headers,
    uint32_t n)
{
    ngx_http_webtorch_clear_headers(r, mark);

    if (rc == NGX_HTTP_UNAUTHORIZED
        && ngx_http_webtorch_add_authenticate(r, headers, n) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return rc;
}


static void
ngx_http_webtorch_clear_headers(ngx_http_request_t *r,
    ngx_http_webtorch_header_mark_t *mark)
{
    ngx_uint_t         i;
    ngx_list_part_t   *part;
    ngx_table_elt_t   *h, **ph;

    i = mark->n;

    for (part = mark->part; part; part = part->next) {
        h = part->elts;

        for ( /* void */ ; i < part->nelts; i++) {
            if (&h[i] != r->headers_out.content_range) {
                h[i].hash = 0;
            }
        }

        i = 0;
    }

    for (i = 0; i < NGX_HTTP_WEBTORCH_NHEADERS; i++) {
        ph = (ngx_table_elt_t **) ((char *) &r->headers_out
                                   + ngx_http_webtorch_headers_out[i].offset);

        if (*ph && (*ph)->hash == 0) {
            *ph = NULL;
        }
    }

    if (r->headers_out.last_modified == NULL) {
        r->headers_out.last_modified_time = -1;
    }

    ngx_http_webtorch_clear_cache_control(r);
}


/* if the first one is cleared, they all are */

static void
ngx_http_webtorch_clear_cache_control(ngx_http_request_t *r)
{
#if (nginx_version >= 1023000)

    if (r->headers_out.cache_control
        && r->headers_out.cache_control->hash == 0)
    {
        r->headers_out.cache_control = NULL;
    }

#else

    ngx_table_elt_t  **ph;

    ph = r->headers_out.cache_control.elts;

    if (ph && (*ph)->hash == 0) {
        ngx_memzero(&r->headers_out.cache_control, sizeof(ngx_array_t));
    }

#endif
}


static ngx_int_t
ngx_http_webtorch_add_authenticate(ngx_http_request_t *r,
    webtorch_header_t *headers, uint32_t n)
{
    uint32_t   i;
    ngx_str_t  name, value;

    for (i = 0; i < n; i++) {
        ngx_http_webtorch_get_str(&name, &headers[i].name);
        ngx_http_webtorch_get_str(&value, &headers[i].value);

        if (name.len == sizeof("WWW-Authenticate") - 1
            && ngx_strncasecmp(name.data, (u_char *) "WWW-Authenticate",
                               name.len)
               == 0
            && ngx_http_webtorch_copy_header(r, &name, &value) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_webtorch_has_header_out(ngx_http_request_t *r, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);

    for (part = &r->headers_out.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash && h[i].key.len == len
                && ngx_strncasecmp(h[i].key.data, (u_char *) name, len) == 0)
            {
                return 1;
            }
        }
    }

    return 0;
}


void
ngx_http_webtorch_set_type(ngx_http_request_t *r, ngx_str_t *type)
{
    u_char  *p, *semicolon, *last;

    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;
    ngx_str_null(&r->headers_out.charset);

    last = type->data + type->len;

    for (p = type->data; p < last; p++) {
        p = memchr(p, ';', (size_t) (last - p));

        if (p == NULL) {
            return;
        }

        semicolon = p;

        while (p + 1 < last && (p[1] == ' ' || p[1] == '\t')) {
            p++;
        }

        if (last - p <= (ssize_t) sizeof("charset=")
            || ngx_strncasecmp(p + 1, (u_char *) "charset=",
                               sizeof("charset=") - 1)
               != 0)
        {
            continue;
        }

        p += sizeof("charset=");

        if (*p == '"') {
            p++;
        }

        r->headers_out.content_type_len = semicolon - type->data;
        r->headers_out.charset.data = p;

        while (p < last && *p != '"' && *p != ';') {
            p++;
        }

        r->headers_out.charset.len = p - r->headers_out.charset.data;

        return;
    }
}
