
/*
 * Torch7's classes of tensors, and answers in its ASCII serialization.
 */


#ifndef _NGX_WEBTORCH_TORCH7_WRITE_HPP_INCLUDED_
#define _NGX_WEBTORCH_TORCH7_WRITE_HPP_INCLUDED_


#include "ngx_webtorch_layout.h"

#include <string_view>


namespace webtorch::torch7 {


struct Class {
    std::string_view     tensor;
    std::string_view     storage;
    int32_t              dtype;
};


inline constexpr Class kDouble = {
    "torch.DoubleTensor", "torch.DoubleStorage", WEBTORCH_FLOAT64
};

inline constexpr Class kFloat = {
    "torch.FloatTensor", "torch.FloatStorage", WEBTORCH_FLOAT32
};

inline constexpr Class kLong = {
    "torch.LongTensor", "torch.LongStorage", WEBTORCH_INT64
};

inline constexpr Class kInt = {
    "torch.IntTensor", "torch.IntStorage", WEBTORCH_INT32
};

inline constexpr Class kShort = {
    "torch.ShortTensor", "torch.ShortStorage", WEBTORCH_INT16
};

inline constexpr Class kByte = {
    "torch.ByteTensor", "torch.ByteStorage", WEBTORCH_UINT8
};

inline constexpr const Class *kClasses[] = {
    &kDouble, &kFloat, &kLong, &kInt, &kShort, &kByte
};


/* members of ngx_webtorch_codec_t */

size_t bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout);
char *encode(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, const ngx_webtorch_layout_t *layout);


} /* namespace webtorch::torch7 */


#endif /* _NGX_WEBTORCH_TORCH7_WRITE_HPP_INCLUDED_ */
