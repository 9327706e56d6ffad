
/*
 * Conversions between dtypes.  Numbers are converted in blocks of a constant
 * size: the compiler makes vector instructions of these loops.
 */

#include "ngx_webtorch_convert.h"
#include "ngx_webtorch_dtype.hpp"

#include <cstring>
#include <limits>
#include <type_traits>

namespace {

using webtorch::BFloat16;
using webtorch::Float16;
using webtorch::Type;

constexpr uint64_t kBlock = 64;

template <typename T>
constexpr bool is_half = std::is_same_v<T, Float16>
                         || std::is_same_v<T, BFloat16>;

template <typename T>
constexpr bool is_float = std::is_floating_point_v<T> || is_half<T>;


/* bool is read as a byte: others than 0 and 1 are not booleans */

template <typename T>
using Stored = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;


template <typename T>
auto
value(T v)
{
    if constexpr (is_half<T>) {
        return v.get();
    } else {
        return v;
    }
}


template <typename To, typename From>
constexpr bool
holds_all()
{
    if constexpr (std::is_integral_v<From> && std::is_integral_v<To>) {
        return std::numeric_limits<To>::digits
               >= std::numeric_limits<From>::digits
               && (std::is_signed_v<To> || !std::is_signed_v<From>);
    } else if constexpr (std::is_integral_v<From>) {
        return std::is_floating_point_v<To> || std::is_same_v<To, BFloat16>
               || sizeof(From) == 1;
    } else {
        return std::is_same_v<To, double>
               || (std::is_same_v<To, float> && !std::is_same_v<From, double>)
               || (std::is_same_v<To, From>);
    }
}


/* returns whether v is beyond the range of To; NaN and infinities are not */

template <typename To, typename From>
bool
exceeds(From v, To converted)
{
    if constexpr (holds_all<To, From>()) {
        return false;
    } else if constexpr (std::is_integral_v<To>) {
        /* bits, or the sign, are lost */
        return static_cast<From>(converted) != v
               || ((converted < To()) != (v < From()));
    } else {
        using Limits = std::numeric_limits<double>;

        double  d = static_cast<double>(value(v));
        double  c = static_cast<double>(value(converted));

        return (std::fabs(c) > Limits::max()) & (std::fabs(d) <= Limits::max());
    }
}


template <typename To, typename From>
To
converted(From v)
{
    if constexpr (is_half<To>) {
        To  to;

        to.set(static_cast<double>(value(v)));

        return to;
    } else {
        return static_cast<To>(value(v));
    }
}


template <typename To, typename From>
bool
convert_block(To *p, const From *from, uint64_t n)
{
    bool  wrong = false;

    for (uint64_t i = 0; i < n; i++) {
        p[i] = converted<To>(from[i]);
        wrong |= exceeds<To>(from[i], p[i]);
    }

    return !wrong;
}


template <typename To, typename From>
int
convert(void *p, const void *data, uint64_t n)
{
    To           to[kBlock];
    From         from[kBlock];
    uint64_t     i, m;
    char        *out = static_cast<char *>(p);
    const char  *in = static_cast<const char *>(data);

    for (i = 0; i + kBlock <= n; i += kBlock) {
        std::memcpy(from, in + i * sizeof(From), sizeof(from));

        if (!convert_block(to, from, kBlock)) {
            return -1;
        }

        std::memcpy(out + i * sizeof(To), to, sizeof(to));
    }

    m = n - i;

    if (m) {
        std::memcpy(from, in + i * sizeof(From), m * sizeof(From));

        if (!convert_block(to, from, m)) {
            return -1;
        }

        std::memcpy(out + i * sizeof(To), to, m * sizeof(To));
    }

    return 0;
}

} /* namespace */


const char *
ngx_webtorch_convert_loss(int32_t to, int32_t from)
{
    ngx_webtorch_kind_e  kind = ngx_webtorch_dtypes[to].kind;

    if (kind >= ngx_webtorch_dtypes[from].kind) {
        return nullptr;
    }

    return (kind == NGX_WEBTORCH_KIND_BOOL) ? "numbers other than 0 and 1"
                                            : "fractions";
}


int
ngx_webtorch_convert(void *p, int32_t to, const void *data, int32_t from,
    uint64_t n)
{
    if (to == from) {
        if (n) {
            std::memcpy(p, data, n * ngx_webtorch_dtypes[to].size);
        }

        return 0;
    }

    return webtorch::visit(to, [&](auto t) {
        using To = typename decltype(t)::type;

        return webtorch::visit(from, [&](auto f) {
            using From = typename decltype(f)::type;

            if constexpr (std::is_same_v<To, bool>
                          || (std::is_integral_v<To> && is_float<From>))
            {
                return -1;
            } else {
                return convert<To, Stored<From>>(p, data, n);
            }
        });
    });
}


int
ngx_webtorch_convert_error(ngx_webtorch_error_t *err,
    const webtorch_spec_t *spec, int32_t from)
{
    return ngx_webtorch_error(err, 422, "out_of_range",
               "tensor \"%s\": a number is out of range in the conversion from "
               "%s to %s", spec->name, ngx_webtorch_dtypes[from].name,
               ngx_webtorch_dtypes[spec->dtype].name);
}
