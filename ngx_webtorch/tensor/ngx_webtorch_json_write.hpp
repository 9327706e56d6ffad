
/*
 * Writes numbers and strings as JSON.
 */


#ifndef _NGX_WEBTORCH_JSON_WRITE_HPP_INCLUDED_
#define _NGX_WEBTORCH_JSON_WRITE_HPP_INCLUDED_


#include "ngx_webtorch_dtype.hpp"

#include <charconv>
#include <cmath>
#include <cstring>
#include <simdjson.h>
#include <string_view>
#include <type_traits>


namespace webtorch::json {


/* the longest text of a double, "-2.2250738585072014e-308", and a comma */
constexpr size_t kNumberLen = 25;

/* the longest text of a byte of a string, "\u0000" */
constexpr size_t kEscapedLen = 6;

/* not all integers beyond this number are doubles */
constexpr double kLargestInteger = 9007199254740992.0;


inline char *
write_text(char *p, std::string_view text)
{
    return static_cast<char *>(std::memcpy(p, text.data(), text.size()))
           + text.size();
}


inline char *
write_escaped(char *p, std::string_view text)
{
    static const char  hex[] = "0123456789abcdef";

    for (char c : text) {
        if (c == '"' || c == '\\') {
            *p++ = '\\';

        } else if (static_cast<unsigned char>(c) < 0x20) {
            p = static_cast<char *>(std::memcpy(p, "\\u00", 4)) + 4;
            *p++ = hex[c >> 4];
            c = hex[c & 0xf];
        }

        *p++ = c;
    }

    return p;
}


/* JSON must be UTF-8: in other strings each byte above 0x7f becomes U+FFFD */

inline char *
write_number(char *p, const webtorch_text_t &v)
{
    const char       *data = reinterpret_cast<const char *>(v.at);
    std::string_view  text(data, v.len);

    *p++ = '"';

    if (text.empty() || simdjson::validate_utf8(text.data(), text.size())) {
        p = write_escaped(p, text);

    } else {
        for (const char &c : text) {
            p = static_cast<unsigned char>(c) < 0x80
                ? write_escaped(p, std::string_view(&c, 1))
                : static_cast<char *>(std::memcpy(p, "\\ufffd", 6)) + 6;
        }
    }

    *p++ = '"';

    return p;
}


inline char *
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
 * JSON has neither NaN nor infinities: both become null, as in JavaScript.
 * Numbers without a dot and an exponent are integers to most parsers: "-0"
 * would lose its sign, and 1e20 would be out of range.
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


inline char *
write_number(char *p, Float16 v)
{
    return write_number(p, v.get());
}


inline char *
write_number(char *p, BFloat16 v)
{
    return write_number(p, v.get());
}


/* writes the elements of a row from the given axis on, and advances v */

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


} /* namespace webtorch::json */


#endif /* _NGX_WEBTORCH_JSON_WRITE_HPP_INCLUDED_ */
