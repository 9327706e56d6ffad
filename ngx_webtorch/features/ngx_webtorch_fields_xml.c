
/* Fields of XML and SOAP. */

#include "ngx_webtorch_fields_xml.h"
#include "ngx_webtorch_charset.h"

#include <string.h>
#include <strings.h>


typedef struct {
    ngx_webtorch_fields_t  *fields;
    const unsigned char    *p;
    const unsigned char    *last;
    uint32_t                depth;
    size_t                  names[NGX_WEBTORCH_FIELD_DEPTH + 1];
} ngx_webtorch_xml_t;


static void ngx_webtorch_xml_text(ngx_webtorch_xml_t *xml);
static void ngx_webtorch_xml_markup(ngx_webtorch_xml_t *xml);
static int ngx_webtorch_xml_section(ngx_webtorch_xml_t *xml, const char *begin,
    const char *end, uint32_t flags, size_t skip);
static void ngx_webtorch_xml_doctype(ngx_webtorch_xml_t *xml);
static void ngx_webtorch_xml_close(ngx_webtorch_xml_t *xml);
static void ngx_webtorch_xml_element(ngx_webtorch_xml_t *xml);
static void ngx_webtorch_xml_attribute(ngx_webtorch_xml_t *xml);
static void ngx_webtorch_xml_field(ngx_webtorch_xml_t *xml,
    const unsigned char *begin, const unsigned char *end, uint32_t flags);
static const unsigned char *ngx_webtorch_xml_name(const unsigned char *p,
    const unsigned char *last);


void
ngx_webtorch_fields_xml(ngx_webtorch_fields_t *fields,
    const unsigned char *data, size_t len)
{
    size_t              name;
    ngx_webtorch_xml_t  xml;

    xml.fields = fields;
    xml.p = data;
    xml.last = data + len;
    xml.depth = 0;
    xml.names[0] = fields->name_len;

    name = fields->name_len;

    while (xml.p < xml.last) {

        if (*xml.p == '<') {
            ngx_webtorch_xml_markup(&xml);

        } else {
            ngx_webtorch_xml_text(&xml);
        }
    }

    if (xml.depth) {
        fields->flaws |= NGX_WEBTORCH_FLAW_END;
    }

    ngx_webtorch_fields_leave(fields, name);
}


static void
ngx_webtorch_xml_text(ngx_webtorch_xml_t *xml)
{
    const unsigned char  *begin, *end;

    begin = xml->p;
    end = memchr(begin, '<', (size_t) (xml->last - begin));
    end = end ? end : xml->last;
    xml->p = end;

    while (begin < end && ngx_webtorch_charset_blank(*begin)) {
        begin++;
    }

    while (end > begin && ngx_webtorch_charset_blank(end[-1])) {
        end--;
    }

    ngx_webtorch_xml_field(xml, begin, end, 0);
}


static void
ngx_webtorch_xml_markup(ngx_webtorch_xml_t *xml)
{
    size_t  left;

    if (ngx_webtorch_xml_section(xml, "<![CDATA[", "]]>", 0, 9)
        || ngx_webtorch_xml_section(xml, "<!--", "-->",
                                    NGX_WEBTORCH_FIELD_MARKUP, 4))
    {
        return;
    }

    left = (size_t) (xml->last - xml->p);

    if (left > 5 && memcmp(xml->p, "<?xml", 5) == 0
        && ngx_webtorch_charset_blank(xml->p[5]))
    {
        /* the declaration says version and charset only */

        while (xml->p < xml->last && *xml->p != '>') {
            xml->p++;
        }

        xml->p += (xml->p < xml->last);
        return;
    }

    if (ngx_webtorch_xml_section(xml, "<?", "?>", NGX_WEBTORCH_FIELD_MARKUP, 0))
    {
        return;
    }

    if (left > 1 && xml->p[1] == '!') {
        ngx_webtorch_xml_doctype(xml);
        return;
    }

    if (left > 1 && xml->p[1] == '/') {
        ngx_webtorch_xml_close(xml);
        return;
    }

    ngx_webtorch_xml_element(xml);
}


/* skip: bytes of the begin that are not in the field; returns 1 if it is one */

static int
ngx_webtorch_xml_section(ngx_webtorch_xml_t *xml, const char *begin,
    const char *end, uint32_t flags, size_t skip)
{
    size_t                n, m;
    const unsigned char  *p, *from;

    n = strlen(begin);
    m = strlen(end);

    if ((size_t) (xml->last - xml->p) < n || memcmp(xml->p, begin, n) != 0) {
        return 0;
    }

    from = xml->p + skip;

    for (p = xml->p + n; (size_t) (xml->last - p) >= m; p++) {
        if (memcmp(p, end, m) == 0) {
            ngx_webtorch_xml_field(xml, from, p, flags);
            xml->p = p + m;
            return 1;
        }
    }

    xml->fields->flaws |= NGX_WEBTORCH_FLAW_END;
    ngx_webtorch_xml_field(xml, from, xml->last, flags);
    xml->p = xml->last;

    return 1;
}


/* all declarations together, with the brackets of an internal subset */

static void
ngx_webtorch_xml_doctype(ngx_webtorch_xml_t *xml)
{
    int                   brackets;
    unsigned char         quote;
    const unsigned char  *p;

    brackets = 0;
    quote = 0;

    for (p = xml->p; p < xml->last; p++) {

        if (quote) {
            quote = (*p == quote) ? 0 : quote;

        } else if (*p == '"' || *p == '\'') {
            quote = *p;

        } else if (*p == '[') {
            brackets++;

        } else if (*p == ']') {
            brackets--;

        } else if (*p == '>' && brackets <= 0) {
            break;
        }
    }

    ngx_webtorch_xml_field(xml, xml->p, p, NGX_WEBTORCH_FIELD_MARKUP);
    xml->p = (p < xml->last) ? p + 1 : p;
}


static void
ngx_webtorch_xml_close(ngx_webtorch_xml_t *xml)
{
    const unsigned char  *p;

    p = memchr(xml->p, '>', (size_t) (xml->last - xml->p));
    xml->p = p ? p + 1 : xml->last;

    if (xml->depth) {
        xml->depth--;

    } else {
        xml->fields->flaws |= NGX_WEBTORCH_FLAW_SYNTAX;
    }

    ngx_webtorch_fields_leave(xml->fields, xml->names[xml->depth]);
}


/* an element's name, without the prefix of its namespace, is in the path */

static void
ngx_webtorch_xml_element(ngx_webtorch_xml_t *xml)
{
    int                   deep;
    size_t                before;
    const unsigned char  *begin, *end, *colon;

    begin = xml->p + 1;
    end = ngx_webtorch_xml_name(begin, xml->last);

    if (end == begin) {

        /* "<" that opens nothing is text, with what follows */

        end = memchr(begin, '<', (size_t) (xml->last - begin));
        end = end ? end : xml->last;
        ngx_webtorch_xml_field(xml, xml->p, end, NGX_WEBTORCH_FIELD_SYNTAX);
        xml->fields->flaws |= NGX_WEBTORCH_FLAW_SYNTAX;
        xml->p = end;

        return;
    }

    before = xml->fields->name_len;
    deep = (xml->depth == NGX_WEBTORCH_FIELD_DEPTH);

    if (deep) {
        xml->fields->unread |= NGX_WEBTORCH_UNREAD_DEPTH;

    } else {
        xml->names[xml->depth++] = before;
    }

    colon = memchr(begin, ':', (size_t) (end - begin));
    begin = colon ? colon + 1 : begin;

    (void) ngx_webtorch_fields_enter(xml->fields, NGX_WEBTORCH_CODING_NONE,
                                     begin, (size_t) (end - begin));

    for (xml->p = end; xml->p < xml->last; /* void */ ) {

        if (ngx_webtorch_charset_blank(*xml->p)) {
            xml->p++;

        } else if (*xml->p == '>') {
            xml->p++;
            break;

        } else if (*xml->p == '/' && xml->last - xml->p > 1
                   && xml->p[1] == '>')
        {
            xml->p += 2;

            if (!deep) {
                xml->depth--;
            }

            ngx_webtorch_fields_leave(xml->fields, before);
            break;

        } else {
            ngx_webtorch_xml_attribute(xml);
        }
    }
}


static void
ngx_webtorch_xml_attribute(ngx_webtorch_xml_t *xml)
{
    size_t                before;
    const unsigned char  *name, *p, *end;

    name = xml->p;
    p = ngx_webtorch_xml_name(name, xml->last);

    if (p == name) {
        /* an invalid name: the rest of the tag is a field */

        end = memchr(p, '>', (size_t) (xml->last - p));
        end = end ? end : xml->last;

        ngx_webtorch_xml_field(xml, p, end, NGX_WEBTORCH_FIELD_SYNTAX);
        xml->fields->flaws |= NGX_WEBTORCH_FLAW_SYNTAX;
        xml->p = end;

        return;
    }

    end = p;

    while (p < xml->last && ngx_webtorch_charset_blank(*p)) {
        p++;
    }

    if (p == xml->last || *p != '=') {
        xml->fields->flaws |= NGX_WEBTORCH_FLAW_SYNTAX;
        xml->p = p;
        return;
    }

    p++;

    while (p < xml->last && ngx_webtorch_charset_blank(*p)) {
        p++;
    }

    before = ngx_webtorch_fields_enter(xml->fields, NGX_WEBTORCH_CODING_NONE,
                                       name, (size_t) (end - name));

    if (p < xml->last && (*p == '"' || *p == '\'')) {
        end = memchr(p + 1, *p, (size_t) (xml->last - p - 1));
        end = end ? end : xml->last;
        ngx_webtorch_xml_field(xml, p + 1, end, 0);
        xml->p = (end < xml->last) ? end + 1 : end;

    } else {
        for (end = p; end < xml->last && *end != '>'
                      && !ngx_webtorch_charset_blank(*end); end++)
        {
            /* void */
        }

        xml->fields->flaws |= NGX_WEBTORCH_FLAW_SYNTAX;
        ngx_webtorch_xml_field(xml, p, end, 0);
        xml->p = end;
    }

    ngx_webtorch_fields_leave(xml->fields, before);
}


static void
ngx_webtorch_xml_field(ngx_webtorch_xml_t *xml, const unsigned char *begin,
    const unsigned char *end, uint32_t flags)
{
    ngx_webtorch_raw_t  raw;

    raw.place = NGX_WEBTORCH_PLACE_XML;
    raw.coding = (flags & NGX_WEBTORCH_FIELD_MARKUP)
                 ? NGX_WEBTORCH_CODING_NONE : NGX_WEBTORCH_CODING_XML;
    raw.flags = flags;
    raw.data = begin;
    raw.len = (size_t) (end - begin);

    ngx_webtorch_fields_value(xml->fields, &raw);
}


static const unsigned char *
ngx_webtorch_xml_name(const unsigned char *p, const unsigned char *last)
{
    while (p < last
           && (ngx_webtorch_charset_alnum(*p) || *p == '_' || *p == '-'
               || *p == '.' || *p == ':' || *p >= 0x80))
    {
        p++;
    }

    return p;
}
