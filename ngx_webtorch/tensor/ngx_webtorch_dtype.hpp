
/*
 * A C++ type for each dtype, the parameter of templates for all dtypes.
 */


#ifndef _NGX_WEBTORCH_DTYPE_HPP_INCLUDED_
#define _NGX_WEBTORCH_DTYPE_HPP_INCLUDED_


#include "ngx_webtorch_dtype.h"

#include <cmath>
#include <cstdint>


namespace webtorch {


struct Float16 {
    uint16_t  bits;

    void set(double v) { bits = ngx_webtorch_float16(v); }
    float get() const { return ngx_webtorch_from_float16(bits); }
};


struct BFloat16 {
    uint16_t  bits;

    void set(double v) { bits = ngx_webtorch_bfloat16(v); }
    float get() const { return ngx_webtorch_from_bfloat16(bits); }
};


template <typename T>
struct Type {
    using type = T;
};


/* calls f with the Type of a numeric dtype */

template <typename F>
auto
visit(int32_t dtype, F f)
{
    switch (dtype) {
    case WEBTORCH_BOOL:
        return f(Type<bool>());
    case WEBTORCH_UINT8:
        return f(Type<uint8_t>());
    case WEBTORCH_UINT16:
        return f(Type<uint16_t>());
    case WEBTORCH_UINT32:
        return f(Type<uint32_t>());
    case WEBTORCH_UINT64:
        return f(Type<uint64_t>());
    case WEBTORCH_INT8:
        return f(Type<int8_t>());
    case WEBTORCH_INT16:
        return f(Type<int16_t>());
    case WEBTORCH_INT32:
        return f(Type<int32_t>());
    case WEBTORCH_INT64:
        return f(Type<int64_t>());
    case WEBTORCH_FLOAT16:
        return f(Type<Float16>());
    case WEBTORCH_BFLOAT16:
        return f(Type<BFloat16>());
    case WEBTORCH_FLOAT32:
        return f(Type<float>());
    default:
        return f(Type<double>());
    }
}


/* calls f with the Type of a dtype, webtorch_text_t for strings */

template <typename F>
auto
visit_all(int32_t dtype, F f)
{
    return ngx_webtorch_is_string(dtype) ? f(Type<webtorch_text_t>())
                                         : visit(dtype, f);
}


} /* namespace webtorch */


#endif /* _NGX_WEBTORCH_DTYPE_HPP_INCLUDED_ */
