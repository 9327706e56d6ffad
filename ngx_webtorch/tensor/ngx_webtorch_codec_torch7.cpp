
/*
 * Torch7's ASCII serialization, torch.serialize(tensor, "ascii").  A tensor is
 * written as whitespace-separated words; the version and the class, and only
 * they, are preceded by their length:
 *
 *     4  1  3 "V 1"  18 "torch.DoubleTensor"      object, its index
 *     2  1 2  2 1  1                              dims, sizes, strides, offset
 *     4  2  3 "V 1"  19 "torch.DoubleStorage"     object, its index
 *     2  0.25 0.75                                length, elements
 */

#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_dtype.hpp"

#include <charconv>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>

namespace {

using webtorch::BFloat16;
using webtorch::Float16;

/* of a serialized object that is a tensor or a storage */
constexpr int64_t kTypeTorch = 4;

/* sizes and strides beyond this are lies; products of two do not overflow */
constexpr int64_t kMaxSize = int64_t { 1 } << 31;

/* the longest text of a double and a space */
constexpr size_t kNumberLen = 25;

/* the words before the elements, without sizes and strides */
constexpr size_t kHeaderLen = 160;


struct Class {
    std::string_view     tensor;
    std::string_view     storage;
    int32_t              dtype;
};


constexpr Class kDouble = { "torch.DoubleTensor", "torch.DoubleStorage",
                            WEBTORCH_FLOAT64 };
constexpr Class kFloat = { "torch.FloatTensor", "torch.FloatStorage",
                           WEBTORCH_FLOAT32 };
constexpr Class kLong = { "torch.LongTensor", "torch.LongStorage",
                          WEBTORCH_INT64 };
constexpr Class kInt = { "torch.IntTensor", "torch.IntStorage",
                         WEBTORCH_INT32 };
constexpr Class kShort = { "torch.ShortTensor", "torch.ShortStorage",
                           WEBTORCH_INT16 };
constexpr Class kByte = { "torch.ByteTensor", "torch.ByteStorage",
                          WEBTORCH_UINT8 };

constexpr const Class *kClasses[] = {
    &kDouble, &kFloat, &kLong, &kInt, &kShort, &kByte
};


struct Tensor {
    const Class  *cls;
    uint32_t      ndim;
    int64_t       size[WEBTORCH_MAX_DIMS];
    int64_t       stride[WEBTORCH_MAX_DIMS];
    int64_t       offset;                 /* from 0 */
    int64_t       storage;                /* elements */
};


class Reader {
public:
    Reader(const char *p, size_t len, ngx_webtorch_error_t *err)
        : p_(p), end_(p + len), err_(err)
    {
    }

    bool object(std::string_view *name);
    bool integer(int64_t *v, const char *what);
    bool at_end();

    template <typename T> bool element(T *v);

    size_t left() const { return static_cast<size_t>(end_ - p_); }
    ngx_webtorch_error_t *err() const { return err_; }
    bool malformed(const char *what);

private:
    void skip_space();
    bool word(std::string_view *s, const char *what);
    bool counted(std::string_view *s, const char *what);

    const char            *p_;
    const char            *end_;
    ngx_webtorch_error_t  *err_;
};


bool
is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}


bool
Reader::malformed(const char *what)
{
    ngx_webtorch_error(err_, 400, "malformed_body",
                       "invalid Torch7 serialization: %s", what);
    return false;
}


void
Reader::skip_space()
{
    while (p_ < end_ && is_space(*p_)) {
        p_++;
    }
}


bool
Reader::at_end()
{
    skip_space();

    return p_ == end_;
}


bool
Reader::word(std::string_view *s, const char *what)
{
    const char *start;

    skip_space();

    start = p_;

    while (p_ < end_ && !is_space(*p_)) {
        p_++;
    }

    if (start == p_) {
        return malformed(what);
    }

    *s = std::string_view(start, static_cast<size_t>(p_ - start));

    return true;
}


bool
Reader::integer(int64_t *v, const char *what)
{
    std::string_view  s;

    if (!word(&s, what)) {
        return false;
    }

    auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *v);

    if (error != std::errc() || end != s.data() + s.size()) {
        return malformed(what);
    }

    return true;
}


/* a length, a newline, and as many characters */

bool
Reader::counted(std::string_view *s, const char *what)
{
    int64_t  n;

    if (!integer(&n, what)) {
        return false;
    }

    if (n < 1 || p_ == end_ || static_cast<uint64_t>(n) > left() - 1) {
        return malformed(what);
    }

    *s = std::string_view(p_ + 1, static_cast<size_t>(n));
    p_ += 1 + n;

    return true;
}


bool
Reader::object(std::string_view *name)
{
    int64_t           type, index;
    std::string_view  version;

    if (!integer(&type, "an object's type expected")) {
        return false;
    }

    if (type != kTypeTorch) {
        return malformed("the object is not a tensor");
    }

    return integer(&index, "an object's index expected")
           && counted(&version, "a version expected")
           && (version == "V 1" || malformed("the version is not \"V 1\""))
           && counted(name, "a class name expected");
}


template <typename T>
bool
parse_whole(std::string_view s, T *v)
{
    auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *v);

    return error == std::errc() && end == s.data() + s.size();
}


bool
parse(std::string_view s, double *v)
{
    return parse_whole(s, v);
}


/* a double that float32 cannot hold is an error, an infinity is not */

bool
parse(std::string_view s, float *v)
{
    double  d;

    if (!parse_whole(s, &d)) {
        return false;
    }

    *v = static_cast<float>(d);

    return std::isfinite(*v) || !std::isfinite(d);
}


/* the two of 16 bits */

template <typename T>
auto
parse(std::string_view s, T *v) -> decltype(v->set(0.0), bool())
{
    double  d;

    if (!parse_whole(s, &d)) {
        return false;
    }

    v->set(d);

    return std::isfinite(v->get()) || !std::isfinite(d);
}


template <typename T>
std::enable_if_t<std::is_integral_v<T>, bool>
parse(std::string_view s, T *v)
{
    return parse_whole(s, v);
}


bool
parse(std::string_view s, bool *v)
{
    *v = s == "1";

    return *v || s == "0";
}


template <typename T>
bool
Reader::element(T *v)
{
    std::string_view  s;

    return word(&s, "fewer elements than the storage's length")
           && (parse(s, v) || malformed("an element is no number of its type"));
}


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


/* the elements that sizes, strides and offset speak of must be in the storage */

bool
check_extent(Reader &in, const Tensor &t)
{
    int64_t  last = t.offset;

    /* at most 8 products below 2^62, each checked before the next is added */

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
        return in.malformed("the class is none of Double-, Float-, Long-, "
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

    /* an element and its separator are two bytes, so that a claim costs nothing */

    if (t->storage < 1
        || static_cast<uint64_t>(t->storage) > in.left() / 2)
    {
        return in.malformed("fewer elements than the storage's length");
    }

    return check_extent(in, *t);
}


/* elements are text: any class of a dtype's kind will do, if they are in range */

bool
fits_dtype(const Class &cls, int32_t dtype)
{
    ngx_webtorch_kind_e  kind = ngx_webtorch_dtypes[dtype].kind;

    return kind == ngx_webtorch_dtypes[cls.dtype].kind
           || (kind == NGX_WEBTORCH_KIND_BOOL && &cls == &kByte);
}


/* -1: err is set, 1: the tensor does not fit */

int
read_layout(const Tensor &t, const webtorch_schema_t *schema,
    ngx_webtorch_layout_t *layout, ngx_webtorch_error_t *err)
{
    const webtorch_spec_t  &spec = schema->inputs[0];

    uint32_t  batch, ndim = static_cast<uint32_t>(spec.ndim);

    /* there are no tensors of no dimension: a scalar row is one of one element */

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


/* gathers by sizes and strides; from the storage's elements to rows */

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
        /* no more than the body's length in elements, see read_header() */
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
     * Strides of zero repeat elements: a tensor may be larger than its
     * storage, but not than the body, so that a claim is not what is allocated.
     */

    if (rc == 1
        || layout->rows > ngx_webtorch_rows_of(&spec, layout->sizes, len))
    {
        return ngx_webtorch_error_mismatch(err, "wrong_shape", schema, &spec,
                   ngx_webtorch_dtypes[t.cls->dtype].name,
                   ngx_webtorch_shape(shape, t.size, t.ndim));
    }

    if (sink->reserve(sink, layout, err) != 0
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


/* the smallest that holds all numbers of a dtype */

const Class &
class_of(int32_t dtype)
{
    switch (dtype) {
    case WEBTORCH_BOOL:
    case WEBTORCH_UINT8:
        return kByte;
    case WEBTORCH_INT8:
    case WEBTORCH_INT16:
        return kShort;
    case WEBTORCH_UINT16:
    case WEBTORCH_INT32:
        return kInt;
    case WEBTORCH_UINT32:
    case WEBTORCH_UINT64:
    case WEBTORCH_INT64:
        return kLong;
    case WEBTORCH_FLOAT64:
        return kDouble;
    default:
        return kFloat;
    }
}


size_t
bound(const webtorch_spec_t *specs, uint32_t,
    const ngx_webtorch_layout_t *layout)
{
    /* a size and a stride each are as long as a number at most */

    return kHeaderLen
           + kNumberLen * (2 * (WEBTORCH_MAX_DIMS + 1)
                           + layout->rows
                             * ngx_webtorch_row_elements(&specs[0]));
}


char *
write_text(char *p, std::string_view s)
{
    return static_cast<char *>(std::memcpy(p, s.data(), s.size())) + s.size();
}


char *
write_number(char *p, bool v)
{
    *p = v ? '1' : '0';

    return p + 1;
}


template <typename T>
char *
write_number(char *p, T v)
{
    return std::to_chars(p, p + kNumberLen, v).ptr;
}


char *
write_number(char *p, Float16 v)
{
    return write_number(p, v.get());
}


char *
write_number(char *p, BFloat16 v)
{
    return write_number(p, v.get());
}


char *
write_object(char *p, char index, std::string_view name)
{
    p = write_text(p, "4\n");
    *p++ = index;
    p = write_text(p, "\n3\nV 1\n");
    p = write_number(p, static_cast<int64_t>(name.size()));
    *p++ = '\n';
    p = write_text(p, name);
    *p++ = '\n';

    return p;
}


char *
write_integers(char *p, const int64_t *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (i) {
            *p++ = ' ';
        }

        p = write_number(p, v[i]);
    }

    *p++ = '\n';

    return p;
}


template <typename T>
char *
write_elements(char *p, const T *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (i) {
            *p++ = ' ';
        }

        p = write_number(p, v[i]);
    }

    *p++ = '\n';

    return p;
}


char *
encode(char *p, const webtorch_spec_t *specs, uint32_t,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    int64_t       size[WEBTORCH_MAX_DIMS + 1], stride[WEBTORCH_MAX_DIMS + 1];
    int64_t       n = 1;
    uint32_t      ndim = 0;
    const Class  &cls = class_of(specs[0].dtype);

    /* a scalar is a tensor of one element: there are none of no dimension */

    if (!layout->single || specs[0].ndim == 0) {
        size[ndim++] = layout->rows;
    }

    for (int32_t i = 0; i < specs[0].ndim; i++) {
        size[ndim++] = specs[0].shape[i];
    }

    for (uint32_t i = ndim; i-- > 0; ) {
        stride[i] = n;
        n *= size[i];
    }

    p = write_object(p, '1', cls.tensor);
    p = write_number(p, static_cast<int64_t>(ndim));
    *p++ = '\n';
    p = write_integers(p, size, ndim);
    p = write_integers(p, stride, ndim);
    p = write_text(p, "1\n");
    p = write_object(p, '2', cls.storage);
    p = write_number(p, n);
    *p++ = '\n';

    return webtorch::visit(specs[0].dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        return write_elements(p, static_cast<const T *>(data[0]), n);
    });
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
    bound,
    encode,
    nullptr,
    nullptr
};
