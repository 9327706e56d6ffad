
/* Fields of a path, a query and a form. */

#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_fields.h"

#include <string.h>


/* bytes of a part of a path that is a field whatever its bytes are */
#define NGX_WEBTORCH_PATH_LONG  16


static int ngx_webtorch_form_is_plain(const unsigned char *p, size_t len);
static int ngx_webtorch_form_is_named(const unsigned char *p,
    const unsigned char *last);
static void ngx_webtorch_form_parameter(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, const unsigned char *p,
    const unsigned char *last);


/* the path is a field, and so is each part of it that has unusual bytes */

void
ngx_webtorch_fields_path(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *path)
{
    size_t                len, name, before;
    unsigned char         number;
    ngx_webtorch_raw_t    raw;
    const unsigned char  *p, *last, *slash;

    if (path->len == 0) {
        return;
    }

    p = (const unsigned char *) path->data;
    last = p + path->len;

    raw.place = NGX_WEBTORCH_PLACE_PATH;
    raw.coding = NGX_WEBTORCH_CODING_PERCENT;
    raw.flags = NGX_WEBTORCH_FIELD_SYNTAX;
    raw.data = p;
    raw.len = path->len;

    name = ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                     (const unsigned char *) "path", 4);
    ngx_webtorch_fields_value(fields, &raw);

    raw.flags = 0;
    number = '0';

    for ( /* void */ ; p < last; p = slash + 1) {
        slash = memchr(p, '/', (size_t) (last - p));
        slash = slash ? slash : last;
        len = (size_t) (slash - p);

        /* a long part can be base64 as a whole */

        if (len == 0 || (len < NGX_WEBTORCH_PATH_LONG
                         && ngx_webtorch_form_is_plain(p, len)))
        {
            number += (len && number < '9');
            continue;
        }

        raw.data = p;
        raw.len = len;

        before = ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                           &number, 1);
        ngx_webtorch_fields_value(fields, &raw);
        ngx_webtorch_fields_leave(fields, before);

        number += (number < '9');
    }

    ngx_webtorch_fields_leave(fields, name);
}


static int
ngx_webtorch_form_is_plain(const unsigned char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if (!(ngx_webtorch_charset_alnum(p[i]) || p[i] == '_' || p[i] == '-'
              || p[i] == '.' || p[i] == '~'))
        {
            return 0;
        }
    }

    return 1;
}


void
ngx_webtorch_fields_query(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *query)
{
    size_t  name;

    name = ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                     (const unsigned char *) "query", 5);
    ngx_webtorch_fields_form(fields, NGX_WEBTORCH_PLACE_QUERY,
                             (const unsigned char *) query->data, query->len);
    ngx_webtorch_fields_leave(fields, name);
}


void
ngx_webtorch_fields_form(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, const unsigned char *p, size_t len)
{
    const unsigned char  *last, *end;

    if (len == 0) {
        return;
    }

    for (last = p + len; p < last; p = end + 1) {
        end = memchr(p, '&', (size_t) (last - p));
        end = end ? end : last;

        ngx_webtorch_form_parameter(fields, place, p, end);
    }
}


void
ngx_webtorch_fields_form_bytes(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, const unsigned char *p, size_t len)
{
    const unsigned char  *last, *end;

    for (last = p + len; p < last; p = end + 1) {
        end = memchr(p, '&', (size_t) (last - p));
        end = end ? end : last;

        if (ngx_webtorch_form_is_named(p, end)) {
            ngx_webtorch_form_parameter(fields, place, p, end);
        }
    }
}


/* text before "=", or text alone; escapes of a name count as its letters */

static int
ngx_webtorch_form_is_named(const unsigned char *p, const unsigned char *last)
{
    const unsigned char  *begin;

    for (begin = p; p < last && *p != '='; p++) {
        if (*p <= ' ' || *p >= 0x7f) {
            return 0;
        }
    }

    return p > begin;
}


static void
ngx_webtorch_form_parameter(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, const unsigned char *p,
    const unsigned char *last)
{
    size_t                name, n;
    ngx_webtorch_raw_t    raw;
    const unsigned char  *equals;

    if (p == last) {
        return;
    }

    raw.place = place;
    raw.coding = NGX_WEBTORCH_CODING_FORM;
    raw.flags = 0;

    name = fields->name_len;
    equals = memchr(p, '=', (size_t) (last - p));

    if (equals) {
        n = (size_t) (equals - p);

        (void) ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_FORM, p,
                                         n);
        ngx_webtorch_fields_key(fields, place, NGX_WEBTORCH_CODING_FORM, p, n);
        p = equals + 1;
    }

    raw.data = p;
    raw.len = (size_t) (last - p);

    ngx_webtorch_fields_charset(fields, raw.data, raw.len);
    ngx_webtorch_fields_value(fields, &raw);
    ngx_webtorch_fields_leave(fields, name);
}
