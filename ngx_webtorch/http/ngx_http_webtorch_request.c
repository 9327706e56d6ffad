
#include "ngx_http_webtorch_request.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_inflate.h"


static ngx_int_t ngx_http_webtorch_get_vars(ngx_http_request_t *r,
    webtorch_schema_t *schema, ngx_str_t *vars, size_t *size);
static u_char *ngx_http_webtorch_copy_headers(ngx_http_request_t *r,
    webtorch_header_t *header, u_char *p);
static u_char *ngx_http_webtorch_copy_str(u_char *p, webtorch_str_t *dst,
    ngx_str_t *src);


webtorch_request_t *
ngx_http_webtorch_copy_request(ngx_http_request_t *r, webtorch_schema_t *schema,
    ngx_str_t *body)
{
    u_char                 *p;
    size_t                  size;
    uint32_t                i, n;
    ngx_str_t               vars[WEBTORCH_MAX_VARS];
    ngx_list_part_t        *part;
    ngx_table_elt_t        *h;
    webtorch_request_t     *request;
    ngx_webtorch_shared_t  *shared;

    n = 0;
    size = sizeof(webtorch_request_t) + r->method_name.len + r->uri.len
           + r->args.len;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_webtorch_is_coding(&h[i])) {
                continue;
            }

            size += sizeof(webtorch_header_t) + h[i].key.len + h[i].value.len;
            n++;
        }
    }

    if (ngx_http_webtorch_get_vars(r, schema, vars, &size) != NGX_OK) {
        return NULL;
    }

    shared = ngx_http_webtorch_share_body(r, body);

    if (shared == NULL) {
        size += body->len;
    }

    request = ngx_alloc(size, r->connection->log);
    if (request == NULL) {
        ngx_webtorch_release(shared);
        return NULL;
    }

    request->size = size;
    request->closing = 0;
    request->place = 0;
    request->other = 0;
    request->shared = shared;
    request->nheaders = n;
    request->headers = (webtorch_header_t *) &request[1];
    request->nvars = schema->nvars;
    request->vars = (webtorch_str_t *) &request->headers[n];

    p = (u_char *) &request->vars[schema->nvars];

    if (shared) {
        request->body.data = (char *) body->data;
        request->body.len = body->len;

    } else {
        p = ngx_http_webtorch_copy_str(p, &request->body, body);
    }

    p = ngx_http_webtorch_copy_str(p, &request->method, &r->method_name);
    p = ngx_http_webtorch_copy_str(p, &request->path, &r->uri);
    p = ngx_http_webtorch_copy_str(p, &request->args, &r->args);

    for (i = 0; i < schema->nvars; i++) {
        if (vars[i].data == NULL) {
            request->vars[i].data = NULL;
            continue;
        }

        p = ngx_http_webtorch_copy_str(p, &request->vars[i], &vars[i]);
    }

    (void) ngx_http_webtorch_copy_headers(r, request->headers, p);

    return request;
}


/*
 * Variables are evaluated here, as Python may run in another thread; data NULL:
 * not set.
 */

static ngx_int_t
ngx_http_webtorch_get_vars(ngx_http_request_t *r, webtorch_schema_t *schema,
    ngx_str_t *vars, size_t *size)
{
    uint32_t                    i;
    ngx_str_t                   name;
    ngx_http_variable_value_t  *vv;

    for (i = 0; i < schema->nvars; i++) {

        /* names are in lower case */

        name.data = (u_char *) schema->vars[i];
        name.len = ngx_strlen(schema->vars[i]);

        vv = ngx_http_get_variable(r, &name,
                                   ngx_hash_key(name.data, name.len));
        if (vv == NULL) {
            return NGX_ERROR;
        }

        ngx_str_null(&vars[i]);

        if (!vv->not_found) {
            vars[i].data = vv->len ? vv->data : (u_char *) "";
            vars[i].len = vv->len;
        }

        *size += sizeof(webtorch_str_t) + vars[i].len;
    }

    return NGX_OK;
}


static u_char *
ngx_http_webtorch_copy_headers(ngx_http_request_t *r, webtorch_header_t *header,
    u_char *p)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_webtorch_is_coding(&h[i])) {
                continue;
            }

            p = ngx_http_webtorch_copy_str(p, &header->name, &h[i].key);
            p = ngx_http_webtorch_copy_str(p, &header->value, &h[i].value);
            header++;
        }
    }

    return p;
}


static u_char *
ngx_http_webtorch_copy_str(u_char *p, webtorch_str_t *dst, ngx_str_t *src)
{
    dst->data = (char *) p;
    dst->len = src->len;

    /* data of an empty string may be NULL, which memcpy() does not allow */

    if (src->len == 0) {
        return p;
    }

    return ngx_cpymem(p, src->data, src->len);
}
