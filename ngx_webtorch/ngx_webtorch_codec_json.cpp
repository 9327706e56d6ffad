
/*
 * JSON: [[a, b], [c, d]], one row as [a, b], or tensors by name
 * {"x": [[a, b]]}; the answer mirrors the request.  Parsed by simdjson,
 * numbers are written by std::to_chars, the shortest text that reads back
 * the same.
 */

#include "ngx_webtorch_array.h"
#include "ngx_webtorch_dtype.hpp"
#include "ngx_webtorch_simdjson.hpp"

#include <charconv>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <type_traits>

namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::element_type;
using simdjson::dom::object;
using webtorch::BFloat16;
using webtorch::Float16;

/* the longest text of a double, "-2.2250738585072014e-308", and a comma */
constexpr size_t kNumberLen = 25;

/* integers beyond are not exact as doubles anyway */
constexpr double kLargestInteger = 9007199254740992.0;


/* what a request's document says of one input */

struct Found {
    element   value;
    uint32_t  rows;
    bool      single;
};


struct Decoder {
    const webtorch_schema_t  *schema;
    size_t                    len;        /* of the body */
    ngx_webtorch_error_t     *err;
};


const char *
type_name(const element &e)
{
    switch (e.type()) {
    case element_type::ARRAY:
        return "an array";
    case element_type::OBJECT:
        return "an object";
    case element_type::INT64:
    case element_type::UINT64:
        return "int64";
    case element_type::DOUBLE:
        return "float64";
    case element_type::STRING:
        return "a string";
    case element_type::BOOL:
        return "bool";
    default:
        return "null";
    }
}


/* the shape along the first elements and the first leaf's type, for errors */

const char *
describe(element e, char *shape)
{
    array    a;
    int64_t  dims[WEBTORCH_MAX_DIMS];
    uint32_t n = 0;

    while (n < WEBTORCH_MAX_DIMS && e.get(a) == simdjson::SUCCESS) {
        dims[n++] = static_cast<int64_t>(a.size());

        if (a.size() == 0) {
            ngx_webtorch_shape(shape, dims, n);
            return "nothing";
        }

        e = *a.begin();
    }

    ngx_webtorch_shape(shape, dims, n);

    return type_name(e);
}


/* whether arrays at one depth differ in length, or mix with numbers */

bool
is_ragged(const array &a, uint32_t depth)
{
    array   sub;
    size_t  size = 0;
    bool    first = true, nested = false;

    for (element e : a) {
        bool is_array = e.get(sub) == simdjson::SUCCESS;

        if (first) {
            nested = is_array;
            size = is_array ? sub.size() : 0;
            first = false;

        } else if (is_array != nested || (is_array && sub.size() != size)) {
            return true;
        }

        if (is_array && depth && is_ragged(sub, depth - 1)) {
            return true;
        }
    }

    return false;
}


int
mismatch(const Decoder &d, const webtorch_spec_t &spec, const element &e)
{
    char        shape[NGX_WEBTORCH_SHAPE_LEN];
    array       a;
    const char *dtype;

    dtype = describe(e, shape);

    if (e.get(a) == simdjson::SUCCESS && is_ragged(a, WEBTORCH_MAX_DIMS)) {
        return ngx_webtorch_error_mismatch(d.err, "wrong_shape", d.schema,
                                           &spec, dtype,
                                           "in a ragged array");
    }

    return ngx_webtorch_error_mismatch(d.err, "wrong_shape", d.schema, &spec,
                                       dtype, shape);
}


/* the element that could not be a number of the dtype */

int
wrong_element(const Decoder &d, const webtorch_spec_t &spec, const element &e)
{
    char                         shape[NGX_WEBTORCH_SHAPE_LEN];
    const ngx_webtorch_dtype_t  &expected = ngx_webtorch_dtypes[spec.dtype];

    if (e.type() == element_type::ARRAY || e.type() == element_type::OBJECT) {
        return -1;
    }

    if ((e.is_number() && expected.kind == NGX_WEBTORCH_KIND_FLOAT)
        || ((e.type() == element_type::INT64
             || e.type() == element_type::UINT64)
            && expected.kind == NGX_WEBTORCH_KIND_INTEGER))
    {
        return ngx_webtorch_error(d.err, 422, "out_of_range",
                   "tensor \"%s\": a number is out of range of %s",
                   spec.name, expected.name);
    }

    return ngx_webtorch_error(d.err, 422, "wrong_dtype",
               "tensor \"%s\": expected %s %s, found %s among its elements",
               spec.name, expected.name,
               ngx_webtorch_spec_shape(shape, &spec, d.schema->batched),
               type_name(e));
}


bool
store(const element &e, bool *p)
{
    return e.get(*p) == simdjson::SUCCESS;
}


bool
store(const element &e, double *p)
{
    return e.get(*p) == simdjson::SUCCESS;
}


bool
store(const element &e, float *p)
{
    double  v;

    if (!store(e, &v)) {
        return false;
    }

    *p = static_cast<float>(v);

    return std::isfinite(*p);
}


/* the two of 16 bits */

template <typename T>
auto
store(const element &e, T *p) -> decltype(p->set(0.0), bool())
{
    double  v;

    if (!store(e, &v)) {
        return false;
    }

    p->set(v);

    return std::isfinite(p->get());
}


template <typename T>
std::enable_if_t<std::is_integral_v<T>, bool>
store(const element &e, T *p)
{
    std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>  v;

    if (e.get(v) != simdjson::SUCCESS
        || v < std::numeric_limits<T>::min()
        || v > std::numeric_limits<T>::max())
    {
        return false;
    }

    *p = static_cast<T>(v);

    return true;
}


/*
 * Writes an element of the given depth, returns the end, or NULL where its
 * shape does not fit or an element is none of T; the recursion is as deep as
 * the signature, not as the body.
 */

template <typename T>
T *
read_row(const Decoder &d, const webtorch_spec_t &spec, const element &e,
    int32_t axis, T *p)
{
    array  a;

    if (axis == spec.ndim) {
        if (!store(e, p)) {
            wrong_element(d, spec, e);
            return nullptr;
        }

        return p + 1;
    }

    if (e.get(a) != simdjson::SUCCESS
        || static_cast<int64_t>(a.size()) != spec.shape[axis])
    {
        return nullptr;
    }

    for (element sub : a) {
        p = read_row(d, spec, sub, axis + 1, p);

        if (p == nullptr) {
            return nullptr;
        }
    }

    return p;
}


template <typename T>
int
read_rows(const Decoder &d, const webtorch_spec_t &spec, const Found &found,
    T *p)
{
    array  rows;

    d.err->status = 0;

    if (found.single) {
        p = read_row(d, spec, found.value, 0, p);

    } else {
        if (found.value.get(rows) != simdjson::SUCCESS) {
            return mismatch(d, spec, found.value);
        }

        for (element row : rows) {
            p = read_row(d, spec, row, 0, p);

            if (p == nullptr) {
                break;
            }
        }
    }

    if (p != nullptr) {
        return 0;
    }

    return d.err->status ? -1 : mismatch(d, spec, found.value);
}


int
read_tensor(const Decoder &d, const webtorch_spec_t &spec, const Found &found,
    void *data)
{
    return webtorch::visit(spec.dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        return read_rows(d, spec, found, static_cast<T *>(data));
    });
}


/* how many rows a value holds, by its depth: a row's, or one more */

int
count_rows(const Decoder &d, const webtorch_spec_t &spec, Found &found)
{
    array    a;
    element  e = found.value;
    int32_t  depth = 0;

    while (depth <= spec.ndim && e.get(a) == simdjson::SUCCESS
           && a.size() != 0)
    {
        e = *a.begin();
        depth++;
    }

    if (depth == spec.ndim && e.type() != element_type::ARRAY) {
        found.single = true;
        found.rows = 1;
        return 0;
    }

    if (!d.schema->batched || depth != spec.ndim + 1) {
        return mismatch(d, spec, found.value);
    }

    /* simdjson counts up to 2^24 - 1 and stops there */

    if (found.value.get(a) != simdjson::SUCCESS || a.size() >= 0xFFFFFF) {
        return ngx_webtorch_error(d.err, 413, "too_many_rows",
                                  "tensor \"%s\": too many rows", spec.name);
    }

    /* each element takes a byte at least: nothing is allocated on a promise */

    if (a.size() > d.len / ngx_webtorch_row_elements(&spec)) {
        return mismatch(d, spec, found.value);
    }

    found.single = false;
    found.rows = static_cast<uint32_t>(a.size());

    return 0;
}


int
find_named(const Decoder &d, const object &o, Found *found)
{
    uint32_t  i, seen = 0;

    for (auto field : o) {

        i = ngx_webtorch_find_input(d.schema, field.key.data(),
                                    field.key.size());

        if (i == d.schema->ninputs) {
            return ngx_webtorch_error_unknown(d.err, field.key.data(),
                                              field.key.size());
        }

        if (seen & (1u << i)) {
            return ngx_webtorch_error_twice(d.err, &d.schema->inputs[i]);
        }

        seen |= 1u << i;
        found[i].value = field.value;
    }

    for (i = 0; i < d.schema->ninputs; i++) {
        if (!(seen & (1u << i))) {
            return ngx_webtorch_error_missing(d.err, &d.schema->inputs[i]);
        }
    }

    return 0;
}


int
find_tensors(const Decoder &d, const element &root, Found *found,
    ngx_webtorch_layout_t *layout)
{
    object    o;
    uint32_t  i;

    layout->named = root.get(o) == simdjson::SUCCESS;

    if (layout->named) {
        if (find_named(d, o, found) != 0) {
            return -1;
        }

    } else if (d.schema->ninputs == 1) {
        found[0].value = root;

    } else {
        return ngx_webtorch_error(d.err, 422, "missing_tensor",
                   "expected an object of %" PRIu32 " tensors by name, "
                   "found %s", d.schema->ninputs, type_name(root));
    }

    for (i = 0; i < d.schema->ninputs; i++) {
        if (count_rows(d, d.schema->inputs[i], found[i]) != 0) {
            return -1;
        }

        if (found[i].rows != found[0].rows
            || found[i].single != found[0].single)
        {
            return ngx_webtorch_error_rows(d.err, d.schema->inputs[0].name,
                                           found[0].rows,
                                           d.schema->inputs[i].name,
                                           found[i].rows);
        }
    }

    layout->rows = found[0].rows;
    layout->single = found[0].single;

    return 0;
}


int
decode_document(const Decoder &d, const element &root,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout)
{
    Found     found[WEBTORCH_MAX_TENSORS];
    uint32_t  i;

    if (find_tensors(d, root, found, layout) != 0) {
        return -1;
    }

    if (sink->reserve(sink, layout->rows, d.err) != 0) {
        return -1;
    }

    for (i = 0; i < d.schema->ninputs; i++) {
        if (read_tensor(d, d.schema->inputs[i], found[i], sink->data[i]) != 0) {
            return -1;
        }
    }

    return 0;
}


int
decode(const char *body, size_t len, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    element                root;
    webtorch::Document     document;
    simdjson::error_code   error;

    error = document.parse(body, len, &root);

    if (error != simdjson::SUCCESS) {
        return ngx_webtorch_error(err, 400, "malformed_body",
                                  "invalid JSON: %s",
                                  simdjson::error_message(error));
    }

    return decode_document(Decoder { schema, len, err }, root, sink, layout);
}


size_t
bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size = 2;
    uint32_t  i;

    for (i = 0; i < n; i++) {
        /* an axis adds at most two brackets and a comma to each element */
        size += std::strlen(specs[i].name) + sizeof("\"\":[],")
                + layout->rows * ngx_webtorch_row_elements(&specs[i])
                  * (kNumberLen + 3 * static_cast<size_t>(specs[i].ndim + 1));
    }

    return size;
}


char *
write_number(char *p, bool v)
{
    const char *text = v ? "true" : "false";
    size_t      len = std::strlen(text);

    return static_cast<char *>(std::memcpy(p, text, len)) + len;
}


template <typename T>
std::enable_if_t<std::is_integral_v<T>, char *>
write_number(char *p, T v)
{
    return std::to_chars(p, p + kNumberLen, v).ptr;
}


/*
 * JSON has neither NaN nor infinities: null, as JavaScript writes them.  What
 * to_chars() writes without a dot or an exponent most parsers take for an
 * integer: "-0" would lose its sign, and 1e20 be out of range.
 */

template <typename T>
std::enable_if_t<std::is_floating_point_v<T>, char *>
write_number(char *p, T v)
{
    if (!std::isfinite(v)) {
        return static_cast<char *>(std::memcpy(p, "null", 4)) + 4;
    }

    if (v == 0 && std::signbit(v)) {
        return static_cast<char *>(std::memcpy(p, "-0.0", 4)) + 4;
    }

    if (std::fabs(v) >= kLargestInteger) {
        return std::to_chars(p, p + kNumberLen, v,
                             std::chars_format::scientific).ptr;
    }

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


template <typename T>
char *
write_axes(char *p, const webtorch_spec_t &spec, int32_t axis, const T **v)
{
    if (axis == spec.ndim) {
        return write_number(p, *(*v)++);
    }

    *p++ = '[';

    for (int64_t i = 0; i < spec.shape[axis]; i++) {
        if (i) {
            *p++ = ',';
        }

        p = write_axes(p, spec, axis + 1, v);
    }

    *p++ = ']';

    return p;
}


template <typename T>
char *
write_rows(char *p, const webtorch_spec_t &spec, const T *v,
    const ngx_webtorch_layout_t *layout)
{
    if (layout->single) {
        return write_axes(p, spec, 0, &v);
    }

    *p++ = '[';

    for (uint32_t i = 0; i < layout->rows; i++) {
        if (i) {
            *p++ = ',';
        }

        p = write_axes(p, spec, 0, &v);
    }

    *p++ = ']';

    return p;
}


char *
write_tensor(char *p, const webtorch_spec_t &spec, const void *data,
    const ngx_webtorch_layout_t *layout)
{
    return webtorch::visit(spec.dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        return write_rows(p, spec, static_cast<const T *>(data), layout);
    });
}


char *
encode(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    size_t    len;
    uint32_t  i;

    if (n == 1 && !layout->named) {
        return write_tensor(p, specs[0], data[0], layout);
    }

    *p++ = '{';

    /* names are Python identifiers: nothing in them to escape */

    for (i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        len = std::strlen(specs[i].name);

        *p++ = '"';
        p = static_cast<char *>(std::memcpy(p, specs[i].name, len)) + len;
        *p++ = '"';
        *p++ = ':';

        p = write_tensor(p, specs[i], data[i], layout);
    }

    *p++ = '}';

    return p;
}

} /* namespace */


const ngx_webtorch_codec_t  ngx_webtorch_codec_json = {
    "json",
    { "application/json" },
    1,
    1,
    decode,
    bound,
    encode,
    nullptr
};
