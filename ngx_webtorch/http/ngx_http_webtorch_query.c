
#include "ngx_http_webtorch_query.h"
#include "ngx_webtorch_tensor.h"


static u_char *ngx_http_webtorch_query_unescape(u_char *p, u_char *from,
    u_char *last);
static u_char *ngx_http_webtorch_query_write(u_char *p, ngx_str_t *name,
    ngx_str_t *value, ngx_uint_t text);
static u_char *ngx_http_webtorch_query_text(u_char *p, ngx_str_t *text);
static ngx_uint_t ngx_http_webtorch_query_is_text(
    const webtorch_schema_t *schema, ngx_str_t *name);
static ngx_int_t ngx_http_webtorch_query_check(ngx_str_t *name,
    ngx_str_t *value, ngx_webtorch_error_t *err);


ngx_int_t
ngx_http_webtorch_query_body(ngx_http_request_t *r,
    const webtorch_schema_t *schema, ngx_str_t *body,
    ngx_webtorch_error_t *err)
{
    u_char      *p, *from, *end, *equals, *last, *plain;
    ngx_str_t    name, value;
    ngx_uint_t   text;

    /* a character becomes up to six, as "\u0001"; quotes, colon and comma */

    body->data = ngx_pnalloc(r->pool, 13 * r->args.len + 2
                                      + NGX_WEBTORCH_PADDING);
    plain = ngx_pnalloc(r->pool, r->args.len + 1 + NGX_WEBTORCH_PADDING);

    if (body->data == NULL || plain == NULL) {
        return NGX_ERROR;
    }

    p = body->data;
    *p++ = '{';

    last = r->args.data + r->args.len;

    for (from = r->args.data; from < last; from = end + 1) {

        end = ngx_strlchr(from, last, '&');

        if (end == NULL) {
            end = last;
        }

        equals = ngx_strlchr(from, end, '=');

        if (equals == NULL) {
            continue;
        }

        name.data = plain;
        value.data = ngx_http_webtorch_query_unescape(plain, from, equals);
        name.len = (size_t) (value.data - name.data);
        value.len = (size_t) (ngx_http_webtorch_query_unescape(value.data,
                                                               equals + 1, end)
                              - value.data);

        text = ngx_http_webtorch_query_is_text(schema, &name);

        if (!text
            && ngx_http_webtorch_query_check(&name, &value, err) != NGX_OK)
        {
            return NGX_DECLINED;
        }

        if (p[-1] != '{') {
            *p++ = ',';
        }

        p = ngx_http_webtorch_query_write(p, &name, &value, text);
    }

    *p++ = '}';

    body->len = (size_t) (p - body->data);

    ngx_memzero(p, NGX_WEBTORCH_PADDING);

    return NGX_OK;
}


/* returns the end of the text at p */

static u_char *
ngx_http_webtorch_query_unescape(u_char *p, u_char *from, u_char *last)
{
    u_char  *space;

    /* a plus sign is a space, one that is escaped is none */

    while (from < last) {

        for (space = from; space < last && *space != '+'; space++) {
            /* void */
        }

        ngx_unescape_uri(&p, &from, (size_t) (space - from), 0);
        from = space;

        if (from < last) {
            *p++ = ' ';
            from++;
        }
    }

    return p;
}


static u_char *
ngx_http_webtorch_query_write(u_char *p, ngx_str_t *name, ngx_str_t *value,
    ngx_uint_t text)
{
    p = ngx_http_webtorch_query_text(p, name);
    *p++ = ':';

    return text ? ngx_http_webtorch_query_text(p, value)
                : ngx_cpymem(p, value->data, value->len);
}


static u_char *
ngx_http_webtorch_query_text(u_char *p, ngx_str_t *text)
{
    *p++ = '"';

    p = (u_char *) ngx_escape_json(p, text->data, text->len);

    *p++ = '"';

    return p;
}


static ngx_uint_t
ngx_http_webtorch_query_is_text(const webtorch_schema_t *schema,
    ngx_str_t *name)
{
    uint32_t  i;

    i = ngx_webtorch_find_input(schema, (char *) name->data, name->len);

    return i < schema->ninputs
           && schema->inputs[i].ndim == 0
           && ngx_webtorch_is_string(schema->inputs[i].dtype);
}


static ngx_int_t
ngx_http_webtorch_query_check(ngx_str_t *name, ngx_str_t *value,
    ngx_webtorch_error_t *err)
{
    ngx_webtorch_error_t  found;

    if (ngx_webtorch_codec_check_json((char *) value->data, value->len, &found)
        == 0)
    {
        return NGX_OK;
    }

    (void) ngx_webtorch_error(err, found.status, found.code,
                              "argument \"%.*s\": %s",
                              (int) ngx_min(name->len, 128), name->data,
                              found.text);

    return NGX_DECLINED;
}
