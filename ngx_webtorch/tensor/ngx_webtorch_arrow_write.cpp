
/*
 * Answers as Arrow streams: a schema, one record batch, the end.  Rows of a
 * shape are fixed-size lists.  Arrow has no bfloat16: it is sent as float32.
 */

#include "ngx_webtorch_arrow_write.hpp"
#include "ngx_webtorch_arrow.hpp"
#include "ngx_webtorch_convert.h"

#include <cstring>
#include <vector>


namespace webtorch::arrow {

namespace {

using flatbuffers::FlatBufferBuilder;

/* bytes of metadata, of a stream, of a tensor, and of one of its axes */
constexpr size_t kStreamLen = 1024;
constexpr size_t kTensorLen = 512;
constexpr size_t kAxisLen = 256;


struct Columns {
    const webtorch_spec_t         *specs;
    uint32_t                       n;
    const void *const             *data;
    const ngx_webtorch_layout_t   *layout;
    bool                           large;     /* strings have 64-bit offsets */
};


size_t
align(size_t n)
{
    return (n + kAlignment - 1) / kAlignment * kAlignment;
}


size_t
offset_size(const Columns &c)
{
    return c.large ? sizeof(int64_t) : sizeof(int32_t);
}


int32_t
sent_dtype(int32_t dtype)
{
    return (dtype == WEBTORCH_BFLOAT16) ? WEBTORCH_FLOAT32 : dtype;
}


uint64_t
elements(const Columns &c, uint32_t i)
{
    return c.layout->rows * ngx_webtorch_row_elements(&c.specs[i]);
}


/* bytes of the elements, or of their offsets */

size_t
elements_size(const Columns &c, uint32_t i)
{
    int32_t  dtype = c.specs[i].dtype;

    if (ngx_webtorch_is_string(dtype)) {
        return (elements(c, i) + 1) * offset_size(c);
    }

    if (dtype == WEBTORCH_BOOL) {
        return (elements(c, i) + 7) / 8;
    }

    return elements(c, i) * ngx_webtorch_dtypes[sent_dtype(dtype)].size;
}


flatbuffers::uoffset_t
write_leaf_type(FlatBufferBuilder &b, const Columns &c, int32_t dtype,
    uint8_t *type)
{
    auto     start = b.StartTable();
    int32_t  size = static_cast<int32_t>(ngx_webtorch_dtypes[dtype].size);

    switch (ngx_webtorch_dtypes[dtype].kind) {

    case NGX_WEBTORCH_KIND_BOOL:
        *type = kBool;
        break;

    case NGX_WEBTORCH_KIND_INTEGER:
        *type = kInt;
        b.AddElement<int32_t>(place(0), 8 * size, 0);
        b.AddElement<uint8_t>(place(1), dtype >= WEBTORCH_INT8, 0);
        break;

    case NGX_WEBTORCH_KIND_FLOAT:
        *type = kFloat;
        b.AddElement<int16_t>(place(0), size == 8 ? 2 : size == 4 ? 1 : 0, 0);
        break;

    default:
        *type = (dtype == WEBTORCH_STR) ? (c.large ? kLargeUtf8 : kUtf8)
                                        : (c.large ? kLargeBinary : kBinary);
        break;
    }

    return b.EndTable(start);
}


/* a field, and those of the lists inside it */

Offset<Field>
write_field(FlatBufferBuilder &b, const Columns &c, uint32_t i, int32_t axis)
{
    uint8_t                     type;
    flatbuffers::uoffset_t      type_at, start;
    std::vector<Offset<Field>>  children;
    const webtorch_spec_t      &spec = c.specs[i];

    if (axis < spec.ndim) {
        children.push_back(write_field(b, c, i, axis + 1));

        type = kFixedSizeList;
        start = b.StartTable();
        b.AddElement<int32_t>(place(0),
                              static_cast<int32_t>(spec.shape[axis]), 0);
        type_at = b.EndTable(start);

    } else {
        type_at = write_leaf_type(b, c, sent_dtype(spec.dtype), &type);
    }

    auto  name = b.CreateString(axis ? "item" : spec.name);
    auto  vector = b.CreateVector(children);

    start = b.StartTable();
    b.AddOffset(place(0), name);
    b.AddElement<uint8_t>(place(1), 1, 0);
    b.AddElement<uint8_t>(place(2), type, 0);
    b.AddOffset(place(3), Offset<void>(type_at));
    b.AddOffset(place(5), vector);

    return Offset<Field>(b.EndTable(start));
}


/* writes the metadata of a message with its length in front; returns the end */

char *
write_message(char *p, FlatBufferBuilder &b, uint8_t type,
    flatbuffers::uoffset_t header, size_t body)
{
    uint32_t  prefix[2];
    auto      start = b.StartTable();

    b.AddElement<int16_t>(place(0), kVersion, 0);
    b.AddElement<uint8_t>(place(1), type, 0);
    b.AddOffset(place(2), Offset<void>(header));
    b.AddElement<int64_t>(place(3), static_cast<int64_t>(body), 0);
    b.Finish(Offset<Message>(b.EndTable(start)));

    prefix[0] = kContinuation;
    prefix[1] = static_cast<uint32_t>(align(b.GetSize()));

    std::memcpy(p, prefix, sizeof(prefix));
    p += sizeof(prefix);

    std::memcpy(p, b.GetBufferPointer(), b.GetSize());
    std::memset(p + b.GetSize(), 0, prefix[1] - b.GetSize());

    return p + prefix[1];
}


char *
write_schema(char *p, const Columns &c)
{
    FlatBufferBuilder           b;
    std::vector<Offset<Field>>  fields;

    for (uint32_t i = 0; i < c.n; i++) {
        fields.push_back(write_field(b, c, i, 0));
    }

    auto  vector = b.CreateVector(fields);
    auto  start = b.StartTable();

    b.AddOffset(place(1), vector);

    return write_message(p, b, kSchema, b.EndTable(start), 0);
}


/* adds a buffer of so many bytes, at the end of the body */

void
add_buffer(std::vector<Buffer> *buffers, size_t *body, size_t len)
{
    buffers->push_back({ static_cast<int64_t>(*body),
                         static_cast<int64_t>(len) });
    *body += align(len);
}


char *
write_batch(char *p, const Columns &c)
{
    size_t               body = 0;
    int64_t              length;
    FlatBufferBuilder    b;
    std::vector<Node>    nodes;
    std::vector<Buffer>  buffers;

    for (uint32_t i = 0; i < c.n; i++) {
        length = c.layout->rows;

        for (int32_t axis = 0; axis < c.specs[i].ndim; axis++) {
            nodes.push_back({ length, 0 });
            add_buffer(&buffers, &body, 0);
            length *= c.specs[i].shape[axis];
        }

        nodes.push_back({ length, 0 });
        add_buffer(&buffers, &body, 0);
        add_buffer(&buffers, &body, elements_size(c, i));

        if (ngx_webtorch_is_string(c.specs[i].dtype)) {
            add_buffer(&buffers, &body,
                       ngx_webtorch_text_size(&c.specs[i], c.data[i],
                                              c.layout->rows));
        }
    }

    auto  buffers_at = b.CreateVectorOfStructs(buffers);
    auto  nodes_at = b.CreateVectorOfStructs(nodes);
    auto  start = b.StartTable();

    b.AddElement<int64_t>(place(0), c.layout->rows, 0);
    b.AddOffset(place(1), nodes_at);
    b.AddOffset(place(2), buffers_at);

    return write_message(p, b, kRecordBatch, b.EndTable(start), body);
}


/* fills up to the next buffer */

char *
pad(char *p, size_t len)
{
    std::memset(p, 0, align(len) - len);

    return p + (align(len) - len);
}


template <typename T>
char *
write_strings(char *p, const webtorch_text_t *text, uint64_t n)
{
    T       offset = 0;
    size_t  size = (n + 1) * sizeof(T);
    char   *start = p;

    std::memcpy(p, &offset, sizeof(T));
    p += sizeof(T);

    for (uint64_t i = 0; i < n; i++) {
        offset += static_cast<T>(text[i].len);
        std::memcpy(p, &offset, sizeof(T));
        p += sizeof(T);
    }

    p = start = pad(p, size);

    for (uint64_t i = 0; i < n; i++) {
        if (text[i].len) {
            std::memcpy(p, reinterpret_cast<const char *>(text[i].at),
                        text[i].len);
            p += text[i].len;
        }
    }

    return pad(p, static_cast<size_t>(p - start));
}


char *
write_bools(char *p, const uint8_t *data, uint64_t n)
{
    size_t  size = (n + 7) / 8;

    std::memset(p, 0, size);

    for (uint64_t i = 0; i < n; i++) {
        p[i / 8] = static_cast<char>(p[i / 8] | (data[i] & 1) << i % 8);
    }

    return pad(p + size, size);
}


char *
write_column(char *p, const Columns &c, uint32_t i)
{
    size_t    size = elements_size(c, i);
    int32_t   dtype = c.specs[i].dtype;
    uint64_t  n = elements(c, i);

    if (ngx_webtorch_is_string(dtype)) {
        const auto *text = static_cast<const webtorch_text_t *>(c.data[i]);

        return c.large ? write_strings<int64_t>(p, text, n)
                       : write_strings<int32_t>(p, text, n);
    }

    if (dtype == WEBTORCH_BOOL) {
        return write_bools(p, static_cast<const uint8_t *>(c.data[i]), n);
    }

    /* a bfloat16 is always a float32 */

    (void) ngx_webtorch_convert(p, sent_dtype(dtype), c.data[i], dtype, n);

    return pad(p + size, size);
}

} /* namespace */


size_t
bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    size_t   size = kStreamLen + layout->text;
    Columns  c = { specs, n, nullptr, layout, true };

    for (uint32_t i = 0; i < n; i++) {
        size += kTensorLen + kAxisLen * static_cast<size_t>(specs[i].ndim)
                + elements_size(c, i) + 2 * kAlignment;
    }

    return size;
}


char *
encode(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    uint32_t  end[2] = { kContinuation, 0 };
    Columns   c = { specs, n, data, layout, layout->text > INT32_MAX };

    p = write_schema(p, c);
    p = write_batch(p, c);

    for (uint32_t i = 0; i < n; i++) {
        p = write_column(p, c, i);
    }

    return static_cast<char *>(std::memcpy(p, end, sizeof(end))) + sizeof(end);
}


} /* namespace webtorch::arrow */
