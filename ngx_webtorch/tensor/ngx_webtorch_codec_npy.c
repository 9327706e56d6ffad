
/*
 * .npy: one array as numpy.save() writes it, see numpy.lib.format.  Arrays of
 * Python objects are refused: only pickle could read them.
 */

#include "ngx_webtorch_npy.h"

#include <inttypes.h>
#include <string.h>


#define NGX_WEBTORCH_NPY_MAGIC      "\x93NUMPY"
#define NGX_WEBTORCH_NPY_MAGIC_LEN  6

/* a longer "descr" is that of a structured array */
#define NGX_WEBTORCH_NPY_DESCR_LEN  16


/* a header and the place where it is parsed */

typedef struct {
    const char            *p;
    const char            *end;
    const char            *name;
    ngx_webtorch_error_t  *err;

    char                   descr[NGX_WEBTORCH_NPY_DESCR_LEN];
    unsigned               fortran;
    unsigned               seen;          /* bits of keys */
} ngx_webtorch_npy_t;


static int ngx_webtorch_npy_malformed(const ngx_webtorch_npy_t *npy,
    const char *what);
static void ngx_webtorch_npy_space(ngx_webtorch_npy_t *npy);
static int ngx_webtorch_npy_take(ngx_webtorch_npy_t *npy, char c);
static int ngx_webtorch_npy_word(ngx_webtorch_npy_t *npy, const char *word);
static int ngx_webtorch_npy_string(ngx_webtorch_npy_t *npy, char *text,
    size_t size);
static int ngx_webtorch_npy_size(ngx_webtorch_npy_t *npy, int64_t *size);
static int ngx_webtorch_npy_shape(ngx_webtorch_npy_t *npy,
    ngx_webtorch_array_t *array);
static int ngx_webtorch_npy_item(ngx_webtorch_npy_t *npy,
    ngx_webtorch_array_t *array);
static int ngx_webtorch_npy_dict(ngx_webtorch_npy_t *npy,
    ngx_webtorch_array_t *array);
static int ngx_webtorch_npy_dtype(const ngx_webtorch_npy_t *npy);
static char *ngx_webtorch_npy_text(char *p, const char *text);
static char *ngx_webtorch_npy_number(char *p, int64_t n);
static int ngx_webtorch_npy_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err);
static size_t ngx_webtorch_npy_bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout);
static char *ngx_webtorch_npy_frame(char *p, const webtorch_spec_t *specs,
    uint32_t n, uint32_t i, const void *const *data,
    const ngx_webtorch_layout_t *layout);


/* NumPy has no bfloat16: arrays of ml_dtypes' bfloat16 are saved as V2 */

static const char  *const ngx_webtorch_npy_descrs[NGX_WEBTORCH_NDTYPES] = {
    [WEBTORCH_BOOL] =     "|b1",
    [WEBTORCH_UINT8] =    "|u1",
    [WEBTORCH_UINT16] =   "<u2",
    [WEBTORCH_UINT32] =   "<u4",
    [WEBTORCH_UINT64] =   "<u8",
    [WEBTORCH_INT8] =     "|i1",
    [WEBTORCH_INT16] =    "<i2",
    [WEBTORCH_INT32] =    "<i4",
    [WEBTORCH_INT64] =    "<i8",
    [WEBTORCH_FLOAT16] =  "<f2",
    [WEBTORCH_BFLOAT16] = "<V2",
    [WEBTORCH_FLOAT32] =  "<f4",
    [WEBTORCH_FLOAT64] =  "<f8",
};


const ngx_webtorch_codec_t  ngx_webtorch_codec_npy = {
    .name = "npy",
    .types = { "application/x-npy", "application/npy" },
    .decode = ngx_webtorch_npy_decode,
    .bound = ngx_webtorch_npy_bound,
    .frame = ngx_webtorch_npy_frame
};


static int
ngx_webtorch_npy_malformed(const ngx_webtorch_npy_t *npy, const char *what)
{
    return ngx_webtorch_error(npy->err, 400, "malformed_body",
                              "invalid .npy: %s", what);
}


static void
ngx_webtorch_npy_space(ngx_webtorch_npy_t *npy)
{
    while (npy->p < npy->end
           && (*npy->p == ' ' || *npy->p == '\n' || *npy->p == '\t'))
    {
        npy->p++;
    }
}


/* skips spaces, and takes the next character if it is c */

static int
ngx_webtorch_npy_take(ngx_webtorch_npy_t *npy, char c)
{
    ngx_webtorch_npy_space(npy);

    if (npy->p == npy->end || *npy->p != c) {
        return 0;
    }

    npy->p++;

    return 1;
}


static int
ngx_webtorch_npy_word(ngx_webtorch_npy_t *npy, const char *word)
{
    size_t  len;

    len = strlen(word);

    ngx_webtorch_npy_space(npy);

    if ((size_t) (npy->end - npy->p) < len || memcmp(npy->p, word, len) != 0) {
        return 0;
    }

    npy->p += len;

    return 1;
}


/* reads a string in single or double quotes, without escapes */

static int
ngx_webtorch_npy_string(ngx_webtorch_npy_t *npy, char *text, size_t size)
{
    char         quote;
    size_t       len;
    const char  *last;

    if (ngx_webtorch_npy_take(npy, '\'')) {
        quote = '\'';

    } else if (ngx_webtorch_npy_take(npy, '"')) {
        quote = '"';

    } else {
        return -1;
    }

    last = memchr(npy->p, quote, (size_t) (npy->end - npy->p));

    if (last == NULL) {
        return -1;
    }

    len = (size_t) (last - npy->p);

    if (len >= size) {
        return -1;
    }

    memcpy(text, npy->p, len);
    text[len] = '\0';

    npy->p = last + 1;

    return 0;
}


static int
ngx_webtorch_npy_size(ngx_webtorch_npy_t *npy, int64_t *size)
{
    int64_t      n;
    const char  *start;

    ngx_webtorch_npy_space(npy);

    n = 0;

    for (start = npy->p; npy->p < npy->end; npy->p++) {

        if (*npy->p < '0' || *npy->p > '9') {
            break;
        }

        if (n > (INT64_MAX - 9) / 10) {
            return -1;
        }

        n = n * 10 + (*npy->p - '0');
    }

    if (npy->p == start) {
        return -1;
    }

    /* a long integer of Python 2 */

    if (npy->p < npy->end && *npy->p == 'L') {
        npy->p++;
    }

    *size = n;

    return 0;
}


/* parses (), (3,) or (3, 2), with or without a last comma */

static int
ngx_webtorch_npy_shape(ngx_webtorch_npy_t *npy, ngx_webtorch_array_t *array)
{
    if (!ngx_webtorch_npy_take(npy, '(')) {
        return ngx_webtorch_npy_malformed(npy, "the shape is not a tuple");
    }

    array->ndim = 0;

    while (!ngx_webtorch_npy_take(npy, ')')) {

        if (array->ndim == NGX_WEBTORCH_ARRAY_DIMS) {
            return ngx_webtorch_error(npy->err, 422, "wrong_shape",
                       "tensor \"%s\": found more than %d axes", npy->name,
                       NGX_WEBTORCH_ARRAY_DIMS);
        }

        if (ngx_webtorch_npy_size(npy, &array->shape[array->ndim]) != 0) {
            return ngx_webtorch_npy_malformed(npy, "a size is not a number");
        }

        array->ndim++;

        if (!ngx_webtorch_npy_take(npy, ',')
            && (npy->p == npy->end || *npy->p != ')'))
        {
            return ngx_webtorch_npy_malformed(npy, "the shape is not a tuple");
        }
    }

    return 0;
}


static int
ngx_webtorch_npy_item(ngx_webtorch_npy_t *npy, ngx_webtorch_array_t *array)
{
    char      key[sizeof("fortran_order")];
    unsigned  bit;

    if (ngx_webtorch_npy_string(npy, key, sizeof(key)) != 0
        || !ngx_webtorch_npy_take(npy, ':'))
    {
        return ngx_webtorch_npy_malformed(npy, "the header is not a dict");
    }

    if (strcmp(key, "descr") == 0) {
        bit = 1;

        if (ngx_webtorch_npy_string(npy, npy->descr, sizeof(npy->descr))
            != 0)
        {
            return ngx_webtorch_error(npy->err, 422, "wrong_dtype",
                       "tensor \"%s\": the array's dtype is structured",
                       npy->name);
        }

    } else if (strcmp(key, "fortran_order") == 0) {
        bit = 2;
        npy->fortran = ngx_webtorch_npy_word(npy, "True");

        if (!npy->fortran && !ngx_webtorch_npy_word(npy, "False")) {
            return ngx_webtorch_npy_malformed(npy,
                                              "fortran_order is not a bool");
        }

    } else if (strcmp(key, "shape") == 0) {
        bit = 4;

        if (ngx_webtorch_npy_shape(npy, array) != 0) {
            return -1;
        }

    } else {
        return ngx_webtorch_npy_malformed(npy, "the header has an unknown key");
    }

    if (npy->seen & bit) {
        return ngx_webtorch_npy_malformed(npy, "the header has a key twice");
    }

    npy->seen |= bit;

    return 0;
}


static int
ngx_webtorch_npy_dict(ngx_webtorch_npy_t *npy, ngx_webtorch_array_t *array)
{
    if (!ngx_webtorch_npy_take(npy, '{')) {
        return ngx_webtorch_npy_malformed(npy, "the header is not a dict");
    }

    while (!ngx_webtorch_npy_take(npy, '}')) {

        if (ngx_webtorch_npy_item(npy, array) != 0) {
            return -1;
        }

        if (!ngx_webtorch_npy_take(npy, ',')
            && (npy->p == npy->end || *npy->p != '}'))
        {
            return ngx_webtorch_npy_malformed(npy, "the header is not a dict");
        }
    }

    ngx_webtorch_npy_space(npy);

    if (npy->p != npy->end || npy->seen != 7) {
        return ngx_webtorch_npy_malformed(npy, "the header is not complete");
    }

    return 0;
}


static int
ngx_webtorch_npy_dtype(const ngx_webtorch_npy_t *npy)
{
    int          i;
    const char  *descr;

    /* "=" is the machine's byte order, which is little-endian; "|" is none */

    for (i = 0; i < NGX_WEBTORCH_NDTYPES; i++) {
        descr = ngx_webtorch_npy_descrs[i];

        if ((*npy->descr == '<' || *npy->descr == '=' || *npy->descr == '|')
            && strcmp(&npy->descr[1], &descr[1]) == 0)
        {
            return i;
        }
    }

    if (strcmp(npy->descr, "<c8") == 0 || strcmp(npy->descr, "<c16") == 0) {
        return ngx_webtorch_error(npy->err, 422, "wrong_dtype",
                   "tensor \"%s\": found an array of dtype \"%s\", a "
                   "conversion from %s would lose its imaginary part",
                   npy->name, npy->descr,
                   npy->descr[2] == '8' ? "complex64" : "complex128");
    }

    return ngx_webtorch_error(npy->err, 422, "wrong_dtype",
               "tensor \"%s\": found an array of dtype \"%s\"%s", npy->name,
               npy->descr,
               (*npy->descr == '>') ? ", little-endian is expected" : "");
}


int
ngx_webtorch_npy_parse(const char *file, size_t len, const char *name,
    ngx_webtorch_array_t *array, ngx_webtorch_error_t *err)
{
    size_t               size, header;
    const uint8_t       *u;
    ngx_webtorch_npy_t   npy;

    npy.name = name;
    npy.err = err;
    npy.seen = 0;
    npy.descr[0] = '\0';

    u = (const uint8_t *) file;

    if (len < 12
        || memcmp(file, NGX_WEBTORCH_NPY_MAGIC, NGX_WEBTORCH_NPY_MAGIC_LEN)
           != 0)
    {
        return ngx_webtorch_npy_malformed(&npy, "it has no magic string");
    }

    /* versions differ in the bytes of the length, and in the text's encoding */

    switch (u[6]) {

    case 1:
        header = 10;
        size = (size_t) u[8] | (size_t) u[9] << 8;
        break;

    case 2:
    case 3:
        header = 12;
        size = (size_t) u[8] | (size_t) u[9] << 8 | (size_t) u[10] << 16
               | (size_t) u[11] << 24;
        break;

    default:
        return ngx_webtorch_npy_malformed(&npy, "its version is unknown");
    }

    if (size > len - header) {
        return ngx_webtorch_npy_malformed(&npy, "the header is cut off");
    }

    npy.p = file + header;
    npy.end = npy.p + size;

    if (ngx_webtorch_npy_dict(&npy, array) != 0) {
        return -1;
    }

    array->dtype = ngx_webtorch_npy_dtype(&npy);

    if (array->dtype < 0) {
        return -1;
    }

    if (npy.fortran && array->ndim > 1) {
        return ngx_webtorch_error(err, 422, "wrong_shape",
                   "tensor \"%s\": the array is in Fortran order, send "
                   "numpy.ascontiguousarray() of it", name);
    }

    array->data = npy.end;
    array->len = len - header - size;

    return 0;
}


/* no sprintf(): it would take a tenth of the time of a small answer */

static char *
ngx_webtorch_npy_text(char *p, const char *text)
{
    size_t  len;

    len = strlen(text);
    memcpy(p, text, len);

    return p + len;
}


static char *
ngx_webtorch_npy_number(char *p, int64_t n)
{
    char  digits[20], *d;

    d = digits + sizeof(digits);

    do {
        *--d = (char) ('0' + n % 10);
        n /= 10;
    } while (n);

    memcpy(p, d, (size_t) (digits + sizeof(digits) - d));

    return p + (digits + sizeof(digits) - d);
}


char *
ngx_webtorch_npy_header(char *p, const webtorch_spec_t *spec,
    const ngx_webtorch_layout_t *layout)
{
    char      *text, *last;
    size_t     len;
    int64_t    shape[NGX_WEBTORCH_ARRAY_DIMS];
    uint32_t   i, ndim;

    ndim = ngx_webtorch_array_shape(shape, spec, layout);
    text = p + 10;

    last = ngx_webtorch_npy_text(text, "{'descr': '");
    last = ngx_webtorch_npy_text(last, ngx_webtorch_npy_descrs[spec->dtype]);
    last = ngx_webtorch_npy_text(last, "', 'fortran_order': False, "
                                       "'shape': (");

    for (i = 0; i < ndim; i++) {
        last = ngx_webtorch_npy_number(last, shape[i]);
        last = ngx_webtorch_npy_text(last, (ndim == 1) ? ","
                                           : (i + 1 < ndim) ? ", " : "");
    }

    last = ngx_webtorch_npy_text(last, "), }");

    len = ((size_t) (last - p) + 1 + 63) / 64 * 64 - 10;

    memset(last, ' ', len - (size_t) (last - text) - 1);
    text[len - 1] = '\n';

    memcpy(p, NGX_WEBTORCH_NPY_MAGIC "\x01\x00", 8);
    p[8] = (char) (len & 0xff);
    p[9] = (char) (len >> 8);

    return text + len;
}


static int
ngx_webtorch_npy_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    ngx_webtorch_array_t  array;

    if (schema->ninputs != 1) {
        return ngx_webtorch_error(err, 415, "unsupported_media_type",
                   ".npy carries one tensor, %" PRIu32 " are expected: send "
                   "application/vnd.safetensors or application/json",
                   schema->ninputs);
    }

    if (ngx_webtorch_npy_parse(body, len, schema->inputs[0].name, &array, err)
        != 0)
    {
        return -1;
    }

    layout->named = 0;

    return ngx_webtorch_arrays_read(&array, 1, schema, sink, layout, err);
}


static size_t
ngx_webtorch_npy_bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    return NGX_WEBTORCH_NPY_LEN;
}


static char *
ngx_webtorch_npy_frame(char *p, const webtorch_spec_t *specs, uint32_t n,
    uint32_t i, const void *const *data, const ngx_webtorch_layout_t *layout)
{
    return (i < n) ? ngx_webtorch_npy_header(p, &specs[i], layout) : p;
}
