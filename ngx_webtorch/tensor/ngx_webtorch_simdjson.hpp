
/*
 * A document that simdjson parses with a parser of the thread's, whose memory
 * is used again.
 */


#ifndef _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_
#define _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_


#include <memory>
#include <new>
#include <simdjson.h>


namespace webtorch {


/* one at a time in a thread; elements are valid as long as it is */

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

    /* after the text there are SIMDJSON_PADDING bytes that can be read */

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
    /* no sane tensor is deeper; simdjson's own walk is iterative anyway */
    static constexpr size_t  kMaxDepth = 64;

    /* a parser with room for texts up to this is kept, a larger one is not */
    static constexpr size_t  kKeptCapacity = 1024 * 1024;

    static std::unique_ptr<simdjson::dom::parser> &
    parser()
    {
        static thread_local std::unique_ptr<simdjson::dom::parser>  p;

        return p;
    }
};


} /* namespace webtorch */


#endif /* _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_ */
