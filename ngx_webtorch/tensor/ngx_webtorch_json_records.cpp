
/*
 * Records.  The keys of a record are expected in the order of those before it,
 * so most of them are compared with one name.
 */

#include "ngx_webtorch_json_records.hpp"
#include "ngx_webtorch_json_write.hpp"

#include <cstring>


namespace webtorch::json {

namespace {

/* stores the value of a row at p; -1: err is set, or the shape is wrong */
using Store = int (*)(const Decoder &d, const webtorch_spec_t &spec,
    const element &e, void *p);


struct Column {
    Store     store;
    char     *data;
    size_t    size;                       /* bytes of a row */
};


struct Table {
    const Decoder    *d;
    uint32_t          rows;
    uint32_t          present;            /* bits of inputs that rows have */
    Column            columns[WEBTORCH_MAX_TENSORS];

    /* names in the order of the last record */
    std::string_view  keys[WEBTORCH_MAX_TENSORS];
    uint32_t          inputs[WEBTORCH_MAX_TENSORS];
};


/* adds the number of a record, from 1, to the text of an error */

int
at_record(const Decoder &d, uint32_t row)
{
    ngx_webtorch_error_append(d.err, ", in record %" PRIu32, row + 1);

    return -1;
}


int
wrong_record(const Decoder &d, const element &record, uint32_t row)
{
    return ngx_webtorch_error(d.err, 422, "wrong_shape",
               "record %" PRIu32 " is %s, expected an object", row + 1,
               type_name(record));
}


uint32_t
find(Table &t, uint32_t place, std::string_view key)
{
    uint32_t  i;

    if (place < WEBTORCH_MAX_TENSORS && !key.empty() && t.keys[place] == key) {
        return t.inputs[place];
    }

    i = ngx_webtorch_find_input(t.d->schema, key.data(), key.size());

    if (place < WEBTORCH_MAX_TENSORS && i < t.d->schema->ninputs) {
        t.keys[place] = key;
        t.inputs[place] = i;
    }

    return i;
}


/* a null in place of a whole input */

bool
is_absent(const Decoder &d, uint32_t i, const element &e)
{
    return ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_OPTIONAL)
           && !ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_MISSING)
           && e.is_null();
}


/* binds the variable axes of an input by its value in the first record */

int
bind_row(const Decoder &d, const webtorch_spec_t &spec, const element &value)
{
    array     a;
    element   e = value;
    int32_t   depth = 0;
    int64_t   shape[NGX_WEBTORCH_ARRAY_DIMS];

    while (depth < spec.ndim && e.get(a) == simdjson::SUCCESS && a.size()) {
        shape[depth++] = static_cast<int64_t>(a.size());
        e = *a.begin();
    }

    if (depth != spec.ndim) {

        /* all elements of the row are missing */

        for (depth = 0; value.is_null() && depth < spec.ndim; depth++) {
            if (spec.shape[depth] < 0) {
                break;
            }

            shape[depth] = spec.shape[depth];
        }

        if (depth != spec.ndim) {
            return mismatch(d, spec, value);
        }
    }

    switch (ngx_webtorch_bind(d.schema, &spec, shape, d.layout, d.err)) {

    case 0:
        return 0;

    case 1:
        return mismatch(d, spec, value);

    default:
        return -1;
    }
}


/* the first record determines which optional inputs there are */

int
read_first(Table &t, const object &record)
{
    uint32_t        i;
    const Decoder  &d = *t.d;

    ngx_webtorch_unbind(d.schema, d.layout);

    t.present = 0;

    for (auto field : record) {
        if (find_input(d, field.key, &i) != 0) {
            return -1;
        }

        if (is_absent(d, i, field.value)) {
            continue;
        }

        t.present |= 1u << i;

        if (bind_row(d, d.schema->inputs[i], field.value) != 0) {
            return at_record(d, 0);
        }
    }

    for (i = 0; i < d.schema->ninputs; i++) {

        /* other records may have it */

        if (ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_DEFAULT)
            || (ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_MISSING)
                && !ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_OPTIONAL)))
        {
            t.present |= 1u << i;
        }
    }

    return ngx_webtorch_gaps_absent(d.schema, t.present, d.layout, d.err);
}


/* memory is allocated only for elements that the body can hold */

int
check_size(const Table &t)
{
    uint32_t        i;
    uint64_t        size;
    const Decoder  &d = *t.d;

    for (i = 0; i < d.schema->nbound; i++) {
        if (d.layout->sizes[i] < 0) {
            d.layout->sizes[i] = 1;
        }
    }

    for (i = 0; i < d.schema->ninputs; i++) {
        const webtorch_spec_t &spec = d.schema->inputs[i];

        size = ngx_webtorch_row_size(&spec, d.layout->sizes)
               / ngx_webtorch_dtypes[spec.dtype].size;

        if ((t.present & (1u << i)) && spec.ndim
            && !ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_DEFAULT)
            && size > d.len / t.rows)
        {
            return ngx_webtorch_error(d.err, 422, "wrong_shape",
                       "tensor \"%s\": the records have fewer elements than "
                       "its shape", spec.name);
        }
    }

    return 0;
}


/* the bytes of the default strings of inputs, for the inputs in these bits */

size_t
defaults_text(const Decoder &d, uint32_t inputs)
{
    size_t    n = 0;
    uint32_t  i;

    for ( /* void */ ; inputs; inputs &= inputs - 1) {
        i = static_cast<uint32_t>(__builtin_ctz(inputs));
        n += d.schema->gaps[i].len;
    }

    return n;
}


/*
 * Returns whether the value of a field is stored, and not the default of its
 * input.  A null that is refused later may be either.
 */

bool
is_given(const Decoder &d, uint32_t i, const element &value)
{
    return !value.is_null()
           || (ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_MISSING)
               && d.schema->inputs[i].ndim == 0);
}


/* returns at least the bytes of all strings that read_record() stores */

size_t
count_records_text(const Decoder &d, const array &records)
{
    size_t    n = 0;
    object    record;
    uint32_t  i, gaps, nulls, defaults = 0;

    for (i = 0; i < d.schema->ninputs; i++) {
        if (ngx_webtorch_is_string(d.schema->inputs[i].dtype)
            && ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_DEFAULT))
        {
            defaults |= 1u << i;
        }
    }

    for (element e : records) {
        if (e.get(record) != simdjson::SUCCESS) {
            break;
        }

        gaps = defaults;
        nulls = 0;

        for (auto field : record) {
            n += count_text(field.value);

            if (defaults == 0) {
                continue;
            }

            i = ngx_webtorch_find_input(d.schema, field.key.data(),
                                        field.key.size());

            if (i == d.schema->ninputs || is_absent(d, i, field.value)) {
                continue;
            }

            if (is_given(d, i, field.value)) {
                gaps &= ~(1u << i);

            } else {
                nulls |= 1u << i;
            }
        }

        /* a null is stored before the name is found to be given twice */

        n += defaults_text(d, gaps | (nulls & defaults));
    }

    return n;
}


template <typename T>
int
store_row(const Decoder &d, const webtorch_spec_t &spec, const element &e,
    void *p)
{
    return read_row(d, spec, e, 0, static_cast<T *>(p)) == nullptr ? -1 : 0;
}


/* elements of a row that a record does not have */

int
store_gap(const Decoder &d, uint32_t i, char *p, size_t size)
{
    size_t  element_size = ngx_webtorch_dtypes[d.schema->inputs[i].dtype].size;

    if (ngx_webtorch_gaps_has(d.schema, i, WEBTORCH_DEFAULT)) {
        ngx_webtorch_gaps_fill(d.schema, d.sink, i, p, size / element_size);
        return 0;
    }

    for (size_t k = 0; k < size; k += element_size) {
        if (ngx_webtorch_gaps_set(d.schema, d.sink, i, p + k) != 0) {
            return -1;
        }
    }

    return 0;
}


int
read_field(Table &t, uint32_t i, const element &value, uint32_t row)
{
    char                   *p;
    const Decoder          &d = *t.d;
    const webtorch_spec_t  &spec = d.schema->inputs[i];

    if (!(t.present & (1u << i))) {
        return ngx_webtorch_error(d.err, 422, "missing_tensor",
                   "record %" PRIu32 " has \"%s\", the first one has not: an "
                   "optional tensor is in all of them or in none", row + 1,
                   spec.name);
    }

    p = t.columns[i].data + row * t.columns[i].size;

    if (t.columns[i].store(d, spec, value, p) == 0) {
        return 0;
    }

    if (d.err->status == 0) {

        if (value.is_null() && store_gap(d, i, p, t.columns[i].size) == 0) {
            return 0;
        }

        mismatch(d, spec, value);
    }

    return at_record(d, row);
}


int
read_record(Table &t, const object &record, uint32_t row)
{
    uint32_t        i, place = 0, seen = 0, gaps;
    const Decoder  &d = *t.d;

    for (auto field : record) {
        i = find(t, place++, field.key);

        if (i == d.schema->ninputs) {
            ngx_webtorch_error_unknown(d.err, field.key.data(),
                                       field.key.size(), d.schema->inputs,
                                       d.schema->ninputs);
            return at_record(d, row);
        }

        if (is_absent(d, i, field.value)) {
            continue;
        }

        if (seen & (1u << i)) {
            ngx_webtorch_error_duplicate(d.err, &d.schema->inputs[i]);
            return at_record(d, row);
        }

        seen |= 1u << i;

        if (read_field(t, i, field.value, row) != 0) {
            return -1;
        }
    }

    for (gaps = t.present & ~seen; gaps; gaps &= gaps - 1) {
        i = static_cast<uint32_t>(__builtin_ctz(gaps));

        if (store_gap(d, i, t.columns[i].data + row * t.columns[i].size,
                      t.columns[i].size)
            != 0)
        {
            ngx_webtorch_error_missing(d.err, &d.schema->inputs[i]);
            return at_record(d, row);
        }
    }

    return 0;
}


void
set_columns(Table &t)
{
    uint32_t        i;
    const Decoder  &d = *t.d;

    for (i = 0; i < d.schema->ninputs; i++) {
        const webtorch_spec_t &spec = d.schema->inputs[i];

        t.columns[i].data = static_cast<char *>(d.sink->data[i]);
        t.columns[i].size = ngx_webtorch_row_size(&spec, d.layout->sizes);
        t.columns[i].store = visit_all(spec.dtype, [](auto type) -> Store {
            return store_row<typename decltype(type)::type>;
        });
    }
}


int
read_records(Table &t, const array &records)
{
    object          record;
    uint32_t        row = 0;
    const Decoder  &d = *t.d;

    d.err->status = 0;

    for (element e : records) {
        if (e.get(record) != simdjson::SUCCESS) {
            return wrong_record(d, e, row);
        }

        if (read_record(t, record, row++) != 0) {
            return -1;
        }
    }

    return 0;
}


template <typename T>
char *
write_value(char *p, const webtorch_spec_t &spec, const void *data)
{
    const T *v = static_cast<const T *>(data);

    return write_axes(p, spec, 0, &v);
}

} /* namespace */


bool
is_records(const element &root)
{
    array  a;

    return root.get(a) == simdjson::SUCCESS && a.size() != 0
           && (*a.begin()).type() == element_type::OBJECT;
}


int
decode_records(const Decoder &d, const array &records)
{
    Table   t;
    object  first;

    t.d = &d;
    d.layout->named = 1;
    d.layout->records = 1;
    d.layout->single = 0;
    d.layout->text = 0;

    if (!d.schema->batched) {
        return ngx_webtorch_error(d.err, 422, "wrong_shape",
                   "expected an object of tensors by name, found an array of "
                   "objects: the function has no batch axis");
    }

    if (records.size() >= kMaxCounted) {
        return ngx_webtorch_error(d.err, 413, "too_many_rows",
                                  "the body has too many records");
    }

    t.rows = static_cast<uint32_t>(records.size());
    d.layout->rows = t.rows;

    if ((*records.begin()).get(first) != simdjson::SUCCESS
        || read_first(t, first) != 0
        || check_size(t) != 0
        || ngx_webtorch_gaps_limit(d.schema, d.sink, d.layout, d.len, d.err)
           != 0)
    {
        return -1;
    }

    if (d.schema->input_strings) {
        d.layout->text = count_records_text(d, records);
    }

    if (ngx_webtorch_gaps_reserve(d.schema, d.sink, d.layout, d.err) != 0) {
        return -1;
    }

    set_columns(t);

    return read_records(t, records);
}


size_t
records_bound(const webtorch_spec_t *specs, uint32_t n, uint32_t rows)
{
    size_t  size = sizeof("{},");

    for (uint32_t i = 0; i < n; i++) {
        size += std::strlen(specs[i].name) + sizeof("\"\":,");
    }

    return rows * size + sizeof("[]");
}


char *
write_records(char *p, const webtorch_spec_t *specs, uint32_t n,
    const void *const *data, uint32_t rows)
{
    using Write = char *(*)(char *p, const webtorch_spec_t &spec,
                            const void *data);

    Write  write[WEBTORCH_MAX_TENSORS];

    for (uint32_t i = 0; i < n; i++) {
        write[i] = visit_all(specs[i].dtype, [](auto type) -> Write {
            return write_value<typename decltype(type)::type>;
        });
    }

    *p++ = '[';

    for (uint32_t row = 0; row < rows; row++) {
        p = write_text(p, row ? ",{" : "{");

        for (uint32_t i = 0; i < n; i++) {
            p = write_text(p, i ? ",\"" : "\"");
            p = write_text(p, specs[i].name);
            p = write_text(p, "\":");
            p = write[i](p, specs[i],
                         static_cast<const char *>(data[i])
                         + row * static_cast<size_t>(specs[i].row_size));
        }

        *p++ = '}';
    }

    *p++ = ']';

    return p;
}


} /* namespace webtorch::json */
