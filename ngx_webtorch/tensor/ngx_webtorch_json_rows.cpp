
/*
 * Plain rows: numbers are read straight from the text, as a document of simdjson
 * takes longer than they do.  What is longer, has another shape, or is not
 * strictly JSON, is left to simdjson, which has the errors.
 */

#include "ngx_webtorch_json_rows.hpp"
#include "ngx_webtorch_json_plain.hpp"


namespace webtorch::json {

namespace {

/* bytes of rows that are read before they are reserved */
constexpr size_t kMaxRows = 8192;


/* stores a row from the given axis on; the text ends behind the last bracket */

template <typename T>
bool
read_axis(Cursor &t, const webtorch_spec_t &spec, int32_t axis, T **out)
{
    int64_t  i, n;

    if (axis == spec.ndim) {
        return read(t, (*out)++);
    }

    if (*t.p != '[') {
        return false;
    }

    n = spec.shape[axis];

    for (i = 0; i < n; i++) {
        t.p = skip_space(t.p + 1);

        if (t.p >= t.end || !read_axis(t, spec, axis + 1, out)
            || t.p > t.end)
        {
            return false;
        }

        t.p = skip_space(t.p);

        if (*t.p != (i + 1 < n ? ',' : ']')) {
            return false;
        }
    }

    t.p++;

    /* an axis without elements is left to simdjson */

    return n != 0;
}


/* t.p is at the first bracket; returns the number of rows, 0: not plain */

template <typename T>
uint32_t
read_plain(Cursor &t, const webtorch_spec_t &spec, bool single, void *buffer)
{
    uint32_t  n = 0, most;
    T        *out = static_cast<T *>(buffer);

    if (single) {
        return read_axis(t, spec, 0, &out) && t.p == t.end + 1;
    }

    most = static_cast<uint32_t>(kMaxRows
                                 / static_cast<size_t>(spec.row_size));

    do {
        t.p = skip_space(t.p + 1);

        if (n == most || t.p >= t.end || !read_axis(t, spec, 0, &out)
            || t.p > t.end)
        {
            return 0;
        }

        n++;
        t.p = skip_space(t.p);

    } while (*t.p == ',');

    return (t.p == t.end) ? n : 0;
}


bool
is_plain(const webtorch_schema_t *schema)
{
    const webtorch_spec_t &spec = schema->inputs[0];

    return schema->ninputs == 1 && schema->nmasks == 0 && schema->nbound == 0
           && schema->input_strings == 0
           && spec.row_size > 0
           && static_cast<size_t>(spec.row_size) <= kMaxRows;
}


/* returns the brackets at the cursor, one more than those of a row at most */

int32_t
count_brackets(const Cursor &t, int32_t ndim)
{
    int32_t     n = 0;
    const char *p = t.p;

    while (n <= ndim && *p == '[') {
        n++;
        p = skip_space(p + 1);
    }

    return n;
}

} /* namespace */


int
decode_rows(const Decoder &d, const char *text)
{
    bool                    single;
    alignas(8) char         buffer[kMaxRows];
    uint32_t                rows;
    Cursor                  t { text, text + d.len, 0 };
    const webtorch_spec_t  &spec = d.schema->inputs[0];

    if (!is_plain(d.schema) || d.len == 0) {
        return 1;
    }

    while (t.p < t.end && is_space(t.end[-1])) {
        t.end--;
    }

    if (t.p == t.end || *--t.end != ']') {
        return 1;
    }

    t.p = skip_space(t.p);
    single = count_brackets(t, spec.ndim) == spec.ndim;

    if (*t.p != '[' || (!single && !d.schema->batched)) {
        return 1;
    }

    rows = visit(spec.dtype, [&](auto type) {
        return read_plain<typename decltype(type)::type>(t, spec, single,
                                                         buffer);
    });

    if (rows == 0) {
        return 1;
    }

    ngx_webtorch_unbind(d.schema, d.layout);

    d.layout->rows = rows;
    d.layout->single = single;
    d.layout->named = 0;
    d.layout->records = 0;

    if (d.sink->reserve(d.sink, d.layout, d.err) != 0) {
        return -1;
    }

    std::memcpy(d.sink->data[0], buffer,
                rows * static_cast<size_t>(spec.row_size));

    return 0;
}


} /* namespace webtorch::json */
