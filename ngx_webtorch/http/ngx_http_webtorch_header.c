
#include "ngx_http_webtorch_header.h"


ngx_str_t *
ngx_http_webtorch_find_header(ngx_http_request_t *r, const char *name)
{
    size_t            len;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);
    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NULL;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == len
            && ngx_memcmp(h[i].lowcase_key, name, len) == 0)
        {
            return &h[i].value;
        }
    }
}


ngx_int_t
ngx_http_webtorch_add_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key = *name;
    h->value = *value;
#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    /* nginx's filters read these */

    if (name->len == sizeof("Content-Encoding") - 1
        && ngx_strncasecmp(name->data, (u_char *) "Content-Encoding", name->len)
           == 0)
    {
        r->headers_out.content_encoding = h;

    } else if (name->len == sizeof("ETag") - 1
               && ngx_strncasecmp(name->data, (u_char *) "ETag", name->len)
                  == 0)
    {
        r->headers_out.etag = h;

    } else if (name->len == sizeof("Last-Modified") - 1
               && ngx_strncasecmp(name->data, (u_char *) "Last-Modified",
                                  name->len)
                  == 0)
    {
        r->headers_out.last_modified = h;
        r->headers_out.last_modified_time = ngx_parse_http_time(value->data,
                                                                value->len);
    }

    return NGX_OK;
}


void
ngx_http_webtorch_mark_headers(ngx_http_request_t *r,
    ngx_http_webtorch_header_mark_t *mark)
{
    mark->part = r->headers_out.headers.last;
    mark->n = mark->part->nelts;
}


void
ngx_http_webtorch_clear_headers(ngx_http_request_t *r,
    ngx_http_webtorch_header_mark_t *mark)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

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

    if (r->headers_out.content_encoding
        && r->headers_out.content_encoding->hash == 0)
    {
        r->headers_out.content_encoding = NULL;
    }

    if (r->headers_out.etag && r->headers_out.etag->hash == 0) {
        r->headers_out.etag = NULL;
    }

    if (r->headers_out.last_modified
        && r->headers_out.last_modified->hash == 0)
    {
        r->headers_out.last_modified = NULL;
        r->headers_out.last_modified_time = -1;
    }
}
