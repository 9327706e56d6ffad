
#include "ngx_http_webtorch_request.h"
#include "ngx_http_webtorch_body.h"
#include "ngx_http_webtorch_inflate.h"


/* where the next length and the next string of a request are written */

typedef struct {
    uint32_t  *length;
    u_char    *p;
} ngx_http_webtorch_packing_t;


static size_t ngx_http_webtorch_headers_size(ngx_http_request_t *r,
    uint32_t *n);
static ngx_int_t ngx_http_webtorch_get_vars(ngx_http_request_t *r,
    webtorch_schema_t *schema, ngx_str_t *vars, size_t *size);
static void ngx_http_webtorch_pack_headers(ngx_http_request_t *r,
    ngx_http_webtorch_packing_t *packing);
static void ngx_http_webtorch_pack(ngx_http_webtorch_packing_t *packing,
    ngx_str_t *str);
static u_char *ngx_http_webtorch_copy_str(u_char *p, ngx_str_t *src);


webtorch_request_t *
ngx_http_webtorch_copy_request(ngx_http_request_t *r, webtorch_schema_t *schema,
    ngx_str_t *body)
{
    size_t                        size;
    uint32_t                      i, n;
    ngx_str_t                     vars[WEBTORCH_MAX_VARS];
    webtorch_request_t           *request;
    ngx_webtorch_shared_t        *shared;
    ngx_http_webtorch_packing_t   packing;

    size = sizeof(webtorch_request_t) + r->method_name.len + r->uri.len
           + r->args.len + ngx_http_webtorch_headers_size(r, &n);

    if (ngx_http_webtorch_get_vars(r, schema, vars, &size) != NGX_OK) {
        return NULL;
    }

    shared = ngx_http_webtorch_share_body(r, body);

    if (shared == NULL) {
        size += body->len;
    }

    request = ngx_alloc(size, r->connection->log);
    if (request == NULL) {
        ngx_webtorch_shared_release(shared);
        return NULL;
    }

    request->size = size;
    request->body = body->len;
    request->data = (char *) body->data;
    request->shared = shared;
    request->method = (uint32_t) r->method_name.len;
    request->path = (uint32_t) r->uri.len;
    request->args = (uint32_t) r->args.len;
    request->nheaders = n;
    request->nvars = schema->nvars;
    request->next = 0;
    request->closing = 0;
    request->state_row = 0;
    request->old_state_row = 0;
    request->states = NULL;
    request->states_size = 0;

    packing.length = (uint32_t *) &request[1];
    packing.p = (u_char *) (packing.length + 2 * n + schema->nvars);

    packing.p = ngx_http_webtorch_copy_str(packing.p, &r->method_name);
    packing.p = ngx_http_webtorch_copy_str(packing.p, &r->uri);
    packing.p = ngx_http_webtorch_copy_str(packing.p, &r->args);

    for (i = 0; i < schema->nvars; i++) {

        if (vars[i].data == NULL) {
            *packing.length++ = WEBTORCH_NOT_SET;
            continue;
        }

        ngx_http_webtorch_pack(&packing, &vars[i]);
    }

    ngx_http_webtorch_pack_headers(r, &packing);

    if (shared == NULL) {
        (void) ngx_http_webtorch_copy_str(packing.p, body);
    }

    return request;
}


static size_t
ngx_http_webtorch_headers_size(ngx_http_request_t *r, uint32_t *n)
{
    size_t            size;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    *n = 0;
    size = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_webtorch_is_coding(&h[i])) {
                continue;
            }

            size += 2 * sizeof(uint32_t) + h[i].key.len + h[i].value.len;
            (*n)++;
        }
    }

    return size;
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

        *size += sizeof(uint32_t) + vars[i].len;
    }

    return NGX_OK;
}


static void
ngx_http_webtorch_pack_headers(ngx_http_request_t *r,
    ngx_http_webtorch_packing_t *packing)
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

            ngx_http_webtorch_pack(packing, &h[i].key);
            ngx_http_webtorch_pack(packing, &h[i].value);
        }
    }
}


static void
ngx_http_webtorch_pack(ngx_http_webtorch_packing_t *packing, ngx_str_t *str)
{
    *packing->length++ = (uint32_t) str->len;
    packing->p = ngx_http_webtorch_copy_str(packing->p, str);
}


static u_char *
ngx_http_webtorch_copy_str(u_char *p, ngx_str_t *src)
{
    /* data of an empty string may be NULL, which memcpy() does not allow */

    if (src->len == 0) {
        return p;
    }

    return ngx_cpymem(p, src->data, src->len);
}
