
/*
 * Torch7's ASCII serialization, torch.serialize(tensor, "ascii").  A tensor is
 * written as whitespace-separated words; the version and the class, and only
 * they, are preceded by their length:
 *
 *     4  1  3 "V 1"  18 "torch.DoubleTensor"      object, its index
 *     2  1 2  2 1  1                              dims, sizes, strides, offset
 *     4  2  3 "V 1"  19 "torch.DoubleStorage"     object, its index
 *     2  0.25 0.75                                length, elements
 *
 * This file: requests.
 */

#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_dtype.hpp"
#include "ngx_webtorch_gaps.h"
#include "ngx_webtorch_torch7_read.hpp"
#include "ngx_webtorch_torch7_write.hpp"

#include <cinttypes>
#include <cstdint>
#include <new>
#include <string_view>

namespace {

using namespace webtorch::torch7;

/* the largest size and stride; a product of two does not overflow */
constexpr int64_t kMaxSize = int64_t { 1 } << 31;


struct Tensor {
    const Class  *cls;
    uint32_t      ndim;
    int64_t       size[WEBTORCH_MAX_DIMS];
    int64_t       stride[WEBTORCH_MAX_DIMS];
    int64_t       offset;                 /* from 0 */
    int64_t       storage;                /* elements */
};


bool
read_sizes(Reader &in, Tensor *t)
{
    int64_t  n;

    if (!in.integer(&n, "the number of dimensions expected")) {
        return false;
    }

    if (n < 1 || n > WEBTORCH_MAX_DIMS) {
        return in.malformed("between 1 and 8 dimensions expected");
    }

    t->ndim = static_cast<uint32_t>(n);

    for (uint32_t i = 0; i < t->ndim; i++) {
        if (!in.integer(&t->size[i], "a size expected")) {
            return false;
        }

        if (t->size[i] < 1 || t->size[i] > kMaxSize) {
            return in.malformed("a size is out of range");
        }
    }

    for (uint32_t i = 0; i < t->ndim; i++) {
        if (!in.integer(&t->stride[i], "a stride expected")) {
            return false;
        }

        if (t->stride[i] < 0 || t->stride[i] > kMaxSize) {
            return in.malformed("a stride is out of range");
        }
    }

    return true;
}


/* checks that all elements by sizes, strides and offset are in the storage */

bool
check_extent(Reader &in, const Tensor &t)
{
    int64_t  last = t.offset;

    /* products are below 2^62, and each is checked before the next is added */

    for (uint32_t i = 0; i < t.ndim; i++) {
        if (t.stride[i] != 0
            && t.size[i] - 1 > (t.storage - last) / t.stride[i])
        {
            return in.malformed("the tensor is larger than its storage");
        }

        last += (t.size[i] - 1) * t.stride[i];
    }

    return last < t.storage
           || in.malformed("the tensor is larger than its storage");
}


bool
read_header(Reader &in, Tensor *t)
{
    std::string_view  name;

    if (!in.object(&name)) {
        return false;
    }

    t->cls = nullptr;

    for (const Class *cls : kClasses) {
        if (cls->tensor == name) {
            t->cls = cls;
        }
    }

    if (t->cls == nullptr) {
        return in.malformed("the class is not one of Double-, Float-, Long-, "
                            "Int-, Short- and ByteTensor");
    }

    if (!read_sizes(in, t)
        || !in.integer(&t->offset, "the storage's offset expected"))
    {
        return false;
    }

    if (t->offset < 1 || t->offset > kMaxSize) {
        return in.malformed("the storage's offset is out of range");
    }

    t->offset--;

    if (!in.object(&name)) {
        return false;
    }

    if (name != t->cls->storage) {
        return in.malformed("the storage is not of the tensor's type");
    }

    if (!in.integer(&t->storage, "the storage's length expected")) {
        return false;
    }

    /* an element and its separator take two bytes: this bounds the claim */

    if (t->storage < 1
        || static_cast<uint64_t>(t->storage) > in.left() / 2)
    {
        return in.malformed("fewer elements than the storage's length");
    }

    return check_extent(in, *t);
}


/*
 * Elements are text: each class of the dtype's kind fits, and integers are
 * floats, too; whether they are in range is checked when they are read.
 */

bool
fits_dtype(const Class &cls, int32_t dtype)
{
    ngx_webtorch_kind_e  kind = ngx_webtorch_dtypes[dtype].kind;

    return kind == ngx_webtorch_dtypes[cls.dtype].kind
           || (kind == NGX_WEBTORCH_KIND_FLOAT)
           || (kind == NGX_WEBTORCH_KIND_BOOL && &cls == &kByte);
}


/* 0: the layout is set, 1: the tensor does not fit, -1: err is set */

int
read_layout(const Tensor &t, const webtorch_schema_t *schema,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    const webtorch_spec_t  &spec = schema->inputs[0];

    uint32_t  batch, ndim = static_cast<uint32_t>(spec.ndim);

    /* Torch7 has no tensors without dimensions: a scalar has one element */

    if (t.ndim == ndim || (ndim == 0 && t.ndim == 1 && !schema->batched)) {
        batch = 0;

    } else if (schema->batched && t.ndim == ndim + 1) {
        batch = 1;

    } else {
        return 1;
    }

    if (ndim == 0 && batch == 0 && t.size[0] != 1) {
        return 1;
    }

    layout->single = !batch;
    layout->named = 0;
    layout->rows = batch ? static_cast<uint32_t>(t.size[0]) : 1;

    ngx_webtorch_unbind(schema, layout);

    return ngx_webtorch_bind(schema, &spec, &t.size[batch], layout, err);
}


bool
is_contiguous(const Tensor &t)
{
    int64_t  n = 1;

    for (uint32_t i = t.ndim; i-- > 0; ) {
        if (t.size[i] != 1 && t.stride[i] != n) {
            return false;
        }

        n *= t.size[i];
    }

    return t.offset == 0 && n == t.storage;
}


/* copies elements of the storage, by sizes and strides, to rows */

template <typename T>
T *
gather(const Tensor &t, const T *storage, uint32_t axis, T *p)
{
    if (axis == t.ndim) {
        *p = *storage;
        return p + 1;
    }

    for (int64_t i = 0; i < t.size[axis]; i++) {
        p = gather(t, storage + i * t.stride[axis], axis + 1, p);
    }

    return p;
}


template <typename T>
bool
read_elements(Reader &in, const Tensor &t, T *p)
{
    bool  rc = true;
    T    *storage = p;

    if (!is_contiguous(t)) {
        /* no more elements than the body has bytes, see read_header() */
        storage = new (std::nothrow) T[static_cast<size_t>(t.storage)];

        if (storage == nullptr) {
            ngx_webtorch_error(in.err(), 500, "no_memory", "no memory");
            return false;
        }
    }

    for (int64_t i = 0; rc && i < t.storage; i++) {
        rc = in.element(&storage[i]);
    }

    if (storage != p) {
        if (rc) {
            gather(t, storage + t.offset, 0, p);
        }

        delete[] storage;
    }

    return rc;
}


bool
read_tensor(Reader &in, const Tensor &t, int32_t dtype, void *data)
{
    return webtorch::visit(dtype, [&](auto type) {
        using T = typename decltype(type)::type;

        return read_elements(in, t, static_cast<T *>(data));
    });
}


int
decode(const char *body, size_t len, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    int                     rc;
    char                    shape[NGX_WEBTORCH_SHAPE_LEN];
    Tensor                  t;
    Reader                  in(body, len, err);
    const webtorch_spec_t  &spec = schema->inputs[0];

    if (schema->ninputs != 1) {
        return ngx_webtorch_error(err, 415, "unsupported_media_type",
                   "Torch7 carries one tensor, %" PRIu32 " are expected: "
                   "send application/json", schema->ninputs);
    }

    if (!read_header(in, &t)) {
        return -1;
    }

    if (!fits_dtype(*t.cls, spec.dtype)) {
        return ngx_webtorch_error_mismatch(err, "wrong_dtype", schema, &spec,
                   ngx_webtorch_dtypes[t.cls->dtype].name,
                   ngx_webtorch_shape(shape, t.size, t.ndim));
    }

    rc = read_layout(t, schema, layout, err);

    if (rc == -1) {
        return -1;
    }

    /*
     * Strides of 0 repeat elements, so a tensor may be larger than its storage.
     * It must not have more elements than the body has bytes, or a small body
     * could make the server allocate any amount of memory.
     */

    if (rc == 1
        || layout->rows > ngx_webtorch_rows_of(&spec, layout->sizes, len))
    {
        return ngx_webtorch_error_mismatch(err, "wrong_shape", schema, &spec,
                   ngx_webtorch_dtypes[t.cls->dtype].name,
                   ngx_webtorch_shape(shape, t.size, t.ndim));
    }

    if (ngx_webtorch_gaps_reserve(schema, sink, layout, err) != 0
        || !read_tensor(in, t, spec.dtype, sink->data[0]))
    {
        return -1;
    }

    if (!in.at_end()) {
        in.malformed("more elements than the storage's length");
        return -1;
    }

    return 0;
}

} /* namespace */


const ngx_webtorch_codec_t  ngx_webtorch_codec_torch7 = {
    "torch7",
    { "text/plain" },
    0,
    0,
    0,
    0,
    decode,
    webtorch::torch7::bound,
    webtorch::torch7::encode,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    0,
    0
};
