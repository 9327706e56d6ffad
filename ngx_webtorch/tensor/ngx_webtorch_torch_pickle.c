
/*
 * The pickle in an answer's file of torch.save(), in protocol 2.
 */

#include "ngx_webtorch_torch_pickle.h"

#include <string.h>


#define ngx_webtorch_pickle_text(p, text)                                     \
    ngx_webtorch_pickle_bytes(p, text, sizeof(text) - 1)


static char *ngx_webtorch_pickle_bytes(char *p, const char *data, size_t len);
static char *ngx_webtorch_pickle_string(char *p, const char *text);
static char *ngx_webtorch_pickle_number(char *p, int64_t n);
static char *ngx_webtorch_pickle_global(char *p, const char *module,
    const char *name);
static char *ngx_webtorch_pickle_tensor(char *p, const webtorch_spec_t *spec,
    uint32_t i, const ngx_webtorch_layout_t *layout);


/* torch's classes of storages by dtype; NULL: torch has none */

static const char  *const ngx_webtorch_pickle_storages[NGX_WEBTORCH_NDTYPES] = {
    "BoolStorage", "ByteStorage", NULL, NULL, NULL, "CharStorage",
    "ShortStorage", "IntStorage", "LongStorage", "HalfStorage",
    "BFloat16Storage", "FloatStorage", "DoubleStorage"
};


static char *
ngx_webtorch_pickle_bytes(char *p, const char *data, size_t len)
{
    memcpy(p, data, len);

    return p + len;
}


/* the opcode BINUNICODE */

static char *
ngx_webtorch_pickle_string(char *p, const char *text)
{
    uint32_t  len;

    len = (uint32_t) strlen(text);

    *p++ = 'X';
    memcpy(p, &len, sizeof(uint32_t));

    return ngx_webtorch_pickle_bytes(p + sizeof(uint32_t), text, len);
}


/* the opcode LONG1 */

static char *
ngx_webtorch_pickle_number(char *p, int64_t n)
{
    *p++ = '\x8a';
    *p++ = (char) sizeof(int64_t);
    memcpy(p, &n, sizeof(int64_t));

    return p + sizeof(int64_t);
}


/* the opcode GLOBAL */

static char *
ngx_webtorch_pickle_global(char *p, const char *module, const char *name)
{
    *p++ = 'c';
    p = ngx_webtorch_pickle_bytes(p, module, strlen(module));
    *p++ = '\n';
    p = ngx_webtorch_pickle_bytes(p, name, strlen(name));
    *p++ = '\n';

    return p;
}


/* a call of torch's function for a tensor: GLOBAL MARK ... TUPLE REDUCE */

static char *
ngx_webtorch_pickle_tensor(char *p, const webtorch_spec_t *spec, uint32_t i,
    const ngx_webtorch_layout_t *layout)
{
    char         key[4];
    int64_t      shape[NGX_WEBTORCH_ARRAY_DIMS];
    int64_t      strides[NGX_WEBTORCH_ARRAY_DIMS];
    int64_t      elements;
    uint32_t     ndim, k;
    const char  *storage;

    ndim = ngx_webtorch_array_shape(shape, spec, layout);
    storage = ngx_webtorch_pickle_storages[spec->dtype];
    *ngx_webtorch_torch_pickle_key(key, i) = '\0';

    for (elements = 1, k = ndim; k > 0; k--) {
        strides[k - 1] = elements;
        elements *= shape[k - 1];
    }

    p = ngx_webtorch_pickle_global(p, "torch._utils",
                                   storage ? "_rebuild_tensor_v2"
                                           : "_rebuild_tensor_v3");
    p = ngx_webtorch_pickle_text(p, "((");

    /* a persistent id: the storage */

    p = ngx_webtorch_pickle_string(p, "storage");

    if (storage) {
        p = ngx_webtorch_pickle_global(p, "torch", storage);

    } else {
        p = ngx_webtorch_pickle_global(p, "torch.storage", "UntypedStorage");
        elements *= ngx_webtorch_dtypes[spec->dtype].size;
    }

    p = ngx_webtorch_pickle_string(p, key);
    p = ngx_webtorch_pickle_string(p, "cpu");
    p = ngx_webtorch_pickle_number(p, elements);
    p = ngx_webtorch_pickle_text(p, "tQ");

    /* offset, sizes, strides, requires_grad, hooks */

    p = ngx_webtorch_pickle_number(p, 0);
    *p++ = '(';

    for (k = 0; k < ndim; k++) {
        p = ngx_webtorch_pickle_number(p, shape[k]);
    }

    p = ngx_webtorch_pickle_text(p, "t(");

    for (k = 0; k < ndim; k++) {
        p = ngx_webtorch_pickle_number(p, strides[k]);
    }

    p = ngx_webtorch_pickle_text(p, "t\x89");
    p = ngx_webtorch_pickle_global(p, "collections", "OrderedDict");
    p = ngx_webtorch_pickle_text(p, ")R");

    if (storage == NULL) {
        p = ngx_webtorch_pickle_global(p, "torch",
                                       ngx_webtorch_dtypes[spec->dtype].name);
    }

    return ngx_webtorch_pickle_text(p, "tR");
}


void
ngx_webtorch_torch_pickle_write(ngx_webtorch_torch_pickle_t *pickle,
    const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    char      *p;
    uint32_t   i, named;

    named = layout->named || n != 1;
    p = ngx_webtorch_pickle_text(pickle->text, "\x80\x02");

    if (named) {
        p = ngx_webtorch_pickle_text(p, "}(");
    }

    for (i = 0; i < n; i++) {
        if (named) {
            p = ngx_webtorch_pickle_string(p, specs[i].name);
        }

        p = ngx_webtorch_pickle_tensor(p, &specs[i], i, layout);
    }

    if (named) {
        *p++ = 'u';
    }

    *p++ = '.';

    pickle->len = (size_t) (p - pickle->text);
}


char *
ngx_webtorch_torch_pickle_key(char *p, uint32_t i)
{
    if (i > 9) {
        *p++ = (char) ('0' + i / 10);
    }

    *p++ = (char) ('0' + i % 10);

    return p;
}
