
/*
 * Documents of simdjson, parsed by a parser that each thread keeps with its
 * memory.
 */


#ifndef _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_
#define _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_


#include <memory>
#include <new>
#include <simdjson.h>


namespace webtorch {


/*
 * A thread can have one at a time.  Elements are valid until it is destroyed.
 */

class Document {
public:
    Document() = default;
    Document(const Document &) = delete;
    Document &operator=(const Document &) = delete;

    ~Document()
    {
        if (parser() && parser()->capacity() > kKeptCapacity) {
            parser().reset();
        }
    }

    /* SIMDJSON_PADDING bytes after the text must be readable */

    simdjson::error_code
    parse(const char *text, size_t len, simdjson::dom::element *root)
    {
        if (!parser()) {
            parser().reset(new (std::nothrow) simdjson::dom::parser());

            if (!parser() || parser()->allocate(1024, kMaxDepth)) {
                parser().reset();
                return simdjson::MEMALLOC;
            }
        }

        return parser()->parse(text, len, false).get(*root);
    }

private:
    /* more than the dimensions of any tensor; bounds recursion over elements */
    static constexpr size_t  kMaxDepth = 64;

    /*
     * Bytes of text; a parser with more room is freed after use.  It has up to
     * 14 times as much memory.
     */
    static constexpr size_t  kKeptCapacity = 128 * 1024;

    static std::unique_ptr<simdjson::dom::parser> &
    parser()
    {
        static thread_local std::unique_ptr<simdjson::dom::parser>  p;

        return p;
    }
};


} /* namespace webtorch */


#endif /* _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_ */
