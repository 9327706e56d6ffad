
/*
 * Answers in Torch7's ASCII serialization.
 */

#include "ngx_webtorch_torch7_write.hpp"
#include "ngx_webtorch_dtype.hpp"

#include <charconv>
#include <cstdint>
#include <cstring>


namespace webtorch::torch7 {

namespace {

/* the longest text of a double and a space */
constexpr size_t kNumberLen = 25;

/* the words before the elements, without sizes and strides */
constexpr size_t kHeaderLen = 160;


/* returns the smallest class that can hold all numbers of a dtype */

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

} /* namespace */


size_t
bound(const webtorch_spec_t *specs, uint32_t,
    const ngx_webtorch_layout_t *layout)
{
    /* a size, and a stride, is at most as long as a number */

    return kHeaderLen
           + kNumberLen * (2 * (WEBTORCH_MAX_DIMS + 1)
                           + layout->rows
                             * ngx_webtorch_row_elements(&specs[0]));
}


char *
encode(char *p, const webtorch_spec_t *specs, uint32_t,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    int64_t       size[WEBTORCH_MAX_DIMS + 1], stride[WEBTORCH_MAX_DIMS + 1];
    int64_t       n = 1;
    uint32_t      ndim = 0;
    const Class  &cls = class_of(specs[0].dtype);

    /* Torch7 has no tensors without dimensions: a scalar has one element */

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

    return visit(specs[0].dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        return write_elements(p, static_cast<const T *>(data[0]), n);
    });
}


} /* namespace webtorch::torch7 */
