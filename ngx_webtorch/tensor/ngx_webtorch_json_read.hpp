
/*
 * Reads tensors in JSON: elements from numbers and strings, nested arrays as
 * rows.  Templates of an element's type, as this is done for each element.
 */


#ifndef _NGX_WEBTORCH_JSON_READ_HPP_INCLUDED_
#define _NGX_WEBTORCH_JSON_READ_HPP_INCLUDED_


#include "ngx_webtorch_array.h"
#include "ngx_webtorch_dtype.hpp"
#include "ngx_webtorch_gaps.h"
#include "ngx_webtorch_simdjson.hpp"

#include <cinttypes>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>


namespace webtorch::json {


using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::element_type;
using simdjson::dom::object;


/* simdjson does not count the elements of an array beyond this number */
constexpr size_t kMaxCounted = 0xFFFFFF;


struct Decoder {
    const webtorch_schema_t  *schema;
    size_t                    len;        /* bytes of the JSON */
    ngx_webtorch_layout_t    *layout;
    ngx_webtorch_sink_t      *sink;
    ngx_webtorch_error_t     *err;
};


/*
 * Returns the largest number of elements that the body can hold: a number takes
 * a byte at least, a string two quotes.
 */

inline size_t
most_elements(const Decoder &d, int32_t dtype)
{
    return ngx_webtorch_is_string(dtype) ? d.len / 2 : d.len;
}


/*
 * Returns the bytes of all strings in nested arrays; recursion is bounded, as
 * Document accepts 64 levels at most.
 */

inline size_t
count_text(const element &e)
{
    array             a;
    size_t            n = 0;
    std::string_view  text;

    if (e.get(text) == simdjson::SUCCESS) {
        return text.size();
    }

    if (e.get(a) == simdjson::SUCCESS) {
        for (element sub : a) {
            n += count_text(sub);
        }
    }

    return n;
}


inline const char *
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


/* finds the input of a name; -1: there is none, err is set */

inline int
find_input(const Decoder &d, std::string_view name, uint32_t *i)
{
    *i = ngx_webtorch_find_input(d.schema, name.data(), name.size());

    if (*i == d.schema->ninputs) {
        return ngx_webtorch_error_unknown(d.err, name.data(), name.size(),
                                          d.schema->inputs, d.schema->ninputs);
    }

    return 0;
}


/* reads the member "shape", an array of sizes */

inline int
read_shape(const object &tensor, const webtorch_spec_t &spec,
    ngx_webtorch_array_t *found, ngx_webtorch_error_t *err)
{
    array    shape;
    int64_t  size;

    if (tensor["shape"].get(shape) != simdjson::SUCCESS) {
        return ngx_webtorch_error(err, 400, "malformed_body",
                                  "tensor \"%s\": it has no \"shape\" that is "
                                  "an array of integers", spec.name);
    }

    found->ndim = 0;

    for (element e : shape) {
        if (found->ndim == NGX_WEBTORCH_ARRAY_DIMS) {
            return ngx_webtorch_error(err, 422, "wrong_shape",
                       "tensor \"%s\": found more than %d axes", spec.name,
                       NGX_WEBTORCH_ARRAY_DIMS);
        }

        if (e.get(size) != simdjson::SUCCESS) {
            return ngx_webtorch_error(err, 400, "malformed_body",
                       "tensor \"%s\": axis %" PRIu32 " of its shape is %s, "
                       "expected an integer from 0 to 2^63 - 1",
                       spec.name, found->ndim, type_name(e));
        }

        if (size < 0) {
            return ngx_webtorch_error(err, 400, "malformed_body",
                       "tensor \"%s\": axis %" PRIu32 " of its shape is "
                       "%" PRId64 ", send the size that the data have",
                       spec.name, found->ndim, size);
        }

        found->shape[found->ndim++] = size;
    }

    return 0;
}


/*
 * Describes a value for an error: writes the shape along the first elements,
 * returns the type of the first leaf.
 */

inline const char *
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


/*
 * Returns true if arrays of the same depth differ in length, or if an array has
 * both arrays and other elements.
 */

inline bool
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


inline int
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


/*
 * Sets the error of an element that is not a value of the dtype.  Of an array
 * or an object it is the shape that is wrong: no error is set then.
 */

inline int
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
               ngx_webtorch_spec_shape(shape, &spec, d.schema),
               type_name(e));
}


inline bool
store(const element &e, bool *p)
{
    return e.get(*p) == simdjson::SUCCESS;
}


inline bool
store(const element &e, double *p)
{
    return e.get(*p) == simdjson::SUCCESS;
}


inline bool
store(const element &e, float *p)
{
    double  v;

    if (!store(e, &v)) {
        return false;
    }

    *p = static_cast<float>(v);

    return std::isfinite(*p);
}


/* Float16 and BFloat16 */

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


template <typename T>
bool
store(const Decoder &, const element &e, T *p)
{
    return store(e, p);
}


/* copies a string to the sink's text, which has room for layout->text bytes */

inline void
store(const Decoder &d, std::string_view text, webtorch_text_t *p)
{
    p->at = d.sink->at;
    p->len = text.size();

    if (!text.empty()) {
        std::memcpy(d.sink->text, text.data(), text.size());
    }

    d.sink->text += text.size();
    d.sink->at += text.size();
}


inline bool
store(const Decoder &d, const element &e, webtorch_text_t *p)
{
    std::string_view  text;

    if (e.get(text) != simdjson::SUCCESS) {
        return false;
    }

    store(d, text, p);

    return true;
}


/* a null is a missing element, if the input may have such */

template <typename T>
bool
store_missing(const Decoder &d, const webtorch_spec_t &spec, const element &e,
    T *p)
{
    return e.is_null()
           && ngx_webtorch_gaps_set(d.schema, d.sink,
                  static_cast<uint32_t>(&spec - d.schema->inputs), p)
              == 0;
}


/*
 * Stores the elements of a row from the given axis on, returns the end; nullptr
 * if the shape does not fit, or if an element is not a T, which sets the error.
 * Recursion is as deep as the signature's shape, however deep the body is.
 */

template <typename T>
T *
read_row(const Decoder &d, const webtorch_spec_t &spec, const element &e,
    int32_t axis, T *p)
{
    array  a;

    if (axis == spec.ndim) {
        if (!store(d, e, p) && !store_missing(d, spec, e, p)) {
            wrong_element(d, spec, e);
            return nullptr;
        }

        return p + 1;
    }

    if (e.get(a) != simdjson::SUCCESS
        || static_cast<int64_t>(a.size())
           != ngx_webtorch_axis_size(&spec, axis, d.layout->sizes))
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
read_rows(const Decoder &d, const webtorch_spec_t &spec, const element &value,
    bool single, T *p)
{
    array  rows;

    d.err->status = 0;

    if (single) {
        p = read_row(d, spec, value, 0, p);

    } else {
        if (value.get(rows) != simdjson::SUCCESS) {
            return mismatch(d, spec, value);
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

    return d.err->status ? -1 : mismatch(d, spec, value);
}


} /* namespace webtorch::json */


#endif /* _NGX_WEBTORCH_JSON_READ_HPP_INCLUDED_ */
