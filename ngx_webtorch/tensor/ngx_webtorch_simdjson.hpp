
/*
 * Documents of simdjson, whose parsers are kept with their memory.
 */


#ifndef _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_
#define _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_


#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <simdjson.h>


namespace webtorch {


/*
 * A thread can have one at a time.  Elements are valid until it is destroyed.
 * The parser of short texts is the thread's own.  Those of longer ones have up
 * to 14 times the memory of the text, and are shared by all threads.
 */

class Document {
public:
    Document() = default;
    Document(const Document &) = delete;
    Document &operator=(const Document &) = delete;

    ~Document()
    {
        if (parser_ && parser_->capacity() <= kKeptCapacity) {
            std::lock_guard<std::mutex>  lock(mutex());

            for (auto &kept : kept_parsers()) {
                if (!kept) {
                    kept = std::move(parser_);
                    return;
                }
            }
        }
    }

    /*
     * SIMDJSON_PADDING bytes after the text must be readable.  A byte order
     * mark is skipped, as RFC 8259 allows.
     */

    simdjson::error_code
    parse(const char *text, size_t len, simdjson::dom::element *root)
    {
        static thread_local std::unique_ptr<simdjson::dom::parser>  own;

        auto &parser = (len <= kOwnCapacity) ? own : parser_;

        if (len > kOwnCapacity) {
            take();
        }

        if (!parser) {
            parser.reset(new (std::nothrow) simdjson::dom::parser());

            if (!parser || parser->allocate(1024, kMaxDepth)) {
                parser.reset();
                return simdjson::MEMALLOC;
            }
        }

        if (len >= 3 && std::memcmp(text, "\xef\xbb\xbf", 3) == 0) {
            text += 3;
            len -= 3;
        }

        return parser->parse(text, len, false).get(*root);
    }

private:
    /* more than the dimensions of any tensor; bounds recursion over elements */
    static constexpr size_t  kMaxDepth = 64;

    /* bytes of text */
    static constexpr size_t  kOwnCapacity = 16 * 1024;

    /* bytes of text; a parser with more room is freed after use */
    static constexpr size_t  kKeptCapacity = 1024 * 1024;

    static constexpr size_t  kKeptParsers = 4;

    using Parsers =
        std::array<std::unique_ptr<simdjson::dom::parser>, kKeptParsers>;

    /* takes a parser that is kept, if there is one */

    void
    take()
    {
        std::lock_guard<std::mutex>  lock(mutex());

        for (auto &kept : kept_parsers()) {
            if (kept) {
                parser_ = std::move(kept);
                return;
            }
        }
    }

    static std::mutex &
    mutex()
    {
        static std::mutex  m;

        return m;
    }

    static Parsers &
    kept_parsers()
    {
        /* never destroyed, as threads may use it while the process exits */
        static Parsers &parsers = *new Parsers();

        return parsers;
    }

    std::unique_ptr<simdjson::dom::parser>  parser_;
};


} /* namespace webtorch */


#endif /* _NGX_WEBTORCH_SIMDJSON_HPP_INCLUDED_ */
