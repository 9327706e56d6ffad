
/* Fields: names, values in pieces, and formats within values. */

#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_content.h"

#include <string.h>


#define NGX_WEBTORCH_USUAL_KEY  64


static void ngx_webtorch_fields_piece(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_raw_t *raw);
static int ngx_webtorch_fields_number(const unsigned char *p, size_t len);


void
ngx_webtorch_fields_value(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_raw_t *raw)
{
    size_t              left;
    ngx_webtorch_raw_t  piece;

    if (raw->len == 0) {
        return;
    }

    if (fields->nested == NGX_WEBTORCH_FIELD_NESTED) {
        fields->unread |= NGX_WEBTORCH_UNREAD_DEPTH;
        return;
    }

    piece = *raw;
    left = raw->len;

    for ( ;; ) {
        piece.len = (left > NGX_WEBTORCH_FIELD_PIECE) ? NGX_WEBTORCH_FIELD_PIECE
                                                      : left;

        ngx_webtorch_fields_piece(fields, &piece);

        if (left <= NGX_WEBTORCH_FIELD_PIECE) {
            break;
        }

        left -= NGX_WEBTORCH_FIELD_PIECE - NGX_WEBTORCH_FIELD_OVERLAP;
        piece.data += NGX_WEBTORCH_FIELD_PIECE - NGX_WEBTORCH_FIELD_OVERLAP;
        piece.flags |= NGX_WEBTORCH_FIELD_MORE;
    }
}


void
ngx_webtorch_fields_plain(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, uint32_t flags, const unsigned char *data,
    size_t len)
{
    ngx_webtorch_raw_t  raw;

    raw.place = place;
    raw.coding = NGX_WEBTORCH_CODING_NONE;
    raw.flags = flags;
    raw.data = data;
    raw.len = len;

    ngx_webtorch_fields_value(fields, &raw);
}


static void
ngx_webtorch_fields_piece(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_raw_t *raw)
{
    size_t                 len;
    unsigned char         *value;
    ngx_webtorch_field_t   field;

    /* a value of another value is decoded from the latter's memory */

    value = fields->value[fields->nested];

    memcpy(value, raw->data, raw->len);

    field.place = raw->place;
    field.decoded = 0;
    field.flags = raw->flags;

    len = ngx_webtorch_decoding_format(value, raw->len, raw->coding,
                                       &field.decoded);
    len = ngx_webtorch_decoding_value(value, len, fields->scratch,
                                      &field.decoded, &field.flags);

    if (len == 0) {
        return;
    }

    if (ngx_webtorch_fields_number(value, len)) {
        fields->numbers++;
        return;
    }

    field.name = fields->name;
    field.name_len = fields->name_len;
    field.value = value;
    field.len = len;

    if (fields->format(fields, &field)) {
        return;
    }

    fields->count++;
    fields->handler(fields->data, &field);
}


/* numbers, also with a sign, fraction and exponent */

static int
ngx_webtorch_fields_number(const unsigned char *p, size_t len)
{
    size_t  i, digits, dots;

    digits = 0;
    dots = 0;

    for (i = (p[0] == '-'); i < len; i++) {

        if (p[i] >= '0' && p[i] <= '9') {
            digits++;
            continue;
        }

        /* with more of them it is an address */

        if (p[i] == '.' && dots++ == 0) {
            continue;
        }

        if ((p[i] | 0x20) == 'e' && digits && len - i < 6 && len - i > 1) {
            i += (p[i + 1] == '-' || p[i + 1] == '+');
            continue;
        }

        return 0;
    }

    return digits != 0;
}


void
ngx_webtorch_fields_key(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_place_e place, ngx_webtorch_coding_e coding,
    const unsigned char *data, size_t len)
{
    size_t              i;
    unsigned char       c;
    ngx_webtorch_raw_t  raw;

    for (i = 0; i < len && len <= NGX_WEBTORCH_USUAL_KEY; i++) {
        c = data[i];

        if (!(ngx_webtorch_charset_alnum(c) || c == '_' || c == '-' || c == '.'
              || c == ':' || c == '[' || c == ']'))
        {
            break;
        }
    }

    if (i == len) {
        return;
    }

    raw.place = place;
    raw.coding = coding;
    raw.flags = NGX_WEBTORCH_FIELD_KEY;
    raw.data = data;
    raw.len = len;

    ngx_webtorch_fields_value(fields, &raw);
}


size_t
ngx_webtorch_fields_enter(ngx_webtorch_fields_t *fields,
    ngx_webtorch_coding_e coding, const unsigned char *data, size_t len)
{
    char      *name;
    size_t     i, n, before;
    uint32_t   decoded;

    before = fields->name_len;
    n = before;

    if (n && n < NGX_WEBTORCH_FIELD_NAME) {
        fields->name[n++] = '.';
    }

    name = fields->name + n;

    if (len > NGX_WEBTORCH_FIELD_NAME - n) {
        len = NGX_WEBTORCH_FIELD_NAME - n;
    }

    if (len) {
        memcpy(name, data, len);

        decoded = 0;
        len = ngx_webtorch_decoding_format((unsigned char *) name, len, coding,
                                           &decoded);
    }

    /* names are for logs, too */

    for (i = 0; i < len; i++) {
        if ((unsigned char) name[i] < ' ' || name[i] == 0x7f) {
            name[i] = '?';
        }
    }

    fields->name_len = n + len;

    return before;
}


void
ngx_webtorch_fields_charset(ngx_webtorch_fields_t *fields,
    const unsigned char *data, size_t len)
{
    static const char  name[] = "body._charset_";

    if (fields->name_len != sizeof(name) - 1
        || memcmp(fields->name, name, sizeof(name) - 1) != 0)
    {
        return;
    }

    if (!ngx_webtorch_charset_is_known((const char *) data, len)) {
        fields->unread |= NGX_WEBTORCH_UNREAD_CHARSET;
    }
}
