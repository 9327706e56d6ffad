
/*
 * The fields of CSV (RFC 4180): where they are in a body, and their values.
 */


#ifndef _NGX_WEBTORCH_CSV_HPP_INCLUDED_
#define _NGX_WEBTORCH_CSV_HPP_INCLUDED_


#include "ngx_webtorch_dtype.hpp"
#include "ngx_webtorch_error.h"

#include <charconv>
#include <cstring>
#include <string_view>
#include <type_traits>


namespace webtorch::csv {


/* a longer body is refused, so that positions have 32 bits */
constexpr size_t kMaxSize = size_t { 1 } << 30;


struct Field {
    uint32_t  at;                         /* offset in the body */
    uint32_t  len : 30;
    uint32_t  quoted : 1;                 /* between quotes, which at and len
                                             leave out */
    uint32_t  escaped : 1;                /* has doubled quotes */
};


/* Takes fields off a body, line by line. */

class Scanner {
public:
    Scanner(std::string_view body, size_t at, ngx_webtorch_error_t *err)
        : body_(body), p_(body.data() + at), end_(body.data() + body.size()),
          err_(err)
    {
    }

    /* -1: err is set, 0: the line continues, 1: it is its last field */

    int
    next(Field *field)
    {
        return (p_ < end_ && *p_ == '"') ? quoted(field) : plain(field);
    }

    bool at_end() const { return p_ == end_; }
    size_t at() const { return static_cast<size_t>(p_ - body_.data()); }

private:
    int plain(Field *field);
    int quoted(Field *field);
    int finish(const char *end);

    std::string_view       body_;
    const char            *p_;
    const char            *end_;
    ngx_webtorch_error_t  *err_;
};


/* the line and the byte in it, both from 1, of an offset in a body */

struct Place {
    size_t  line;
    size_t  column;
};


inline Place
find_place(std::string_view body, size_t at)
{
    size_t  line = 1, start = 0;

    for (size_t i = 0; i < at; i++) {
        if (body[i] == '\n') {
            line++;
            start = i + 1;
        }
    }

    return { line, at - start + 1 };
}


/* takes the end of a line, or of a field, at p */

inline int
Scanner::finish(const char *p)
{
    if (p == end_) {
        p_ = end_;
        return 1;
    }

    if (*p == ',') {
        p_ = p + 1;
        return 0;
    }

    p_ = p + 1 + (*p == '\r');

    return 1;
}


inline int
Scanner::plain(Field *field)
{
    static constexpr uint64_t  ones = 0x0101010101010101;
    static constexpr uint64_t  highs = 0x8080808080808080;

    uint64_t     word, mark;
    const char  *p = p_;

    /* bytes below '-' are rare in numbers and words: eight bytes at once */

    for ( ;; ) {
        if (end_ - p >= 8) {
            std::memcpy(&word, p, 8);

            mark = (word - ones * ('-')) & ~word & highs;

            if (mark == 0) {
                p += 8;
                continue;
            }

            p += __builtin_ctzll(mark) / 8;
        }

        if (p == end_ || *p == ',' || *p == '\n'
            || (*p == '\r' && p + 1 < end_ && p[1] == '\n'))
        {
            break;
        }

        p++;
    }

    field->at = static_cast<uint32_t>(p_ - body_.data());
    field->len = static_cast<uint32_t>(p - p_);
    field->quoted = 0;
    field->escaped = 0;

    return finish(p);
}


inline int
Scanner::quoted(Field *field)
{
    Place        place;
    const char  *p = p_ + 1;

    field->at = static_cast<uint32_t>(p - body_.data());
    field->quoted = 1;
    field->escaped = 0;

    for ( ;; ) {
        p = static_cast<const char *>(
                std::memchr(p, '"', static_cast<size_t>(end_ - p)));

        if (p == nullptr) {
            place = find_place(body_, at());

            return ngx_webtorch_error(err_, 400, "malformed_body",
                       "invalid CSV: the quotes at line %zu, column %zu are "
                       "not closed", place.line, place.column);
        }

        if (p + 1 == end_ || p[1] != '"') {
            break;
        }

        field->escaped = 1;
        p += 2;
    }

    field->len = static_cast<uint32_t>(p - body_.data()) - field->at;

    p++;

    if (p == end_ || *p == ',' || *p == '\n'
        || (*p == '\r' && p + 1 < end_ && p[1] == '\n'))
    {
        return finish(p);
    }

    place = find_place(body_, static_cast<size_t>(p - body_.data()));

    return ngx_webtorch_error(err_, 400, "malformed_body",
               "invalid CSV: line %zu, column %zu: text after closing quotes",
               place.line, place.column);
}


/* returns the bytes of a field as a string */

inline size_t
text_size(std::string_view body, const Field &field)
{
    size_t  n = field.len;

    for (size_t i = 0; field.escaped && i < field.len; i++) {
        if (body[field.at + i] == '"') {
            n--;
            i++;
        }
    }

    return n;
}


/* copies a field as a string, returns the end */

inline char *
copy_text(char *p, std::string_view body, const Field &field)
{
    const char  *data = body.data() + field.at;

    if (!field.escaped) {
        if (field.len) {
            std::memcpy(p, data, field.len);
        }

        return p + field.len;
    }

    for (size_t i = 0; i < field.len; i++) {
        *p++ = data[i];
        i += (data[i] == '"');
    }

    return p;
}


enum class Parsed { kOk, kWrong, kRange };


inline std::string_view
trim(std::string_view s)
{
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) {
        s.remove_prefix(1);
    }

    while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) {
        s.remove_suffix(1);
    }

    return s;
}


/*
 * Parses up to 15 digits with a point and a sign: both their number and a power
 * of ten are doubles, so the quotient is the nearest one.  false: it is another
 * text.
 */

inline bool
parse_short(std::string_view s, double *v)
{
    static constexpr double  powers[] = {
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
        1e13, 1e14, 1e15
    };

    double       d;
    unsigned     digit;
    uint64_t     number = 0;
    const char  *p = s.data(), *last = p + s.size(), *point = nullptr;
    bool         negative = *p == '-';

    p += negative;

    if (last - p > 16 || p == last || *p == '.') {
        return false;
    }

    for ( /* void */ ; p < last; p++) {
        digit = static_cast<unsigned char>(*p) - '0';

        if (digit <= 9) {
            number = number * 10 + digit;

        } else if (*p == '.' && point == nullptr && p + 1 < last) {
            point = p + 1;

        } else {
            return false;
        }
    }

    if (number > 999999999999999) {
        return false;
    }

    d = static_cast<double>(number);

    if (point != nullptr) {
        d /= powers[last - point];
    }

    *v = negative ? -d : d;

    return true;
}


/*
 * Returns whether a number is less than 1, by the place of its first digit that
 * is not 0.  Fields have less than 2 ** 30 bytes, which a larger exponent
 * outweighs.
 */

inline bool
is_small(std::string_view s)
{
    bool         fraction = false, started = false;
    int32_t      exponent = 0;
    int64_t      place = 0;
    const char  *p, *last = s.data() + s.size();

    for (p = s.data(); p < last && *p != 'e' && *p != 'E'; p++) {

        if (*p == '.') {
            fraction = true;

        } else if (*p >= '0' && *p <= '9') {
            started = started || *p != '0';
            place += (started && !fraction);
            place -= (!started && fraction);
        }
    }

    p += (p < last);
    p += (p < last && *p == '+');

    if (std::from_chars(p, last, exponent).ec == std::errc::result_out_of_range)
    {
        return *p == '-';
    }

    return place + exponent <= 0;
}


inline Parsed
parse(std::string_view s, double *v)
{
    const char  *last = s.data() + s.size();

    if (parse_short(s, v)) {
        return Parsed::kOk;
    }

    auto [end, error] = std::from_chars(s.data(), last, *v);

    if (end != last || error == std::errc::invalid_argument) {
        return Parsed::kWrong;
    }

    if (error == std::errc()) {
        return Parsed::kOk;
    }

    /* a number that is too small is 0 */

    if (!is_small(s)) {
        return Parsed::kRange;
    }

    *v = (s.front() == '-') ? -0.0 : 0.0;

    return Parsed::kOk;
}


template <typename T>
std::enable_if_t<std::is_same_v<T, float>, Parsed>
parse(std::string_view s, T *v)
{
    double  d;
    Parsed  rc = parse(s, &d);

    if (rc == Parsed::kOk) {
        *v = static_cast<float>(d);

        if (!std::isfinite(*v) && std::isfinite(d)) {
            return Parsed::kRange;
        }
    }

    return rc;
}


/* Float16 and BFloat16 */

template <typename T>
auto
parse(std::string_view s, T *v) -> decltype(v->set(0.0), Parsed())
{
    double  d;
    Parsed  rc = parse(s, &d);

    if (rc == Parsed::kOk) {
        v->set(d);

        if (!std::isfinite(v->get()) && std::isfinite(d)) {
            return Parsed::kRange;
        }
    }

    return rc;
}


/* "31.0" is an integer, too: so data frames write integers beside gaps */

template <typename T>
std::enable_if_t<std::is_integral_v<T>, Parsed>
parse(std::string_view s, T *v)
{
    const char  *last = s.data() + s.size();

    auto [end, error] = std::from_chars(s.data(), last, *v);

    if (error == std::errc::invalid_argument) {
        return (s.size() > 1 && s.front() == '-' && s[1] >= '0' && s[1] <= '9')
               ? Parsed::kRange : Parsed::kWrong;
    }

    if (end < last && *end == '.') {
        do {
            end++;
        } while (end < last && *end == '0');
    }

    if (end != last) {
        return Parsed::kWrong;
    }

    return error == std::errc() ? Parsed::kOk : Parsed::kRange;
}


inline Parsed
parse(std::string_view s, bool *v)
{
    *v = s == "true" || s == "True" || s == "TRUE" || s == "1";

    return *v || s == "false" || s == "False" || s == "FALSE" || s == "0"
           ? Parsed::kOk : Parsed::kWrong;
}


} /* namespace webtorch::csv */


#endif /* _NGX_WEBTORCH_CSV_HPP_INCLUDED_ */
