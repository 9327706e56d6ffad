
/*
 * The messages of an Arrow stream: its schema, and record batches whose columns
 * are left in the body.
 */

#include "ngx_webtorch_arrow_read.hpp"
#include "ngx_webtorch_gaps.h"

#include <cinttypes>
#include <cstring>
#include <memory>
#include <new>


namespace webtorch::arrow {

namespace {

/*
 * Limits of a message's metadata, whose tables may share what is in them: each
 * column has two tables for each level of lists and for its elements.
 */
constexpr flatbuffers::uoffset_t  kMaxDepth = 32;
constexpr flatbuffers::uoffset_t  kMaxTables = 2048;
constexpr uint32_t                kMaxMetadata = 16 * 1024 * 1024;  /* bytes */


/* the next node and buffer of a record batch */

struct Batch {
    const RecordBatch      *header;
    std::string_view        body;
    flatbuffers::uoffset_t  node;
    flatbuffers::uoffset_t  buffer;
    flatbuffers::uoffset_t  variadic;
};


/* a message: metadata that is aligned, and the body after it */

struct Part {
    const Message            *message;
    std::string_view          body;
    std::unique_ptr<char[]>   copy;
};


int
take_node(const Reader &r, Batch &batch, uint64_t length, uint64_t *nulls)
{
    const auto *nodes = batch.header->nodes();

    if (nodes == nullptr || batch.node >= nodes->size()) {
        return malformed(r, "a record batch has too few nodes");
    }

    const Node *node = nodes->Get(batch.node++);

    if (node->length < 0 || static_cast<uint64_t>(node->length) != length
        || node->nulls < 0 || static_cast<uint64_t>(node->nulls) > length)
    {
        return malformed(r, "the length or the nulls of a column are wrong");
    }

    *nulls = static_cast<uint64_t>(node->nulls);

    return 0;
}


int
take_buffer(const Reader &r, Batch &batch, std::string_view *data)
{
    const auto *buffers = batch.header->buffers();

    if (buffers == nullptr || batch.buffer >= buffers->size()) {
        return malformed(r, "a record batch has too few buffers");
    }

    const Buffer *buffer = buffers->Get(batch.buffer++);

    if (buffer->offset < 0 || buffer->length < 0
        || static_cast<uint64_t>(buffer->offset) > batch.body.size()
        || static_cast<uint64_t>(buffer->length)
           > batch.body.size() - static_cast<uint64_t>(buffer->offset))
    {
        return malformed(r, "a buffer exceeds the body of its message");
    }

    *data = batch.body.substr(static_cast<size_t>(buffer->offset),
                              static_cast<size_t>(buffer->length));

    return 0;
}


uint64_t
count_bits(const char *bits, uint64_t start, uint64_t n)
{
    uint64_t  word, count = 0, i = start, end = start + n;

    for ( /* void */ ; i < end && i % 8; i++) {
        count += static_cast<unsigned char>(bits[i / 8]) >> i % 8 & 1;
    }

    for ( /* void */ ; i + 64 <= end; i += 64) {
        std::memcpy(&word, bits + i / 8, 8);
        count += static_cast<uint64_t>(__builtin_popcountll(word));
    }

    for ( /* void */ ; i < end; i++) {
        count += static_cast<unsigned char>(bits[i / 8]) >> i % 8 & 1;
    }

    return count;
}


/* takes the bits of nulls of length elements; *bits is NULL if there are none */

int
take_validity(const Reader &r, Batch &batch, uint64_t length, uint64_t nulls,
    const char **bits)
{
    std::string_view  data;

    *bits = nullptr;

    if (take_buffer(r, batch, &data) != 0) {
        return -1;
    }

    if (data.empty()) {
        return nulls ? malformed(r, "a column has nulls and no bits of them")
                     : 0;
    }

    if (data.size() < (length + 7) / 8
        || length - count_bits(data.data(), 0, length) != nulls)
    {
        return malformed(r, "the bits of nulls do not fit their number");
    }

    if (nulls) {
        *bits = data.data();
    }

    return 0;
}


/*
 * Takes the offsets of lists, which must all have the same length: *start and
 * *length are those of the lists, and become those of their elements.
 */

template <typename T>
int
take_offsets(const Reader &r, const webtorch_spec_t &spec, Batch &batch,
    uint64_t *start, uint64_t *length, uint64_t *size)
{
    T                 first, before, next;
    uint64_t          i;
    std::string_view  offsets;

    if (take_buffer(r, batch, &offsets) != 0) {
        return -1;
    }

    if (*length == 0) {
        *size = 0;
        return 0;
    }

    if (offsets.size() / sizeof(T) < *start + *length + 1) {
        return malformed(r, "a list has too few offsets");
    }

    first = before = load<T>(offsets, *start);
    next = load<T>(offsets, *start + 1);

    if (first < 0 || next < first) {
        return malformed(r, "the offsets of a list are not in order");
    }

    *size = static_cast<uint64_t>(next) - static_cast<uint64_t>(first);

    for (i = 1; i <= *length; i++) {
        next = load<T>(offsets, *start + i);

        if (next < before) {
            return malformed(r, "the offsets of a list are not in order");
        }

        if (static_cast<uint64_t>(next) - static_cast<uint64_t>(before)
            != *size)
        {
            return ngx_webtorch_error(r.err, 422, "wrong_shape",
                       "tensor \"%s\": its lists differ in length", spec.name);
        }

        before = next;
    }

    *start = static_cast<uint64_t>(first);
    *length *= *size;

    return 0;
}


/* the length of the array of a list's elements, which a node must have */

int
next_length(const Batch &batch, uint64_t *length)
{
    const auto *nodes = batch.header->nodes();

    if (nodes == nullptr || batch.node >= nodes->size()
        || nodes->Get(batch.node)->length < 0)
    {
        return -1;
    }

    *length = static_cast<uint64_t>(nodes->Get(batch.node)->length);

    return 0;
}


/* takes the levels of lists; array: length of the whole array of a level */

int
take_lists(Reader &r, Batch &batch, const ColumnType &column, Chunk *chunk,
    int64_t *shape)
{
    int                     rc;
    uint64_t                nulls, array, size = 0;
    const char             *bits;
    const webtorch_spec_t  &spec = r.schema->inputs[column.input];

    array = chunk->rows;
    chunk->start = 0;
    chunk->elements = chunk->rows;

    for (uint32_t i = 0; i < column.nlists; i++) {

        if (take_node(r, batch, array, &nulls) != 0
            || take_validity(r, batch, array, nulls, &bits) != 0)
        {
            return -1;
        }

        if (nulls) {
            return ngx_webtorch_error(r.err, 422, "wrong_dtype",
                       "tensor \"%s\": a null among its lists", spec.name);
        }

        if (column.lists[i] == kFixedSizeList) {
            size = static_cast<uint64_t>(column.sizes[i]);

            if (column.sizes[i] < 0
                || __builtin_mul_overflow(chunk->start, size, &chunk->start)
                || __builtin_mul_overflow(chunk->elements, size,
                                          &chunk->elements))
            {
                return malformed(r, "the size of a list is out of range");
            }

        } else {
            rc = (column.lists[i] == kList)
                 ? take_offsets<int32_t>(r, spec, batch, &chunk->start,
                                         &chunk->elements, &size)
                 : take_offsets<int64_t>(r, spec, batch, &chunk->start,
                                         &chunk->elements, &size);

            if (rc != 0) {
                return -1;
            }
        }

        if (next_length(batch, &array) != 0
            || chunk->start > array || chunk->elements > array - chunk->start)
        {
            return malformed(r, "a list exceeds its elements");
        }

        shape[i] = static_cast<int64_t>(size);
    }

    return take_node(r, batch, array, &nulls) != 0 ? -1
           : column.type == kNull ? 0
           : take_validity(r, batch, array, nulls, &chunk->validity);
}


int
take_views(Reader &r, Batch &batch, Chunk *chunk)
{
    int64_t           n;
    const auto       *variadic = batch.header->variadic();
    std::string_view  data;

    if (variadic == nullptr || batch.variadic >= variadic->size()) {
        return malformed(r, "views have no number of buffers");
    }

    n = variadic->Get(batch.variadic++);

    if (n < 0 || n > static_cast<int64_t>(batch.header->buffers()->size())) {
        return malformed(r, "views have a wrong number of buffers");
    }

    chunk->views = r.buffers.size();
    chunk->nviews = static_cast<uint32_t>(n);

    while (n--) {
        if (take_buffer(r, batch, &data) != 0) {
            return -1;
        }

        r.buffers.push_back(data);
    }

    return 0;
}


/* takes the buffers of elements, and checks that they are long enough */

int
take_elements(Reader &r, Batch &batch, const ColumnType &column, Chunk *chunk)
{
    size_t    size;
    uint64_t  n = chunk->start + chunk->elements;

    if (column.type == kNull) {

        /*
         * No buffer bounds them, but in all batches together a column of bits
         * could not have more.
         */

        return __builtin_add_overflow(r.nulls, chunk->elements, &r.nulls)
               || r.nulls > 8 * r.len * r.columns.size()
               ? malformed(r, "its nulls are more than the bits of the stream")
               : 0;
    }

    if (is_text(column.type)) {
        size = (column.type == kUtf8 || column.type == kBinary) ? 4 : 8;
        size = is_view(column.type) ? 16 : size;
        n += !is_view(column.type);

        if (take_buffer(r, batch, &chunk->offsets) != 0) {
            return -1;
        }

        if (chunk->elements && chunk->offsets.size() / size < n) {
            return malformed(r, "strings have too few offsets");
        }

        return is_view(column.type) ? take_views(r, batch, chunk)
                                    : take_buffer(r, batch, &chunk->data);
    }

    if (take_buffer(r, batch, &chunk->data) != 0) {
        return -1;
    }

    if (column.type == kBool ? chunk->data.size() < (n + 7) / 8
        : chunk->data.size() / ngx_webtorch_dtypes[column.dtype].size < n)
    {
        return malformed(r, "a column has too few elements");
    }

    return 0;
}


int
bind_column(const Reader &r, const ColumnType &column, const int64_t *shape)
{
    int                     rc = 1;
    char                    text[NGX_WEBTORCH_SHAPE_LEN];
    const webtorch_spec_t  &spec = r.schema->inputs[column.input];

    if (column.nlists == static_cast<uint32_t>(spec.ndim)) {
        rc = ngx_webtorch_bind(r.schema, &spec, shape, r.layout, r.err);
    }

    if (rc == 1) {
        return ngx_webtorch_error_mismatch(r.err, "wrong_shape", r.schema,
                   &spec, "a column with rows of",
                   ngx_webtorch_shape(text, shape, column.nlists));
    }

    return rc;
}


int
read_batch(Reader &r, const RecordBatch *header, std::string_view body)
{
    Batch    batch = { header, body, 0, 0, 0 };
    Chunk    chunk;
    int64_t  shape[NGX_WEBTORCH_ARRAY_DIMS];

    if (header == nullptr || header->length() < 0) {
        return malformed(r, "a record batch has no length");
    }

    if (header->is_compressed()) {
        return ngx_webtorch_error(r.err, 415, "unsupported_media_type",
                   "the Arrow stream's buffers are compressed: send them "
                   "uncompressed, or the stream by Content-Encoding: gzip");
    }

    if (header->length() > UINT32_MAX - r.layout->rows) {
        return ngx_webtorch_error(r.err, 413, "too_many_rows",
                                  "the Arrow stream has too many rows");
    }

    if (header->length() == 0) {
        return 0;
    }

    r.layout->rows += static_cast<uint32_t>(header->length());

    for (const ColumnType &column : r.columns) {
        chunk = {};
        chunk.rows = static_cast<uint32_t>(header->length());

        if (take_lists(r, batch, column, &chunk, shape) != 0
            || bind_column(r, column, shape) != 0
            || take_elements(r, batch, column, &chunk) != 0)
        {
            return -1;
        }

        r.chunks.push_back(chunk);
    }

    return 0;
}


/* takes a message off the body; 1: the end of the stream */

int
take_message(const Reader &r, std::string_view *body, Part *part)
{
    uint32_t     prefix[2];
    uint64_t     length;
    const char  *data;

    if (body->empty()) {
        return 1;
    }

    if (body->size() < sizeof(prefix)) {
        return malformed(r, "it is cut off");
    }

    std::memcpy(prefix, body->data(), sizeof(prefix));

    if (prefix[0] != kContinuation) {
        return malformed(r, "it is not a stream of messages");
    }

    body->remove_prefix(sizeof(prefix));

    if (prefix[1] == 0) {
        return 1;
    }

    if (prefix[1] > body->size()) {
        return malformed(r, "it is cut off");
    }

    if (prefix[1] > kMaxMetadata) {
        return malformed(r, "the metadata of a message are too long");
    }

    /* numbers of the metadata are read in place, at their alignment */

    data = body->data();
    part->copy.reset();

    if (reinterpret_cast<uintptr_t>(data) % kAlignment) {
        part->copy.reset(new (std::nothrow) char[prefix[1]]);

        if (!part->copy) {
            return ngx_webtorch_error(r.err, 500, "no_memory", "no memory");
        }

        data = static_cast<const char *>(std::memcpy(part->copy.get(), data,
                                                     prefix[1]));
    }

    Verifier  verifier(reinterpret_cast<const uint8_t *>(data), prefix[1],
                       kMaxDepth, kMaxTables);

    if (!verifier.VerifyBuffer<Message>()) {
        return malformed(r, "the metadata of a message are malformed "
                         "or have too many fields");
    }

    part->message = flatbuffers::GetRoot<Message>(data);
    body->remove_prefix(prefix[1]);

    length = static_cast<uint64_t>(part->message->body_length());

    if (length > body->size()) {
        return malformed(r, "it is cut off");
    }

    part->body = body->substr(0, length);
    body->remove_prefix(length);

    return 0;
}

} /* namespace */


int
read_stream(Reader &r, std::string_view body)
{
    int       rc;
    Part      part;
    uint32_t  seen = 0;

    r.len = body.size();

    rc = take_message(r, &body, &part);

    if (rc < 0) {
        return -1;
    }

    if (rc == 1 || part.message->header_type() != kSchema) {
        return malformed(r, "it does not begin with a schema");
    }

    if (read_schema(r, part.message->header<Schema>(), &seen) != 0) {
        return -1;
    }

    ngx_webtorch_unbind(r.schema, r.layout);

    if (ngx_webtorch_gaps_absent(r.schema, seen, r.layout, r.err) != 0) {
        return -1;
    }

    for ( ;; ) {
        rc = take_message(r, &body, &part);

        if (rc != 0) {
            break;
        }

        if (part.message->header_type() != kRecordBatch) {
            return malformed(r, "a message is not a record batch");
        }

        if (read_batch(r, part.message->header<RecordBatch>(), part.body) != 0)
        {
            return -1;
        }
    }

    if (rc < 0) {
        return -1;
    }

    if (r.layout->rows == 0
        || (!r.schema->batched && r.layout->rows != 1))
    {
        return ngx_webtorch_error(r.err, 422, "wrong_shape",
                   "expected %s, found a table of %" PRIu32 " rows",
                   r.schema->batched ? "rows" : "one row", r.layout->rows);
    }

    return 0;
}


} /* namespace webtorch::arrow */
