
/*
 * JSON: rows [[a, b], [c, d]], one row [a, b], tensors by name,
 * {"x": [[a, b]]}, or records, [{"x": [a, b]}]; elements are numbers or
 * strings.  The answer has the layout of the request.  simdjson parses;
 * std::to_chars() writes a number as the shortest text that is parsed to the
 * same number.
 */

#include "ngx_webtorch_hint.h"
#include "ngx_webtorch_json_read.hpp"
#include "ngx_webtorch_json_records.hpp"
#include "ngx_webtorch_json_rows.hpp"
#include "ngx_webtorch_json_table.hpp"
#include "ngx_webtorch_json_tensors.hpp"
#include "ngx_webtorch_json_write.hpp"

#include <cinttypes>
#include <cstring>

namespace {

using namespace webtorch::json;


int
read_tensor(const Decoder &d, const webtorch_spec_t &spec, const Found &found,
    void *data)
{
    return webtorch::visit_all(spec.dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        return read_rows(d, spec, found.value, found.single,
                         static_cast<T *>(data));
    });
}


/*
 * Binds the shape along the first elements of a row; read_row() checks that all
 * other elements have it.
 */

int
bind(const Decoder &d, const webtorch_spec_t &spec, const Found &found,
    const int64_t *shape)
{
    for (int32_t i = 0; i < spec.ndim; i++) {
        if (spec.shape[i] < 0
            && shape[i] >= static_cast<int64_t>(kMaxCounted))
        {
            return ngx_webtorch_error(d.err, 413, "too_large",
                       "tensor \"%s\": an axis is too long for JSON",
                       spec.name);
        }
    }

    switch (ngx_webtorch_bind(d.schema, &spec, shape, d.layout, d.err)) {

    case 0:
        return 0;

    case 1:
        return mismatch(d, spec, found.value);

    default:
        return -1;
    }
}


/*
 * Sets the number of rows by the depth of a value, which is that of a row or
 * one more, and binds the variable axes.
 */

int
count_rows(const Decoder &d, const webtorch_spec_t &spec, Found &found)
{
    array    a;
    int64_t  shape[NGX_WEBTORCH_ARRAY_DIMS];
    element  e = found.value;
    int32_t  depth = 0;

    while (depth <= spec.ndim && e.get(a) == simdjson::SUCCESS
           && a.size() != 0)
    {
        shape[depth++] = static_cast<int64_t>(a.size());
        e = *a.begin();
    }

    found.single = (depth == spec.ndim && e.type() != element_type::ARRAY);

    if (!found.single && (!d.schema->batched || depth != spec.ndim + 1)) {
        return mismatch(d, spec, found.value);
    }

    if (found.single) {
        found.rows = 1;

    } else if (shape[0] >= static_cast<int64_t>(kMaxCounted)) {
        return ngx_webtorch_error(d.err, 413, "too_many_rows",
                                  "tensor \"%s\": too many rows", spec.name);

    } else {
        found.rows = static_cast<uint32_t>(shape[0]);
    }

    if (bind(d, spec, found, &shape[!found.single]) != 0) {
        return -1;
    }

    /* memory is allocated only for rows that the body can hold */

    if (found.rows > ngx_webtorch_rows_of(&spec, d.layout->sizes,
                                          most_elements(d, spec.dtype)))
    {
        return mismatch(d, spec, found.value);
    }

    return 0;
}


int
find_named(const Decoder &d, const object &o, Found *found, uint32_t *seen)
{
    uint32_t  i;

    for (auto field : o) {

        if (find_input(d, field.key, &i) != 0
            || add_found(d, i, field.value, found, seen) != 0)
        {
            return -1;
        }
    }

    return 0;
}


int
find_tensors(const Decoder &d, const element &root, Found *found,
    uint32_t *seen)
{
    object  o;

    d.layout->named = root.get(o) == simdjson::SUCCESS;

    if (d.layout->named) {
        return find_named(d, o, found, seen);
    }

    if (d.schema->ninputs == 1) {
        found[0].value = root;
        *seen = 1;
        return 0;
    }

    return ngx_webtorch_error(d.err, 422, "missing_tensor",
               "expected an object of %" PRIu32 " tensors by name, found %s",
               d.schema->ninputs, type_name(root));
}


/* sets the layout, whose flag "named" is set */

int
measure(const Decoder &d, Found *found, uint32_t seen)
{
    uint32_t                i, first, batched;
    ngx_webtorch_layout_t  *layout = d.layout;

    layout->records = 0;

    ngx_webtorch_unbind(d.schema, layout);

    if (ngx_webtorch_gaps_absent(d.schema, seen, layout, d.err) != 0) {
        return -1;
    }

    first = static_cast<uint32_t>(__builtin_ctz(seen));

    for (i = first; i < d.schema->ninputs; i++) {
        if (layout->absent & (1u << i)) {
            continue;
        }

        if (count_rows(d, d.schema->inputs[i], found[i]) != 0) {
            return -1;
        }

        if (found[i].single != found[first].single) {
            batched = found[i].single ? first : i;

            return ngx_webtorch_error_batch(d.err,
                             d.schema->inputs[batched].name,
                             d.schema->inputs[first + i - batched].name);
        }

        if (found[i].rows != found[first].rows) {
            return ngx_webtorch_error_rows(d.err, d.schema->inputs[first].name,
                                           found[first].rows,
                                           d.schema->inputs[i].name,
                                           found[i].rows);
        }
    }

    layout->rows = found[first].rows;
    layout->single = found[first].single;

    return 0;
}


/* N: inputs at most; many take as long to initialize as a short row to read */

template <size_t N>
int
decode_members(const Decoder &d, const element &root)
{
    Found     found[N];
    uint32_t  seen = 0;

    return (find_tensors(d, root, found, &seen) == 0)
               ? decode_tensors(d, found, seen) : -1;
}


int
decode_document(const Decoder &d, const element &root)
{
    array  records;

    if (is_records(root) && root.get(records) == simdjson::SUCCESS) {
        return decode_records(d, records);
    }

    if (d.schema->ninputs == 1) {
        return decode_members<1>(d, root);
    }

    return decode_members<WEBTORCH_MAX_TENSORS>(d, root);
}


int
decode(const char *body, size_t len, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    int                    rc;
    element                root;
    webtorch::Document     document;
    simdjson::error_code   error;
    const Decoder          d { schema, len, layout, sink, err };

    rc = decode_rows(d, body);

    if (rc == 1) {
        rc = decode_table(d, body);
    }

    if (rc != 1) {
        return rc;
    }

    error = document.parse(body, len, &root);

    if (error != simdjson::SUCCESS) {
        return ngx_webtorch_error_json(err, "JSON", body, len,
                                       simdjson::error_message(error));
    }

    return decode_document(d, root);
}


/*
 * Returns an upper bound of the number of elements, and of the number of arrays
 * along any axis.  An empty axis counts as 1: its arrays are written, too.
 */

size_t
count_leaves(const webtorch_spec_t &spec)
{
    size_t  n = 1;

    for (int32_t i = 0; i < spec.ndim; i++) {
        n *= static_cast<size_t>(spec.shape[i] ? spec.shape[i] : 1);
    }

    return n;
}


size_t
bound(const webtorch_spec_t *specs, uint32_t n,
    const ngx_webtorch_layout_t *layout)
{
    size_t    size = 2 + kEscapedLen * layout->text;
    uint32_t  i;

    if (layout->records) {
        size += records_bound(specs, n, layout->rows);
    }

    for (i = 0; i < n; i++) {
        /* an axis adds at most two brackets and a comma to each element */
        size += std::strlen(specs[i].name) + sizeof("\"\":[],")
                + layout->rows * count_leaves(specs[i])
                  * (kNumberLen + 3 * static_cast<size_t>(specs[i].ndim + 1));
    }

    return size;
}


template <typename T>
char *
write_rows(char *p, const webtorch_spec_t &spec, const T *v,
    const ngx_webtorch_layout_t *layout)
{
    if (layout->single) {
        return write_axes(p, spec, 0, &v);
    }

    *p++ = '[';

    for (uint32_t i = 0; i < layout->rows; i++) {
        if (i) {
            *p++ = ',';
        }

        p = write_axes(p, spec, 0, &v);
    }

    *p++ = ']';

    return p;
}


char *
write_tensor(char *p, const webtorch_spec_t &spec, const void *data,
    const ngx_webtorch_layout_t *layout)
{
    return webtorch::visit_all(spec.dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        return write_rows(p, spec, static_cast<const T *>(data), layout);
    });
}


char *
encode(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    uint32_t  i;

    if (layout->records) {
        return write_records(p, specs, n, data, layout->rows);
    }

    if (n == 1 && !layout->named) {
        return write_tensor(p, specs[0], data[0], layout);
    }

    *p++ = '{';

    /* names are Python identifiers: nothing in them to escape */

    for (i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        *p++ = '"';
        p = write_text(p, specs[i].name);
        *p++ = '"';
        *p++ = ':';

        p = write_tensor(p, specs[i], data[i], layout);
    }

    *p++ = '}';

    return p;
}

} /* namespace */


int
webtorch::json::add_found(const Decoder &d, uint32_t i, const element &value,
    Found *found, uint32_t *seen)
{
    if (*seen & (1u << i)) {
        return ngx_webtorch_error_duplicate(d.err, &d.schema->inputs[i]);
    }

    if (value.is_null()
        && ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_OPTIONAL))
    {
        return 0;
    }

    *seen |= 1u << i;
    found[i].value = value;

    return 0;
}


int
webtorch::json::decode_tensors(const Decoder &d, Found *found, uint32_t seen)
{
    uint32_t              i;
    ngx_webtorch_sink_t  *sink = d.sink;

    if (measure(d, found, seen) != 0) {
        return -1;
    }

    if (d.schema->input_strings) {
        d.layout->text = 0;

        for (i = 0; i < d.schema->ninputs; i++) {
            if (!(d.layout->absent & (1u << i))
                && ngx_webtorch_is_string(d.schema->inputs[i].dtype))
            {
                d.layout->text += count_text(found[i].value);
            }
        }
    }

    if (ngx_webtorch_gaps_reserve(d.schema, sink, d.layout, d.err) != 0) {
        return -1;
    }

    for (i = 0; i < d.schema->ninputs; i++) {
        if (!(d.layout->absent & (1u << i))
            && read_tensor(d, d.schema->inputs[i], found[i], sink->data[i])
               != 0)
        {
            return -1;
        }
    }

    return 0;
}


int
ngx_webtorch_codec_check_json(const char *text, size_t len,
    ngx_webtorch_error_t *err)
{
    webtorch::Document      document;
    simdjson::dom::element  root;
    simdjson::error_code    error;

    error = document.parse(text, len, &root);

    if (error != simdjson::SUCCESS) {
        return ngx_webtorch_error_json(err, "JSON", text, len,
                                       simdjson::error_message(error));
    }

    return 0;
}


const ngx_webtorch_codec_t  ngx_webtorch_codec_json = {
    "json",
    { "application/json" },
    1,
    1,
    0,
    1,
    decode,
    bound,
    encode,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    0,
    0
};
