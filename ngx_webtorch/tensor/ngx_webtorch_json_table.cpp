
/*
 * Plain tables: the text from one value to the next one is compared with that
 * of the first record, so that no key is parsed.  What differs, and what is
 * not strictly JSON, is left to simdjson.
 */

#include "ngx_webtorch_json_table.hpp"
#include "ngx_webtorch_json_plain.hpp"

#include <memory>
#include <new>


namespace webtorch::json {

namespace {

/* bytes between two values; less than the padding after a body */
constexpr size_t kMaxGap = NGX_WEBTORCH_PADDING - 8;

struct Table;

/* stores the value at table.p and moves p to its end; false: it is not plain */
using Read = bool (*)(Table &table, uint32_t input, void *out);


struct Column {
    const char           *gap;            /* text in front of the value */
    size_t                len;
    uint32_t              input;
    Read                  read;
    char                 *out;            /* the next row */
    size_t                size;           /* bytes of a row */
};


struct Table : Cursor {
    const Decoder        &d;
    ngx_webtorch_sink_t   rows;           /* until the table is found plain */
    Column                columns[WEBTORCH_MAX_TENSORS];
};


/* compares at least 4 bytes, which are read 4 or 8 at once */

template <typename Word>
bool
same_words(const char *a, const char *b, size_t len)
{
    Word    x, y;
    size_t  i = 0;

    for ( ;; ) {
        std::memcpy(&x, a + i, sizeof(Word));
        std::memcpy(&y, b + i, sizeof(Word));

        if (x != y) {
            return false;
        }

        i += sizeof(Word);

        if (i >= len) {
            return true;
        }

        /* the last words overlap */
        i = i + sizeof(Word) > len ? len - sizeof(Word) : i;
    }
}


bool
same(const char *a, const char *b, size_t len)
{
    return len < sizeof(uint64_t) ? same_words<uint32_t>(a, b, len)
                                  : same_words<uint64_t>(a, b, len);
}


template <typename T>
bool
read_value(Table &t, uint32_t input, void *out)
{
    if (*t.p == 'n') {
        if (std::memcmp(t.p, "null", 4) != 0) {
            return false;
        }

        t.p += 4;

        return ngx_webtorch_gaps_set(t.d.schema, &t.rows, input, out) == 0;
    }

    return read(t, static_cast<T *>(out));
}


/* returns the end of a value in the first record; nullptr: it is not plain */

const char *
skip_value(const char *p, const char *end)
{
    if (*p == '"') {
        p = static_cast<const char *>(
                std::memchr(p + 1, '"', static_cast<size_t>(end - p)));

        return p ? p + 1 : nullptr;
    }

    while (p < end && *p != ',' && *p != '}' && !is_space(*p)) {
        p++;
    }

    return p;
}


/* finds the input of the key at t.p, moves t.p to its value */

bool
find_column(Table &t, bool first, uint32_t *input)
{
    const char *end, *p = skip_space(t.p);

    if (!first) {
        if (*p != ',') {
            return false;
        }

        p = skip_space(p + 1);
    }

    if (*p != '"' || p >= t.end) {
        return false;
    }

    p++;
    end = static_cast<const char *>(
              std::memchr(p, '"', static_cast<size_t>(t.end - p)));

    if (end == nullptr) {
        return false;
    }

    *input = ngx_webtorch_find_input(t.d.schema, p,
                                     static_cast<size_t>(end - p));
    p = skip_space(end + 1);

    if (*p != ':' || *input == t.d.schema->ninputs) {
        return false;
    }

    t.p = skip_space(p + 1);

    return t.p < t.end;
}


/* the first record must have all inputs */

bool
find_columns(Table &t)
{
    uint32_t     k, seen = 0;
    const char  *begin, *p = t.p;

    for (k = 0; k < t.d.schema->ninputs; k++) {
        Column &column = t.columns[k];

        begin = t.p;

        if (!find_column(t, k == 0, &column.input)) {
            return false;
        }

        column.gap = begin;
        column.len = static_cast<size_t>(t.p - begin);
        column.read = visit_all(t.d.schema->inputs[column.input].dtype,
            [](auto type) -> Read {
                return read_value<typename decltype(type)::type>;
            });

        if (seen & (1u << column.input) || column.len > kMaxGap) {
            return false;
        }

        seen |= 1u << column.input;
        t.p = skip_value(t.p, t.end);

        if (t.p == nullptr || t.p >= t.end) {
            return false;
        }
    }

    t.p = p;

    return true;
}


/* returns the number of braces, which is that of records in a plain table */

size_t
count_braces(const Table &t)
{
    size_t      n = 1;
    const char *p = t.p;

    while ((p = static_cast<const char *>(
                    std::memchr(p, '{', static_cast<size_t>(t.end - p)))))
    {
        n++;
        p++;
    }

    return n;
}


/* all buffers are in one block of memory */

std::unique_ptr<char[]>
alloc_rows(Table &t, size_t rows)
{
    char                     *p;
    size_t                    sizes[WEBTORCH_MAX_BUFFERS], size = 0;
    uint32_t                  i, n = ngx_webtorch_buffers(t.d.schema);
    std::unique_ptr<char[]>   memory;

    for (i = 0; i < n; i++) {
        sizes[i] = static_cast<size_t>(t.d.schema->inputs[i].row_size) * rows;
        sizes[i] = (sizes[i] + 15) & ~static_cast<size_t>(15);
        size += sizes[i];
    }

    memory.reset(new (std::nothrow) char[size]);
    p = memory.get();

    for (i = 0; p && i < n; i++) {
        t.rows.data[i] = p;
        p += sizes[i];

        if (i >= t.d.schema->ninputs) {
            std::memset(t.rows.data[i], 0, sizes[i]);
        }
    }

    for (i = 0; p && i < t.d.schema->ninputs; i++) {
        Column  &column = t.columns[i];

        column.out = static_cast<char *>(t.rows.data[column.input]);
        column.size = static_cast<size_t>(
                          t.d.schema->inputs[column.input].row_size);
    }

    return memory;
}


/* t.p is behind the opening brace */

bool
read_record(Table &t)
{
    for (uint32_t k = 0; k < t.d.schema->ninputs; k++) {
        Column &column = t.columns[k];

        if (static_cast<size_t>(t.end - t.p) <= column.len
            || !same(t.p, column.gap, column.len))
        {
            return false;
        }

        t.p += column.len;

        if (!column.read(t, column.input, column.out)) {
            return false;
        }

        column.out += column.size;
    }

    t.p = skip_space(t.p);

    return *t.p++ == '}';
}


/* returns the number of records; 0: the table is not plain */

size_t
read_records(Table &t, size_t rows)
{
    size_t  n = 0;

    for ( ;; ) {
        if (n == rows || !read_record(t)) {
            return 0;
        }

        n++;
        t.p = skip_space(t.p);

        if (t.p >= t.end) {
            return t.p == t.end ? n : 0;
        }

        if (*t.p != ',') {
            return 0;
        }

        t.p = skip_space(t.p + 1);

        if (*t.p++ != '{') {
            return 0;
        }
    }
}


void
store_texts(const Decoder &d, const webtorch_text_t *from, webtorch_text_t *to,
    uint32_t rows)
{
    const char *text;

    for (uint32_t row = 0; row < rows; row++) {
        text = reinterpret_cast<const char *>(from[row].at);
        store(d, std::string_view(text, from[row].len), &to[row]);
    }
}


int
store_rows(Table &t, uint32_t rows)
{
    uint32_t        i;
    const Decoder  &d = t.d;

    ngx_webtorch_unbind(d.schema, d.layout);

    d.layout->rows = rows;
    d.layout->named = 1;
    d.layout->records = 1;
    d.layout->single = 0;
    d.layout->text = t.text;

    if (ngx_webtorch_gaps_reserve(d.schema, d.sink, d.layout, d.err) != 0) {
        return -1;
    }

    for (i = 0; i < ngx_webtorch_buffers(d.schema); i++) {

        if (ngx_webtorch_is_string(d.schema->inputs[i].dtype)) {
            store_texts(d, static_cast<webtorch_text_t *>(t.rows.data[i]),
                        static_cast<webtorch_text_t *>(d.sink->data[i]), rows);
            continue;
        }

        std::memcpy(d.sink->data[i], t.rows.data[i],
                    rows * static_cast<size_t>(d.schema->inputs[i].row_size));
    }

    return 0;
}


/* optional inputs, defaults and rows with a shape are left to simdjson */

bool
is_plain(const webtorch_schema_t *schema)
{
    if (!schema->batched || schema->nbound || schema->ninputs == 0) {
        return false;
    }

    for (uint32_t i = 0; i < schema->ninputs; i++) {
        if (schema->inputs[i].ndim
            || ngx_webtorch_gaps_has(schema, i,
                                     WEBTORCH_OPTIONAL|WEBTORCH_DEFAULT))
        {
            return false;
        }
    }

    return true;
}

} /* namespace */


int
decode_table(const Decoder &d, const char *text)
{
    size_t                   rows;
    const char              *p = text, *end = text + d.len;
    std::unique_ptr<char[]>  memory;

    while (p < end && is_space(*p)) {
        p++;
    }

    if (end - p < 4 || *p != '[' || !is_plain(d.schema)) {
        return 1;
    }

    while (is_space(end[-1])) {
        end--;
    }

    if (*--end != ']' || *(p = skip_space(p + 1)) != '{') {
        return 1;
    }

    Table  t { { p + 1, end, 0 }, d, {}, {} };

    if (!find_columns(t)) {
        return 1;
    }

    rows = count_braces(t);

    if (rows >= kMaxCounted) {
        return 1;
    }

    memory = alloc_rows(t, rows);

    if (!memory) {
        return 1;
    }

    rows = read_records(t, rows);

    return rows ? store_rows(t, static_cast<uint32_t>(rows)) : 1;
}


} /* namespace webtorch::json */
