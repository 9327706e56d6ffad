
/*
 * Columns of Arrow's IPC streams.
 */


#ifndef _NGX_WEBTORCH_ARROW_READ_HPP_INCLUDED_
#define _NGX_WEBTORCH_ARROW_READ_HPP_INCLUDED_


#include "ngx_webtorch_arrow.hpp"
#include "ngx_webtorch_codec.h"

#include <cstring>
#include <string_view>
#include <vector>


namespace webtorch::arrow {


/* the type of a column: lists around elements */

struct ColumnType {
    uint32_t  input;                      /* index in the schema */
    uint32_t  nlists;
    uint8_t   lists[NGX_WEBTORCH_ARRAY_DIMS];       /* TypeType */
    int32_t   sizes[NGX_WEBTORCH_ARRAY_DIMS];       /* of fixed-size lists */
    uint8_t   type;                       /* of elements */
    int32_t   dtype;                      /* of numbers and bool */
};


/* the elements of a column in a record batch; all are in its body */

struct Chunk {
    uint32_t          rows;
    uint64_t          elements;
    uint64_t          start;              /* element of the buffers */
    const char       *validity;           /* bits; NULL: none is missing */
    std::string_view  data;
    std::string_view  offsets;            /* or views */
    uint32_t          nviews;             /* buffers of views */
    size_t            views;              /* the first of them in the stream's
                                             "buffers" */
};


/* -1: err is set in all functions */

struct Reader {
    const webtorch_schema_t        *schema;
    ngx_webtorch_sink_t            *sink;
    ngx_webtorch_layout_t          *layout;
    ngx_webtorch_error_t           *err;
    size_t                          len;            /* of the stream */
    uint64_t                        nulls;          /* rows without buffers */
    std::vector<ColumnType>         columns;
    std::vector<Chunk>              chunks;         /* batch by batch */
    std::vector<std::string_view>   buffers;        /* of views */
};


inline int
malformed(const Reader &r, const char *what)
{
    return ngx_webtorch_error(r.err, 400, "malformed_body",
                              "invalid Arrow stream: %s", what);
}


/* sets columns, and the bits of inputs that have one */
int read_schema(Reader &r, const Schema *schema, uint32_t *seen);

/* parses all messages: sets columns, chunks, and the layout but for its text */
int read_stream(Reader &r, std::string_view body);

/* writes the elements of a chunk to rows at p */
int read_chunk(const Reader &r, const ColumnType &column, const Chunk &chunk,
    char *p);

/* adds the bytes of the strings of a chunk, which it checks, to *size */
int count_chunk(const Reader &r, const ColumnType &column, const Chunk &chunk,
    size_t *size);

/* returns number i of unaligned ones */

template <typename T>
T
load(std::string_view data, uint64_t i)
{
    T  v;

    std::memcpy(&v, data.data() + i * sizeof(T), sizeof(T));

    return v;
}


inline bool
is_text(uint8_t type)
{
    return type == kUtf8 || type == kBinary || type == kLargeUtf8
           || type == kLargeBinary || type == kUtf8View || type == kBinaryView;
}


inline bool
is_view(uint8_t type)
{
    return type == kUtf8View || type == kBinaryView;
}


/* returns whether a bit, the element's, is set */

inline bool
is_valid(const Chunk &chunk, uint64_t i)
{
    i += chunk.start;

    return chunk.validity == nullptr
           || (static_cast<unsigned char>(chunk.validity[i / 8]) >> i % 8 & 1);
}


} /* namespace webtorch::arrow */


#endif /* _NGX_WEBTORCH_ARROW_READ_HPP_INCLUDED_ */
