
/*
 * Values of plain tables in JSON.  Each function stores a value at the cursor
 * and moves the cursor to its end, or returns false: the value is another one,
 * or it is not strictly JSON.
 */


#ifndef _NGX_WEBTORCH_JSON_PLAIN_HPP_INCLUDED_
#define _NGX_WEBTORCH_JSON_PLAIN_HPP_INCLUDED_


#include "ngx_webtorch_json_read.hpp"

#include <cfloat>
#include <charconv>


namespace webtorch::json {


/* digits of any uint64_t that does not overflow */
constexpr ptrdiff_t kMaxDigits = 18;

/* doubles have all integers up to this one, and powers of ten up to 10^22 */
constexpr uint64_t kMaxExact = 9007199254740992;

constexpr double kPowers[] = {
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
    1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
};


/* in a text that ends with the bracket of an array */

struct Cursor {
    const char           *p;
    const char           *end;            /* the bracket */
    size_t                text;           /* bytes of all strings */
};


struct Number {
    uint64_t              digits;
    int                   exponent;       /* of ten */
    bool                  negative;
    bool                  integer;
    bool                  exact;          /* digits have not overflowed */
    const char           *begin;
};


inline bool
is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}


inline const char *
skip_space(const char *p)
{
    while (is_space(*p)) {
        p++;
    }

    return p;
}


inline const char *
read_digits(const char *p, uint64_t *digits)
{
    unsigned  c;

    while ((c = static_cast<unsigned char>(*p) - '0') < 10) {
        *digits = *digits * 10 + c;
        p++;
    }

    return p;
}


/* the bracket of the array ends all numbers */

inline bool
read_number(Cursor &t, Number *n)
{
    uint64_t    ignored = 0;
    ptrdiff_t   count;
    const char *p = t.p, *begin;

    n->begin = p;
    n->digits = 0;
    n->exponent = 0;
    n->integer = true;
    n->exact = true;
    n->negative = (*p == '-');

    begin = p += n->negative;
    p = (*p == '0') ? p + 1 : read_digits(p, &n->digits);
    count = p - begin;

    if (count == 0) {
        return false;
    }

    if (*p == '.') {
        begin = ++p;
        p = read_digits(p, &n->digits);
        n->exponent = static_cast<int>(begin - p);
        n->integer = false;
        count += p - begin;

        if (p == begin) {
            return false;
        }
    }

    if (*p == 'e' || *p == 'E') {
        p++;
        p += (*p == '+' || *p == '-');
        begin = p;
        p = read_digits(p, &ignored);
        n->integer = false;
        n->exact = false;

        if (p == begin) {
            return false;
        }
    }

    if (count > kMaxDigits) {
        n->exact = false;
    }

    t.p = p;

    return n->exact || !n->integer;
}


inline bool
read(Cursor &t, double *out)
{
    double  v;
    Number  n;

    if (!read_number(t, &n)) {
        return false;
    }

    if (n.integer) {
        v = static_cast<double>(n.digits);

        /* an integer has no negative zero */
        *out = n.negative && n.digits ? -v : v;

        return true;
    }

    if (FLT_EVAL_METHOD == 0 && n.exact && n.digits <= kMaxExact
        && n.exponent >= -22)
    {
        v = static_cast<double>(n.digits) / kPowers[-n.exponent];
        *out = n.negative ? -v : v;

        return true;
    }

    auto [ end, error ] = std::from_chars(n.begin, t.p, *out);

    return error == std::errc() && end == t.p;
}


inline bool
read(Cursor &t, float *out)
{
    double  v;

    if (!read(t, &v)) {
        return false;
    }

    *out = static_cast<float>(v);

    return std::isfinite(*out);
}


/* Float16 and BFloat16 */

template <typename T>
auto
read(Cursor &t, T *out) -> decltype(out->set(0.0), bool())
{
    double  v;

    if (!read(t, &v)) {
        return false;
    }

    out->set(v);

    return std::isfinite(out->get());
}


inline bool
read(Cursor &t, bool *out)
{
    *out = (*t.p == 't');

    if (std::memcmp(t.p, *out ? "true" : "false", 5 - *out) != 0) {
        return false;
    }

    t.p += 5 - *out;

    return true;
}


template <typename T>
std::enable_if_t<std::is_integral_v<T>, bool>
read(Cursor &t, T *out)
{
    Number  n;

    if (!read_number(t, &n) || !n.integer
        || (n.negative && !std::is_signed_v<T>))
    {
        return false;
    }

    /* 18 digits fit in an int64_t */

    int64_t  v = static_cast<int64_t>(n.digits);

    v = n.negative ? -v : v;
    *out = static_cast<T>(v);

    return static_cast<int64_t>(*out) == v;
}


/* the offset in the text is stored, the bytes are copied later */

inline bool
read(Cursor &t, webtorch_text_t *out)
{
    unsigned char  c, all = 0;
    const char    *begin, *p = t.p;

    if (*p++ != '"') {
        return false;
    }

    for (begin = p; /* void */ ; p++) {
        c = static_cast<unsigned char>(*p);

        if (c == '"') {
            break;
        }

        if (c == '\\' || c < 0x20 || p == t.end) {
            return false;
        }

        all |= c;
    }

    out->at = reinterpret_cast<uintptr_t>(begin);
    out->len = static_cast<size_t>(p - begin);

    if (all >= 0x80 && !simdjson::validate_utf8(begin, out->len)) {
        return false;
    }

    t.text += out->len;
    t.p = p + 1;

    return true;
}


} /* namespace webtorch::json */


#endif /* _NGX_WEBTORCH_JSON_PLAIN_HPP_INCLUDED_ */
