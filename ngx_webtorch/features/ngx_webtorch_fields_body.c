
/* A body: its encoding, its charset, and its format. */

#include "ngx_webtorch_charset.h"
#include "ngx_webtorch_content.h"
#include "ngx_webtorch_fields_graphql.h"
#include "ngx_webtorch_fields_json.h"
#include "ngx_webtorch_fields_multipart.h"
#include "ngx_webtorch_fields_xml.h"

#include <string.h>
#include <strings.h>
#include <zlib.h>


/* bytes that zlib allocates at most for a window of 32 KB */
#define NGX_WEBTORCH_BODY_INFLATE  (48 * 1024)


static int ngx_webtorch_fields_format(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_field_t *field);
static void ngx_webtorch_body_read(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, const ngx_webtorch_part_t *body);
static ngx_webtorch_type_e ngx_webtorch_body_detect(
    ngx_webtorch_fields_t *fields, ngx_webtorch_type_e declared,
    const ngx_webtorch_part_t *body);
static ngx_webtorch_type_e ngx_webtorch_body_format(
    ngx_webtorch_type_e declared, ngx_webtorch_type_e detected,
    const unsigned char *p, size_t len);
static int ngx_webtorch_body_decode(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *encoding, ngx_webtorch_part_t *body);
static int ngx_webtorch_body_inflate(ngx_webtorch_fields_t *fields, int bits,
    ngx_webtorch_part_t *body);
static void *ngx_webtorch_body_alloc(void *opaque, unsigned int items,
    unsigned int size);
static void ngx_webtorch_body_free(void *opaque, void *address);
static void ngx_webtorch_body_charset(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, ngx_webtorch_part_t *body);


void
ngx_webtorch_fields_init(ngx_webtorch_fields_t *fields,
    ngx_webtorch_field_pt handler, void *data)
{
    fields->handler = handler;
    fields->format = ngx_webtorch_fields_format;
    fields->data = data;
    fields->work = NULL;
    fields->work_size = 0;
    fields->unread = 0;
    fields->flaws = 0;
    fields->count = 0;
    fields->numbers = 0;
    fields->nested = 0;
    fields->binary = 0;
    fields->json_lens = 0;
    fields->json_len = 0;
    fields->name_len = 0;
}


void
ngx_webtorch_fields_body(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, const ngx_webtorch_part_t *encoding,
    const ngx_webtorch_part_t *received)
{
    size_t               name;
    ngx_webtorch_part_t  body;

    body = *received;

    if (body.len == 0 || !ngx_webtorch_body_decode(fields, encoding, &body)) {
        return;
    }

    ngx_webtorch_body_charset(fields, type, &body);

    name = ngx_webtorch_fields_enter(fields, NGX_WEBTORCH_CODING_NONE,
                                     (const unsigned char *) "body", 4);

    ngx_webtorch_body_read(fields, type, &body);

    ngx_webtorch_fields_leave(fields, name);
}


static void
ngx_webtorch_body_read(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, const ngx_webtorch_part_t *body)
{
    size_t                len;
    ngx_webtorch_type_e   declared, detected;
    const unsigned char  *p;

    p = (const unsigned char *) body->data;
    len = body->len;

    declared = ngx_webtorch_content_type(type);
    detected = ngx_webtorch_body_detect(fields, declared, body);

    if (declared == NGX_WEBTORCH_TYPE_GRAPHQL
        && detected != NGX_WEBTORCH_TYPE_XML
        && detected != NGX_WEBTORCH_TYPE_MULTIPART
        && detected != NGX_WEBTORCH_TYPE_FORM
        && ngx_webtorch_fields_graphql(fields, NGX_WEBTORCH_CODING_NONE, p,
                                       len))
    {
        return;
    }

    switch (ngx_webtorch_body_format(declared, detected, p, len)) {

    case NGX_WEBTORCH_TYPE_JSON:
        ngx_webtorch_fields_json(fields, NGX_WEBTORCH_PLACE_JSON, p, len);
        break;

    case NGX_WEBTORCH_TYPE_XML:
        ngx_webtorch_fields_xml(fields, p, len);
        break;

    case NGX_WEBTORCH_TYPE_MULTIPART:
        ngx_webtorch_fields_multipart(fields, type, p, len);
        break;

    case NGX_WEBTORCH_TYPE_FORM:

        if (detected == NGX_WEBTORCH_TYPE_BINARY) {
            ngx_webtorch_fields_form_bytes(fields, NGX_WEBTORCH_PLACE_FORM, p,
                                           len);
            break;
        }

        ngx_webtorch_fields_form(fields, NGX_WEBTORCH_PLACE_FORM, p, len);
        break;

    case NGX_WEBTORCH_TYPE_BINARY:
        fields->binary = 1;
        break;

    default:
        ngx_webtorch_fields_plain(fields, NGX_WEBTORCH_PLACE_TEXT, 0, p, len);
        break;
    }
}


/* what is declared as multipart is read so: the type has the boundary */

static ngx_webtorch_type_e
ngx_webtorch_body_detect(ngx_webtorch_fields_t *fields,
    ngx_webtorch_type_e declared, const ngx_webtorch_part_t *body)
{
    ngx_webtorch_part_t  head;
    ngx_webtorch_type_e  detected;

    if (declared == NGX_WEBTORCH_TYPE_MULTIPART) {
        return declared;
    }

    head = *body;

    if (fields->json_len && fields->json_len < body->len) {
        head.len = fields->json_len;
    }

    detected = ngx_webtorch_content_look(&head);

    if (declared != NGX_WEBTORCH_TYPE_NONE && declared != detected
        && declared != NGX_WEBTORCH_TYPE_TEXT
        && declared != NGX_WEBTORCH_TYPE_GRAPHQL)
    {
        fields->flaws |= NGX_WEBTORCH_FLAW_TYPE;
    }

    return detected;
}


/*
 * The format by which a body is read.  The detected one decides, as
 * applications often ignore the type; the declared one does where nothing was
 * detected.
 */

static ngx_webtorch_type_e
ngx_webtorch_body_format(ngx_webtorch_type_e declared,
    ngx_webtorch_type_e detected, const unsigned char *p, size_t len)
{
    switch (detected) {

    case NGX_WEBTORCH_TYPE_JSON:
    case NGX_WEBTORCH_TYPE_XML:
    case NGX_WEBTORCH_TYPE_MULTIPART:
        return detected;

    case NGX_WEBTORCH_TYPE_FORM:
        return (declared == NGX_WEBTORCH_TYPE_TEXT) ? declared : detected;

    case NGX_WEBTORCH_TYPE_BINARY:

        /* form parsers also read bytes that are not text */

        if (declared == NGX_WEBTORCH_TYPE_FORM
            || (declared == NGX_WEBTORCH_TYPE_TEXT
                && !ngx_webtorch_content_is_known(p, len))
            || (declared == NGX_WEBTORCH_TYPE_XML && *p == '<'))
        {
            return declared;
        }

        return detected;

    default:

        if (declared == NGX_WEBTORCH_TYPE_FORM
            || declared == NGX_WEBTORCH_TYPE_JSON
            || declared == NGX_WEBTORCH_TYPE_XML)
        {
            return declared;
        }

        return NGX_WEBTORCH_TYPE_TEXT;
    }
}


/* returns 0 if the body cannot be read */

static int
ngx_webtorch_body_decode(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *encoding, ngx_webtorch_part_t *body)
{
    const unsigned char  *p;

    if (encoding->len == 0
        || (encoding->len == 8
            && strncasecmp(encoding->data, "identity", 8) == 0))
    {
        return 1;
    }

    p = (const unsigned char *) body->data;

    if (ngx_webtorch_content_contains(encoding, "gzip")
        || ngx_webtorch_content_contains(encoding, "deflate"))
    {
        if (body->len > 2 && p[0] == 0x1f && p[1] == 0x8b) {
            return ngx_webtorch_body_inflate(fields, 16 + MAX_WBITS, body);
        }

        if (body->len > 2 && (p[0] & 0x0f) == 8
            && ((uint32_t) p[0] << 8 | p[1]) % 31 == 0)
        {
            return ngx_webtorch_body_inflate(fields, MAX_WBITS, body);
        }

        /* without an encoding in fact, or deflate without its header */

        if (ngx_webtorch_charset_is_text(p, body->len < NGX_WEBTORCH_BODY_LOOK
                                             ? body->len
                                             : NGX_WEBTORCH_BODY_LOOK))
        {
            fields->flaws |= NGX_WEBTORCH_FLAW_TYPE;
            return 1;
        }

        if (ngx_webtorch_content_contains(encoding, "deflate")) {
            return ngx_webtorch_body_inflate(fields, -MAX_WBITS, body);
        }
    }

    fields->unread |= NGX_WEBTORCH_UNREAD_ENCODING;

    return 0;
}


/* zlib's state is at the end of the memory for the body */

static int
ngx_webtorch_body_inflate(ngx_webtorch_fields_t *fields, int bits,
    ngx_webtorch_part_t *body)
{
    int             rc;
    z_stream        stream;
    ngx_webtorch_part_t  arena;

    if (fields->work_size <= NGX_WEBTORCH_BODY_INFLATE
        || (const unsigned char *) body->data == fields->work)
    {
        fields->unread |= NGX_WEBTORCH_UNREAD_ENCODING;
        return 0;
    }

    arena.data = (const char *) fields->work + fields->work_size
                 - NGX_WEBTORCH_BODY_INFLATE;
    arena.len = NGX_WEBTORCH_BODY_INFLATE;

    memset(&stream, 0, sizeof(z_stream));

    stream.zalloc = ngx_webtorch_body_alloc;
    stream.zfree = ngx_webtorch_body_free;
    stream.opaque = &arena;

    if (inflateInit2(&stream, bits) != Z_OK) {
        fields->unread |= NGX_WEBTORCH_UNREAD_ENCODING;
        return 0;
    }

    stream.next_in = (unsigned char *) body->data;
    stream.avail_in = (uInt) body->len;
    stream.next_out = fields->work;
    stream.avail_out = (uInt) (fields->work_size - NGX_WEBTORCH_BODY_INFLATE);

    rc = inflate(&stream, Z_FINISH);

    body->data = (const char *) fields->work;
    body->len = (size_t) stream.total_out;

    (void) inflateEnd(&stream);

    if (rc == Z_BUF_ERROR && stream.avail_out == 0) {
        fields->unread |= NGX_WEBTORCH_UNREAD_SIZE;

    } else if (rc != Z_STREAM_END) {
        fields->flaws |= NGX_WEBTORCH_FLAW_END;
    }

    /* a truncated body is read up to its end */

    return body->len != 0;
}


static void *
ngx_webtorch_body_alloc(void *opaque, unsigned int items, unsigned int size)
{
    size_t                n;
    void                 *p;
    ngx_webtorch_part_t  *arena;

    arena = opaque;
    n = ((size_t) items * size + 63) & ~(size_t) 63;

    /* the memory may begin anywhere */

    p = (void *) (((uintptr_t) arena->data + 63) & ~(uintptr_t) 63);

    if ((uintptr_t) p + n > (uintptr_t) arena->data + arena->len) {
        return NULL;
    }

    arena->len -= (size_t) ((uintptr_t) p + n - (uintptr_t) arena->data);
    arena->data = (const char *) p + n;

    return p;
}


static void
ngx_webtorch_body_free(void *opaque, void *address)
{
    (void) opaque;
    (void) address;
}


/* UTF-16 by its mark or its charset; ASCII and its supersets are as they are */

static void
ngx_webtorch_body_charset(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_part_t *type, ngx_webtorch_part_t *body)
{
    int                   big, wide;
    size_t                skip;
    const unsigned char  *p;

    if (!ngx_webtorch_content_charset(type)) {
        fields->unread |= NGX_WEBTORCH_UNREAD_CHARSET;
    }

    p = (const unsigned char *) body->data;

    if (body->len > 3 && p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf) {
        body->data += 3;
        body->len -= 3;
        return;
    }

    if (body->len < 4) {
        return;
    }

    wide = 0;
    skip = 0;
    big = 0;

    if ((p[0] == 0xff && p[1] == 0xfe) || (p[0] == 0xfe && p[1] == 0xff)) {
        wide = 1;
        big = (p[0] == 0xfe);
        skip = 2;

    } else if (ngx_webtorch_content_contains(type, "utf-16")) {
        wide = 1;
        big = (p[0] == 0);

    } else if ((p[0] == 0) != (p[1] == 0) && (p[2] == 0) == (p[0] == 0)
               && (p[3] == 0) == (p[1] == 0)
               && (p[0] == '<' || p[1] == '<' || p[0] == '{' || p[1] == '{'))
    {
        wide = 1;
        big = (p[0] == 0);
    }

    if (!wide) {
        return;
    }

    /* the decoded body is read, and cannot be decoded to where it is */

    if (fields->work_size == 0 || p == fields->work) {
        fields->unread |= NGX_WEBTORCH_UNREAD_CHARSET;
        return;
    }

    if ((body->len - skip) / 2 > fields->work_size) {
        fields->unread |= NGX_WEBTORCH_UNREAD_SIZE;
    }

    body->len = ngx_webtorch_charset_utf16(fields->work, fields->work_size,
                                            p + skip, body->len - skip, big);
    body->data = (const char *) fields->work;
}


/* JSON in a value, unless it is cut; returns 1 if it was read */

static int
ngx_webtorch_fields_format(ngx_webtorch_fields_t *fields,
    const ngx_webtorch_field_t *field)
{
    size_t        len;
    unsigned char  c;

    if (fields->nested + 1 == NGX_WEBTORCH_FIELD_NESTED
        || (field->flags & (NGX_WEBTORCH_FIELD_KEY | NGX_WEBTORCH_FIELD_MORE)))
    {
        return 0;
    }

    c = field->value[0];
    len = field->len;

    if (c != '{' && c != '[') {
        return 0;
    }

    if (!ngx_webtorch_json_is_valid(field->value, len)) {
        return 0;
    }

    fields->nested++;
    ngx_webtorch_fields_json(fields, field->place, field->value, len);
    fields->nested--;

    return 1;
}
