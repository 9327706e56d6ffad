
#include "ngx_http_webtorch_field_features.h"
#include "ngx_http_webtorch_body_part.h"


/* the search for the field of a window */

typedef struct {
    ngx_webtorch_windows_t  *windows;
    uint32_t                 window;
    u_char                  *name;
    size_t                   len;
} ngx_http_webtorch_field_search_t;


/* headers that are scored together */

#define NGX_HTTP_WEBTORCH_HEADERS  32

typedef struct {
    ngx_webtorch_scored_t         *scored;
    uint32_t                       n;
    ngx_webtorch_scored_header_t   list[NGX_HTTP_WEBTORCH_HEADERS];
} ngx_http_webtorch_headers_t;


typedef void (*ngx_http_webtorch_header_pt)(void *data,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value);


static void ngx_http_webtorch_field_read(ngx_http_request_t *r,
    uint32_t used, const ngx_webtorch_text_features_t *text, uint32_t unread,
    ngx_webtorch_field_pt handler, void *data);
static uint32_t ngx_http_webtorch_field_unread(ngx_int_t body);
static ngx_int_t ngx_http_webtorch_field_code(ngx_int_t body, uint32_t unread,
    ngx_uint_t full);
static void ngx_http_webtorch_field_find(void *data,
    const ngx_webtorch_field_t *field);
static void ngx_http_webtorch_field_header(void *data,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value);
static void ngx_http_webtorch_field_add_header(void *data,
    const ngx_webtorch_part_t *name, const ngx_webtorch_part_t *value);
static void ngx_http_webtorch_field_headers(ngx_http_request_t *r,
    ngx_http_webtorch_header_pt handler, void *data,
    ngx_webtorch_part_t *type);


/* the event loop's: one request at a time */

static ngx_webtorch_fields_t   ngx_http_webtorch_fields;
static ngx_webtorch_windows_t  ngx_http_webtorch_windows;
static ngx_webtorch_traits_t   ngx_http_webtorch_traits;
static ngx_webtorch_names_t    ngx_http_webtorch_names;
static ngx_webtorch_scored_t   ngx_http_webtorch_scored;

static int32_t  ngx_http_webtorch_numbers[NGX_WEBTORCH_MAX_NUMBERS];
static int32_t  ngx_http_webtorch_number_windows[NGX_WEBTORCH_MAX_NUMBERS];
static u_char   ngx_http_webtorch_field_work[2 * NGX_WEBTORCH_TEXT_SIZE];


ngx_int_t
ngx_http_webtorch_field_features(ngx_http_request_t *r, uint32_t used,
    const ngx_webtorch_text_features_t *text, ngx_int_t body,
    const ngx_webtorch_windows_t **found)
{
    uint32_t                 unread;
    ngx_webtorch_windows_t  *windows;

    windows = &ngx_http_webtorch_windows;

    unread = ngx_http_webtorch_field_unread(body);

    ngx_http_webtorch_field_read(r, used, text, unread,
                                 ngx_webtorch_windows_field, windows);

    *found = windows;

    return ngx_http_webtorch_field_code(body, unread, windows->full);
}


/* maps a code of ngx_http_webtorch_body_part() to unread bits */

static uint32_t
ngx_http_webtorch_field_unread(ngx_int_t body)
{
    switch (body) {

    case NGX_OK:
        return 0;

    case NGX_HTTP_WEBTORCH_BODY_CUT:
        return NGX_WEBTORCH_UNREAD_CUT;

    default:
        return NGX_WEBTORCH_UNREAD_ENCODING;
    }
}


static ngx_int_t
ngx_http_webtorch_field_code(ngx_int_t body, uint32_t unread, ngx_uint_t full)
{
    ngx_webtorch_fields_t  *fields;

    fields = &ngx_http_webtorch_fields;

    /* a body that is not text has no further fields */

    if (body != NGX_OK
        && !(body == NGX_HTTP_WEBTORCH_BODY_CUT && fields->binary))
    {
        return body;
    }

    if (fields->unread & ~unread) {
        return NGX_HTTP_WEBTORCH_FIELDS_UNREAD;
    }

    return full ? NGX_HTTP_WEBTORCH_FIELDS_MANY : NGX_OK;
}


static void
ngx_http_webtorch_field_read(ngx_http_request_t *r, uint32_t used,
    const ngx_webtorch_text_features_t *text, uint32_t unread,
    ngx_webtorch_field_pt handler, void *data)
{
    ngx_webtorch_part_t      type, encoding, method;
    ngx_webtorch_fields_t   *fields;
    ngx_webtorch_windows_t  *windows;

    fields = &ngx_http_webtorch_fields;
    windows = &ngx_http_webtorch_windows;

    ngx_webtorch_windows_init(windows, ngx_http_webtorch_numbers,
                              ngx_http_webtorch_number_windows,
                              NGX_WEBTORCH_MAX_NUMBERS);
    ngx_webtorch_fields_init(fields, handler, data);

    if (used & 1U << NGX_WEBTORCH_FEATURE_TRAITS) {
        windows->traits = &ngx_http_webtorch_traits;
        ngx_webtorch_traits_init(windows->traits, &text->path);
    }

    if (used & 1U << NGX_WEBTORCH_FEATURE_NAMES) {
        windows->names = &ngx_http_webtorch_names;
        ngx_webtorch_names_init(windows->names, &text->path);
    }

    fields->work = ngx_http_webtorch_field_work;
    fields->work_size = sizeof(ngx_http_webtorch_field_work);

    ngx_memzero(&type, sizeof(ngx_webtorch_part_t));
    ngx_memzero(&encoding, sizeof(ngx_webtorch_part_t));

    ngx_webtorch_fields_path(fields, &text->path);
    ngx_webtorch_fields_query(fields, &text->query);
    ngx_http_webtorch_field_headers(r, ngx_http_webtorch_field_header, fields,
                                    &type);

    /* the body is inflated already */

    ngx_webtorch_fields_body(fields, &type, &encoding, &text->body);

    fields->unread |= unread;

    method.data = (char *) r->method_name.data;
    method.len = r->method_name.len;

    ngx_webtorch_windows_request(windows, fields, &method);
}


ngx_int_t
ngx_http_webtorch_field_scored(ngx_http_request_t *r,
    ngx_http_webtorch_native_t *native,
    const ngx_webtorch_text_features_t *text, ngx_int_t body,
    ngx_webtorch_scored_list_t *list)
{
    uint32_t                      unread;
    ngx_webtorch_part_t           type, method;
    ngx_webtorch_scored_t        *scored;
    ngx_webtorch_fields_t        *fields;
    ngx_http_webtorch_headers_t   headers;

    scored = &ngx_http_webtorch_scored;
    fields = &ngx_http_webtorch_fields;

    ngx_webtorch_scored_init(scored, ngx_http_webtorch_native_net(native),
                             ngx_http_webtorch_native_memo(native), fields);

    fields->work = ngx_http_webtorch_field_work;
    fields->work_size = sizeof(ngx_http_webtorch_field_work);

    ngx_memzero(&type, sizeof(ngx_webtorch_part_t));

    ngx_webtorch_scored_path(scored, &text->path);
    ngx_webtorch_scored_query(scored, &text->query);

    headers.scored = scored;
    headers.n = 0;

    ngx_http_webtorch_field_headers(r, ngx_http_webtorch_field_add_header,
                                    &headers, &type);
    ngx_webtorch_scored_headers(scored, headers.list, headers.n);

    ngx_webtorch_scored_body(scored, &type, &text->body);

    unread = ngx_http_webtorch_field_unread(body);
    fields->unread |= unread;

    method.data = (char *) r->method_name.data;
    method.len = r->method_name.len;

    ngx_webtorch_scored_request(scored, &method);

    *list = scored->found;

    return ngx_http_webtorch_field_code(body, unread, scored->full);
}


size_t
ngx_http_webtorch_field_name(ngx_http_request_t *r,
    const ngx_webtorch_text_features_t *text, uint32_t window, u_char *name)
{
    ngx_http_webtorch_field_search_t  search;

    search.windows = &ngx_http_webtorch_windows;
    search.window = window;
    search.name = name;
    search.len = 0;

    ngx_http_webtorch_field_read(r, 0, text, 0, ngx_http_webtorch_field_find,
                                 &search);

    if (search.len == 0 && window + 1 == search.windows->nwindows) {
        search.len = sizeof("request") - 1;
        ngx_memcpy(name, "request", search.len);
    }

    return search.len;
}


static void
ngx_http_webtorch_field_find(void *data, const ngx_webtorch_field_t *field)
{
    uint32_t                           first;
    ngx_http_webtorch_field_search_t  *search;

    search = data;
    first = search->windows->nwindows;

    ngx_webtorch_windows_field(search->windows, field);

    if (search->window >= first && search->window < search->windows->nwindows)
    {
        search->len = ngx_min(field->name_len, NGX_WEBTORCH_FIELD_NAME);
        ngx_memcpy(search->name, field->name, search->len);
    }
}


static void
ngx_http_webtorch_field_header(void *data, const ngx_webtorch_part_t *name,
    const ngx_webtorch_part_t *value)
{
    ngx_webtorch_fields_header(data, name, value);
}


/* those that do not fit are scored apart from the others */

static void
ngx_http_webtorch_field_add_header(void *data, const ngx_webtorch_part_t *name,
    const ngx_webtorch_part_t *value)
{
    ngx_http_webtorch_headers_t   *headers;
    ngx_webtorch_scored_header_t  *header;

    headers = data;

    if (headers->n == NGX_HTTP_WEBTORCH_HEADERS) {
        ngx_webtorch_scored_headers(headers->scored, headers->list,
                                    headers->n);
        headers->n = 0;
    }

    header = &headers->list[headers->n++];
    header->name = *name;
    header->value = *value;
}


static void
ngx_http_webtorch_field_headers(ngx_http_request_t *r,
    ngx_http_webtorch_header_pt handler, void *data, ngx_webtorch_part_t *type)
{
    ngx_uint_t            i;
    ngx_list_part_t      *part;
    ngx_table_elt_t      *h;
    ngx_webtorch_part_t   name, value;

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        name.data = (char *) h[i].key.data;
        name.len = h[i].key.len;
        value.data = (char *) h[i].value.data;
        value.len = h[i].value.len;

        handler(data, &name, &value);
    }

    if (r->headers_in.content_type) {
        type->data = (char *) r->headers_in.content_type->value.data;
        type->len = r->headers_in.content_type->value.len;
    }
}


const char *
ngx_http_webtorch_field_features_strerror(ngx_int_t rc)
{
    switch (rc) {

    case NGX_HTTP_WEBTORCH_FIELDS_UNREAD:
        return "the body's charset is not known, or it is too deep or long";

    case NGX_HTTP_WEBTORCH_FIELDS_MANY:
        return "the fields have more than 65536 numbers or 4096 windows";

    case NGX_HTTP_WEBTORCH_FIELDS_NO_NET:
        return "its net cannot be evaluated, or is being replaced";

    default:
        return NULL;
    }
}
