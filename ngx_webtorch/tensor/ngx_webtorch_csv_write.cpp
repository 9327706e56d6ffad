
/*
 * Answers as CSV.
 */

#include "ngx_webtorch_csv_write.hpp"
#include "ngx_webtorch_json_write.hpp"

#include <charconv>
#include <cstring>
#include <simdjson.h>


namespace webtorch::csv {

namespace {

using json::kEscapedLen;
using json::kNumberLen;
using json::write_number;
using json::write_text;


char *
write_header(char *p, const webtorch_spec_t &spec)
{
    uint64_t  n = ngx_webtorch_row_elements(&spec);

    for (uint64_t i = 0; i < n; i++) {
        p = write_text(p, spec.name);

        if (spec.ndim) {
            *p++ = '.';
            p = std::to_chars(p, p + kNumberLen, i).ptr;
        }

        *p++ = ',';
    }

    return p;
}


/* bytes that are not UTF-8 become U+FFFD, as in JSON */

char *
write_field(char *p, const webtorch_text_t &v)
{
    bool              valid, quoted;
    std::string_view  text(reinterpret_cast<const char *>(v.at), v.len);

    if (text.empty()) {
        return write_text(p, "\"\"");
    }

    valid = simdjson::validate_utf8(text.data(), text.size());
    quoted = text.find_first_of(",\"\r\n") != text.npos;

    if (valid && !quoted) {
        return write_text(p, text);
    }

    *p++ = '"';

    for (char c : text) {
        if (!valid && static_cast<unsigned char>(c) >= 0x80) {
            p = write_text(p, "\xef\xbf\xbd");
            continue;
        }

        if (c == '"') {
            *p++ = '"';
        }

        *p++ = c;
    }

    *p++ = '"';

    return p;
}


template <typename T>
char *
write_field(char *p, T v)
{
    if constexpr (std::is_floating_point_v<T>) {
        if (std::isnan(v)) {
            return write_text(p, "NaN");
        }

        if (std::isinf(v)) {
            return write_text(p, v < 0 ? "-inf" : "inf");
        }

        return write_number(p, v);

    } else if constexpr (std::is_integral_v<T>) {
        return write_number(p, v);

    } else {
        return write_field(p, v.get());
    }
}


template <typename T>
char *
write_row(char *p, const void *data, uint64_t n)
{
    const T *v = static_cast<const T *>(data);

    for (uint64_t i = 0; i < n; i++) {
        p = write_field(p, v[i]);
        *p++ = ',';
    }

    return p;
}

} /* namespace */


size_t
bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    size_t  size = 2 + layout->rows + kEscapedLen * layout->text;

    for (uint32_t i = 0; i < n; i++) {
        size += ngx_webtorch_row_elements(&specs[i])
                * (std::strlen(specs[i].name) + kNumberLen
                   + layout->rows * (kNumberLen + sizeof("\"\",")));
    }

    return size;
}


char *
encode(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    using Write = char *(*)(char *p, const void *data, uint64_t n);

    char      *start = p;
    Write      write[WEBTORCH_MAX_TENSORS];
    uint64_t   elements[WEBTORCH_MAX_TENSORS];

    for (uint32_t i = 0; i < n; i++) {
        p = write_header(p, specs[i]);

        elements[i] = ngx_webtorch_row_elements(&specs[i]);
        write[i] = webtorch::visit_all(specs[i].dtype, [](auto t) -> Write {
            return write_row<typename decltype(t)::type>;
        });
    }

    /* each comma at the end of a line is replaced by the end */

    p -= (p != start);
    *p++ = '\n';

    for (uint32_t row = 0; row < layout->rows; row++) {
        start = p;

        for (uint32_t i = 0; i < n; i++) {
            p = write[i](p, static_cast<const char *>(data[i])
                            + row * static_cast<size_t>(specs[i].row_size),
                         elements[i]);
        }

        p -= (p != start);
        *p++ = '\n';
    }

    return p;
}


} /* namespace webtorch::csv */
