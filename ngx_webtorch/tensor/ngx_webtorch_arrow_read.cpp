
/*
 * Elements of Arrow's columns.  Those of the dtype of the signature are copied
 * a column at once, others are converted.
 */

#include "ngx_webtorch_arrow_read.hpp"
#include "ngx_webtorch_convert.h"
#include "ngx_webtorch_gaps.h"

#include <cstring>
#include <simdjson.h>


namespace webtorch::arrow {

namespace {

/* bytes of all strings for each byte of the stream */
constexpr unsigned kMaxShared = 8;

/* elements of bool that are converted at once */
constexpr uint64_t kBools = 64;


/* a view: its length, then its bytes or a prefix, a buffer and an offset */

struct View {
    int32_t  len;
    char     prefix[4];
    int32_t  buffer;
    int32_t  offset;
};

constexpr int32_t kInline = 12;


/* whether integers were made floats on the way, as by pandas for a gap */

bool
has_gaps(const webtorch_spec_t &spec, const ColumnType &column,
    const Chunk &chunk)
{
    if (ngx_webtorch_dtypes[spec.dtype].kind != NGX_WEBTORCH_KIND_INTEGER
        || ngx_webtorch_dtypes[column.dtype].kind != NGX_WEBTORCH_KIND_FLOAT)
    {
        return false;
    }

    for (uint64_t i = 0; i < chunk.elements; i++) {
        if (!is_valid(chunk, i)) {
            return true;
        }
    }

    return false;
}


int
wrong_dtype(const Reader &r, const ColumnType &column, const Chunk &chunk)
{
    const char             *loss;
    const webtorch_spec_t  &spec = r.schema->inputs[column.input];

    if (is_text(column.type) || ngx_webtorch_is_string(spec.dtype)) {
        return ngx_webtorch_error(r.err, 422, "wrong_dtype",
                   "tensor \"%s\": expected %s, found a column of %s",
                   spec.name, ngx_webtorch_dtypes[spec.dtype].name,
                   is_text(column.type) ? kTypeNames[column.type]
                   : ngx_webtorch_dtypes[column.dtype].name);
    }

    loss = ngx_webtorch_convert_loss(spec.dtype, column.dtype);

    return ngx_webtorch_error(r.err, 422, "wrong_dtype",
               "tensor \"%s\": expected %s, found a column of %s; a conversion "
               "from %s to %s would lose %s%s", spec.name,
               ngx_webtorch_dtypes[spec.dtype].name,
               ngx_webtorch_dtypes[column.dtype].name,
               ngx_webtorch_dtypes[column.dtype].name,
               ngx_webtorch_dtypes[spec.dtype].name, loss,
               has_gaps(spec, column, chunk)
               ? "; it has nulls: in pandas integers with gaps are of dtype "
                 "\"Int64\", here the input is annotated with webtorch.Missing"
               : "");
}


/* -1: the view is malformed */

int
get_view(const Reader &r, const Chunk &chunk, uint64_t i, std::string_view *s)
{
    View         v;
    const char  *p = chunk.offsets.data() + i * sizeof(View);

    std::memcpy(&v, p, sizeof(View));

    if (v.len < 0) {
        return -1;
    }

    if (v.len <= kInline) {
        *s = std::string_view(p + sizeof(v.len), static_cast<size_t>(v.len));
        return 0;
    }

    if (v.buffer < 0 || static_cast<uint32_t>(v.buffer) >= chunk.nviews
        || v.offset < 0)
    {
        return -1;
    }

    std::string_view  data = r.buffers[chunk.views
                                       + static_cast<uint32_t>(v.buffer)];

    if (static_cast<size_t>(v.offset) > data.size()
        || static_cast<size_t>(v.len)
           > data.size() - static_cast<size_t>(v.offset))
    {
        return -1;
    }

    *s = data.substr(static_cast<size_t>(v.offset),
                     static_cast<size_t>(v.len));

    return 0;
}


/* -1: the offsets are malformed */

template <typename T>
int
get_offsets(const Chunk &chunk, uint64_t i, std::string_view *s)
{
    T  first = load<T>(chunk.offsets, i);
    T  last = load<T>(chunk.offsets, i + 1);

    if (first < 0 || last < first
        || static_cast<uint64_t>(last) > chunk.data.size())
    {
        return -1;
    }

    *s = chunk.data.substr(static_cast<size_t>(first),
                           static_cast<size_t>(last - first));

    return 0;
}


int
get_string(const Reader &r, const ColumnType &column, const Chunk &chunk,
    uint64_t i, std::string_view *s)
{
    i += chunk.start;

    if (is_view(column.type)) {
        return get_view(r, chunk, i, s);
    }

    return (column.type == kUtf8 || column.type == kBinary)
           ? get_offsets<int32_t>(chunk, i, s)
           : get_offsets<int64_t>(chunk, i, s);
}


void
read_strings(const Reader &r, const ColumnType &column, const Chunk &chunk,
    char *p)
{
    webtorch_text_t   text;
    std::string_view  s;

    for (uint64_t i = 0; i < chunk.elements; i++, p += sizeof(text)) {

        /* count_chunk() has checked them */

        if (!is_valid(chunk, i) || get_string(r, column, chunk, i, &s) != 0) {
            std::memset(p, 0, sizeof(text));
            continue;
        }

        text.at = r.sink->at;
        text.len = s.size();
        std::memcpy(p, &text, sizeof(text));

        if (!s.empty()) {
            std::memcpy(r.sink->text, s.data(), s.size());
            r.sink->text += s.size();
            r.sink->at += s.size();
        }
    }
}


/* bits become bytes, a block at once */

void
read_bools(const webtorch_spec_t &spec, const Chunk &chunk, char *p)
{
    char      block[kBools];
    size_t    size = ngx_webtorch_dtypes[spec.dtype].size;
    uint64_t  i, k, n, at;

    for (i = 0; i < chunk.elements; i += n) {
        n = std::min(kBools, chunk.elements - i);

        for (k = 0; k < n; k++) {
            at = chunk.start + i + k;
            block[k] = static_cast<unsigned char>(chunk.data[at / 8])
                       >> at % 8 & 1;
        }

        (void) ngx_webtorch_convert(p + i * size, spec.dtype, block,
                                    WEBTORCH_BOOL, n);
    }
}


int
read_numbers(const Reader &r, const ColumnType &column, const Chunk &chunk,
    char *p)
{
    const webtorch_spec_t  &spec = r.schema->inputs[column.input];
    size_t                  size = ngx_webtorch_dtypes[column.dtype].size;
    size_t                  to = ngx_webtorch_dtypes[spec.dtype].size;
    const char             *data = chunk.data.data() + chunk.start * size;

    if (ngx_webtorch_convert(p, spec.dtype, data, column.dtype, chunk.elements)
        == 0)
    {
        return 0;
    }

    if (chunk.validity == nullptr) {
        return ngx_webtorch_convert_error(r.err, &spec, column.dtype);
    }

    /* the value at a null's position may be out of range */

    for (uint64_t i = 0; i < chunk.elements; i++) {
        if (is_valid(chunk, i)
            && ngx_webtorch_convert(p + i * to, spec.dtype, data + i * size,
                                    column.dtype, 1)
               != 0)
        {
            return ngx_webtorch_convert_error(r.err, &spec, column.dtype);
        }
    }

    return 0;
}


int
set_missing(const Reader &r, const ColumnType &column, const Chunk &chunk,
    char *p)
{
    size_t  size = ngx_webtorch_dtypes[r.schema->inputs[column.input].dtype]
                   .size;

    for (uint64_t i = 0; i < chunk.elements; i++) {
        if ((column.type == kNull || !is_valid(chunk, i))
            && ngx_webtorch_gaps_set(r.schema, r.sink, column.input,
                                     p + i * size)
               != 0)
        {
            return ngx_webtorch_error(r.err, 422, "wrong_dtype",
                       "tensor \"%s\": found a null, its elements must not be "
                       "missing unless it is annotated with webtorch.Missing",
                       r.schema->inputs[column.input].name);
        }
    }

    return 0;
}

} /* namespace */


int
count_chunk(const Reader &r, const ColumnType &column, const Chunk &chunk,
    size_t *size)
{
    bool                    utf8;
    std::string_view        s;
    const webtorch_spec_t  &spec = r.schema->inputs[column.input];

    if (column.type == kNull) {
        return 0;
    }

    if (is_text(column.type) != (ngx_webtorch_is_string(spec.dtype) != 0)) {
        return wrong_dtype(r, column, chunk);
    }

    if (!is_text(column.type)) {
        return ngx_webtorch_convert_loss(spec.dtype, column.dtype)
               ? wrong_dtype(r, column, chunk) : 0;
    }

    utf8 = spec.dtype == WEBTORCH_STR;

    for (uint64_t i = 0; i < chunk.elements; i++) {

        if (!is_valid(chunk, i)) {
            continue;
        }

        if (get_string(r, column, chunk, i, &s) != 0) {
            return malformed(r, "a string exceeds its data");
        }

        /* views and offsets may have the same bytes many times */

        *size += s.size();

        if (*size / kMaxShared > r.len) {
            return ngx_webtorch_error(r.err, 413, "too_large",
                       "tensor \"%s\": its strings share bytes, the table's "
                       "strings have more than %u times the bytes of the "
                       "stream", spec.name, kMaxShared);
        }

        if (utf8 && !s.empty()
            && !simdjson::validate_utf8(s.data(), s.size()))
        {
            return ngx_webtorch_error(r.err, 422, "wrong_dtype",
                       "tensor \"%s\": a string is not UTF-8", spec.name);
        }
    }

    return 0;
}


int
read_chunk(const Reader &r, const ColumnType &column, const Chunk &chunk,
    char *p)
{
    int                     rc = 0;
    const webtorch_spec_t  &spec = r.schema->inputs[column.input];

    if (column.type == kNull) {
        std::memset(p, 0, chunk.elements
                          * ngx_webtorch_dtypes[spec.dtype].size);

    } else if (is_text(column.type)) {
        read_strings(r, column, chunk, p);

    } else if (column.type == kBool) {
        read_bools(spec, chunk, p);

    } else {
        rc = read_numbers(r, column, chunk, p);
    }

    if (rc == 0 && (chunk.validity != nullptr || column.type == kNull)) {
        rc = set_missing(r, column, chunk, p);
    }

    return rc;
}


} /* namespace webtorch::arrow */
