
/*
 * The table of formats, and the choice of one by Content-Type and Accept.
 */

#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_parameter.h"

#include <string.h>
#include <strings.h>


#define NGX_WEBTORCH_JSON_TYPE  "application/json"


/* a media range of an Accept header; the most exact one that fits counts */

typedef struct {
    const char  *type;
    size_t       len;
    unsigned     quality;                 /* thousandths */
} ngx_webtorch_range_t;


static unsigned ngx_webtorch_range_fits(const ngx_webtorch_range_t *range,
    const char *type);
static unsigned ngx_webtorch_type_quality(const char *type, const char *accept,
    size_t len);
static unsigned ngx_webtorch_codec_quality(const ngx_webtorch_codec_t *codec,
    const char *accept, size_t len);
static int ngx_webtorch_accept_is_empty(const char *accept, size_t len);


const ngx_webtorch_codec_t  *const ngx_webtorch_codecs[] = {
    &ngx_webtorch_codec_json,
    &ngx_webtorch_codec_npy,
    &ngx_webtorch_codec_npz,
    &ngx_webtorch_codec_safetensors,
    &ngx_webtorch_codec_raw,
    &ngx_webtorch_codec_torch7,
    &ngx_webtorch_codec_torch,
    &ngx_webtorch_codec_csv,
    &ngx_webtorch_codec_arrow,
    NULL
};


size_t
ngx_webtorch_type_len(const char *type, size_t len)
{
    const char  *p;

    p = memchr(type, ';', len);

    if (p != NULL) {
        len = (size_t) (p - type);
    }

    while (len && (type[len - 1] == ' ' || type[len - 1] == '\t')) {
        len--;
    }

    return len;
}


const ngx_webtorch_codec_t *
ngx_webtorch_codec_by_type(const char *type, size_t len)
{
    unsigned                     i;
    const char                  *known;
    const ngx_webtorch_codec_t  *const *codec;

    /* fast path: most clients send this type */

    if (len == sizeof(NGX_WEBTORCH_JSON_TYPE) - 1
        && memcmp(type, NGX_WEBTORCH_JSON_TYPE, len) == 0)
    {
        return &ngx_webtorch_codec_json;
    }

    len = ngx_webtorch_type_len(type, len);

    for (codec = ngx_webtorch_codecs; *codec; codec++) {
        for (i = 0; i < NGX_WEBTORCH_MAX_TYPES; i++) {
            known = (*codec)->types[i];

            if (known != NULL
                && strlen(known) == len
                && strncasecmp(known, type, len) == 0)
            {
                return *codec;
            }
        }
    }

    return NULL;
}


/*
 * Returns how exactly a range fits a type: 0: it does not, 1: any type fits, 2:
 * any subtype fits, 3: it is this type.
 */

static unsigned
ngx_webtorch_range_fits(const ngx_webtorch_range_t *range, const char *type)
{
    size_t  n;

    if (range->len == 3 && memcmp(range->type, "*/*", 3) == 0) {
        return 1;
    }

    n = strlen(type);

    if (range->len == n && strncasecmp(range->type, type, n) == 0) {
        return 3;
    }

    n = (size_t) (strchr(type, '/') - type) + 1;

    if (range->len == n + 1
        && range->type[n] == '*'
        && strncasecmp(range->type, type, n) == 0)
    {
        return 2;
    }

    return 0;
}


unsigned
ngx_webtorch_range_quality(const char *p, const char *end)
{
    unsigned  quality, digit;

    for ( ;; ) {
        p = memchr(p, ';', (size_t) (end - p));

        if (p == NULL) {
            return 1000;
        }

        p = ngx_webtorch_parameter_skip(p + 1, end);

        if (end - p >= 3 && (*p == 'q' || *p == 'Q') && p[1] == '=') {
            break;
        }
    }

    p += 2;

    if (*p != '0') {
        return 1000;
    }

    p++;

    if (p == end || *p != '.') {
        return 0;
    }

    quality = 0;

    for (digit = 100; digit; digit /= 10) {
        p++;

        if (p >= end || *p < '0' || *p > '9') {
            break;
        }

        quality += (unsigned) (*p - '0') * digit;
    }

    return quality;
}


/* returns the quality that an Accept header gives to a type */

static unsigned
ngx_webtorch_type_quality(const char *type, const char *accept, size_t len)
{
    unsigned               fits, best, quality;
    const char            *p, *end, *next;
    ngx_webtorch_range_t   range;

    best = 0;
    quality = 0;
    end = accept + len;

    for (p = accept; p < end; p = next + 1) {

        next = memchr(p, ',', (size_t) (end - p));

        if (next == NULL) {
            next = end;
        }

        range.type = ngx_webtorch_parameter_skip(p, next);
        range.len = ngx_webtorch_type_len(range.type,
                                          (size_t) (next - range.type));
        fits = ngx_webtorch_range_fits(&range, type);

        if (fits > best) {
            best = fits;
            quality = ngx_webtorch_range_quality(p, next);
        }
    }

    return quality;
}


static unsigned
ngx_webtorch_codec_quality(const ngx_webtorch_codec_t *codec,
    const char *accept, size_t len)
{
    unsigned  i, quality, best;

    best = 0;

    for (i = 0; i < NGX_WEBTORCH_MAX_TYPES && codec->types[i]; i++) {
        quality = ngx_webtorch_type_quality(codec->types[i], accept, len);

        if (quality > best) {
            best = quality;
        }
    }

    return best;
}


/* such a header names no type, and so excludes none */

static int
ngx_webtorch_accept_is_empty(const char *accept, size_t len)
{
    const char  *p, *end;

    end = accept + len;

    for (p = accept; p < end; p++) {
        if (*p != ' ' && *p != '\t' && *p != ',') {
            return 0;
        }
    }

    return 1;
}


const ngx_webtorch_codec_t *
ngx_webtorch_codec_by_accept(const char *accept, size_t len,
    const ngx_webtorch_codec_t *own, uint32_t n, uint32_t strings)
{
    unsigned                     quality, best;
    const ngx_webtorch_codec_t  *found, *const *codec;

    if (ngx_webtorch_accept_is_empty(accept, len)) {
        return ngx_webtorch_codec_holds(own, n, strings)
               ? own : &ngx_webtorch_codec_json;
    }

    found = NULL;
    best = 0;

    for (codec = ngx_webtorch_codecs; *codec; codec++) {

        if (!ngx_webtorch_codec_holds(*codec, n, strings)) {
            continue;
        }

        quality = ngx_webtorch_codec_quality(*codec, accept, len);

        if (quality > best || (quality && quality == best && *codec == own)) {
            found = *codec;
            best = quality;
        }
    }

    return found;
}


int
ngx_webtorch_codec_holds(const ngx_webtorch_codec_t *codec, uint32_t n,
    uint32_t strings)
{
    return (n <= 1 || codec->several) && (strings == 0 || codec->strings);
}


size_t
ngx_webtorch_codec_bound(const ngx_webtorch_codec_t *codec,
    const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size;
    uint32_t  i;

    size = codec->bound(specs, n, layout);

    for (i = 0; codec->frame && i < n; i++) {
        size += layout->rows * (size_t) specs[i].row_size;
    }

    return size;
}


char *
ngx_webtorch_codec_encode(const ngx_webtorch_codec_t *codec, char *p,
    const webtorch_spec_t *specs, uint32_t n, const void *const *data,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size;
    uint32_t  i;

    if (codec->encode) {
        return codec->encode(p, specs, n, data, layout);
    }

    for (i = 0; i < n; i++) {
        p = codec->frame(p, specs, n, i, data, layout);

        size = layout->rows * (size_t) specs[i].row_size;
        memcpy(p, data[i], size);
        p += size;
    }

    return codec->frame(p, specs, n, n, data, layout);
}
