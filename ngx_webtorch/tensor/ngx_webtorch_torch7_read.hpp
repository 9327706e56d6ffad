
/*
 * Reads the words of Torch7's ASCII serialization.
 */


#ifndef _NGX_WEBTORCH_TORCH7_READ_HPP_INCLUDED_
#define _NGX_WEBTORCH_TORCH7_READ_HPP_INCLUDED_


#include "ngx_webtorch_error.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>


namespace webtorch::torch7 {


/* the type of a serialized object that is a tensor or a storage */
constexpr int64_t kTypeTorch = 4;


/*
 * Reads words of a serialization, in order.  Functions return false if a word
 * is missing or malformed, and set the error; "what" is its text.
 */

class Reader {
public:
    Reader(const char *p, size_t len, ngx_webtorch_error_t *err)
        : p_(p), end_(p + len), err_(err)
    {
    }

    /* the type, index, version and class of an object */
    bool object(std::string_view *name);

    bool integer(int64_t *v, const char *what);
    template <typename T> bool element(T *v);
    bool at_end();

    size_t left() const { return static_cast<size_t>(end_ - p_); }
    ngx_webtorch_error_t *err() const { return err_; }
    bool malformed(const char *what);

private:
    void skip_space();
    bool word(std::string_view *s, const char *what);
    bool counted(std::string_view *s, const char *what);

    const char            *p_;
    const char            *end_;
    ngx_webtorch_error_t  *err_;
};


inline bool
is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}


inline bool
Reader::malformed(const char *what)
{
    ngx_webtorch_error(err_, 400, "malformed_body",
                       "invalid Torch7 serialization: %s", what);
    return false;
}


inline void
Reader::skip_space()
{
    while (p_ < end_ && is_space(*p_)) {
        p_++;
    }
}


inline bool
Reader::at_end()
{
    skip_space();

    return p_ == end_;
}


inline bool
Reader::word(std::string_view *s, const char *what)
{
    const char *start;

    skip_space();

    start = p_;

    while (p_ < end_ && !is_space(*p_)) {
        p_++;
    }

    if (start == p_) {
        return malformed(what);
    }

    *s = std::string_view(start, static_cast<size_t>(p_ - start));

    return true;
}


inline bool
Reader::integer(int64_t *v, const char *what)
{
    std::string_view  s;

    if (!word(&s, what)) {
        return false;
    }

    auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *v);

    if (error != std::errc() || end != s.data() + s.size()) {
        return malformed(what);
    }

    return true;
}


/* reads a length, a newline, and as many characters */

inline bool
Reader::counted(std::string_view *s, const char *what)
{
    int64_t  n;

    if (!integer(&n, what)) {
        return false;
    }

    if (n < 1 || p_ == end_ || static_cast<uint64_t>(n) > left() - 1) {
        return malformed(what);
    }

    *s = std::string_view(p_ + 1, static_cast<size_t>(n));
    p_ += 1 + n;

    return true;
}


inline bool
Reader::object(std::string_view *name)
{
    int64_t           type, index;
    std::string_view  version;

    if (!integer(&type, "an object's type expected")) {
        return false;
    }

    if (type != kTypeTorch) {
        return malformed("the object is not a tensor");
    }

    return integer(&index, "an object's index expected")
           && counted(&version, "a version expected")
           && (version == "V 1" || malformed("the version is not \"V 1\""))
           && counted(name, "a class name expected");
}


template <typename T>
bool
parse_whole(std::string_view s, T *v)
{
    auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), *v);

    return error == std::errc() && end == s.data() + s.size();
}


inline bool
parse(std::string_view s, double *v)
{
    return parse_whole(s, v);
}


/* a number that is out of range of float32 is an error, "inf" is not */

inline bool
parse(std::string_view s, float *v)
{
    double  d;

    if (!parse_whole(s, &d)) {
        return false;
    }

    *v = static_cast<float>(d);

    return std::isfinite(*v) || !std::isfinite(d);
}


/* Float16 and BFloat16 */

template <typename T>
auto
parse(std::string_view s, T *v) -> decltype(v->set(0.0), bool())
{
    double  d;

    if (!parse_whole(s, &d)) {
        return false;
    }

    v->set(d);

    return std::isfinite(v->get()) || !std::isfinite(d);
}


template <typename T>
std::enable_if_t<std::is_integral_v<T>, bool>
parse(std::string_view s, T *v)
{
    return parse_whole(s, v);
}


inline bool
parse(std::string_view s, bool *v)
{
    *v = s == "1";

    return *v || s == "0";
}


template <typename T>
inline bool
Reader::element(T *v)
{
    std::string_view  s;

    return word(&s, "fewer elements than the storage's length")
           && (parse(s, v)
               || malformed("an element is not a number of its type"));
}


} /* namespace webtorch::torch7 */


#endif /* _NGX_WEBTORCH_TORCH7_READ_HPP_INCLUDED_ */
