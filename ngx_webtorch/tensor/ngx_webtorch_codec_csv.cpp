
/*
 * CSV: tables as text, RFC 4180 in UTF-8, with a header line.  A tensor with a
 * number in each row is a column of its name; the elements of a row of a shape
 * are the columns "x.0", "x.1", and so on.  std::from_chars() parses numbers.
 */

#include "ngx_webtorch_codec.h"
#include "ngx_webtorch_csv.hpp"
#include "ngx_webtorch_csv_write.hpp"
#include "ngx_webtorch_gaps.h"

#include <cinttypes>
#include <memory>
#include <new>
#include <simdjson.h>
#include <vector>

namespace {

using namespace webtorch::csv;

/* letters of a field that an error quotes */
constexpr size_t kQuoted = 32;


struct Column {
    uint32_t  input;
    uint32_t  element;                    /* of a row */
};


struct Reader {
    const webtorch_schema_t   *schema;
    std::string_view           body;
    ngx_webtorch_sink_t       *sink;
    ngx_webtorch_layout_t     *layout;
    ngx_webtorch_error_t      *err;
    uint32_t                   ncolumns;
    uint32_t                   counts[WEBTORCH_MAX_TENSORS];  /* of columns */
    size_t                     first[WEBTORCH_MAX_TENSORS];   /* in given */
    std::vector<bool>          given;     /* elements that have a column */
    std::unique_ptr<Column[]>  columns;
    std::unique_ptr<Field[]>   fields;    /* of all rows */
};


int
no_memory(ngx_webtorch_error_t *err)
{
    return ngx_webtorch_error(err, 500, "no_memory", "no memory");
}


int
malformed(const Reader &r, size_t at, const char *what)
{
    Place  place = find_place(r.body, at);

    return ngx_webtorch_error(r.err, 400, "malformed_body",
                              "invalid CSV: line %zu, column %zu: %s",
                              place.line, place.column, what);
}


/* returns the first byte that is not of UTF-8 */

size_t
find_invalid(std::string_view body)
{
    size_t  low = 0, high = body.size(), middle;

    /* the longest valid text in front of it, whose last character is whole */

    while (high - low > 8) {
        middle = low + (high - low) / 2;

        while (middle > low && (body[middle] & 0xc0) == 0x80) {
            middle--;
        }

        if (middle == low) {
            break;
        }

        if (simdjson::validate_utf8(body.data() + low, middle - low)) {
            low = middle;
        } else {
            high = middle;
        }
    }

    while (low < body.size()) {
        size_t  n = 1;

        while (low + n < body.size() && (body[low + n] & 0xc0) == 0x80) {
            n++;
        }

        if (!simdjson::validate_utf8(body.data() + low, n)) {
            break;
        }

        low += n;
    }

    return low;
}


int
check_encoding(Reader &r, size_t *at)
{
    *at = 0;

    if (r.body.substr(0, 2) == "\xff\xfe" || r.body.substr(0, 2) == "\xfe\xff")
    {
        return malformed(r, 0, "it is UTF-16, CSV must be UTF-8");
    }

    if (!simdjson::validate_utf8(r.body.data(), r.body.size())) {
        return malformed(r, find_invalid(r.body), "it is not UTF-8");
    }

    if (r.body.substr(0, 3) == "\xef\xbb\xbf") {
        *at = 3;
    }

    return 0;
}


/* finds the column of a name, "x" or "x.2" */

int
find_column(Reader &r, std::string_view name, Column *column)
{
    size_t            dot;
    uint32_t          i;
    std::string_view  number;

    column->element = 0;

    i = ngx_webtorch_find_input(r.schema, name.data(), name.size());

    dot = name.rfind('.');

    if (i == r.schema->ninputs && dot != name.npos) {
        number = name.substr(dot + 1);

        auto [end, error] = std::from_chars(number.data(),
                                            number.data() + number.size(),
                                            column->element);

        if (error == std::errc() && end == number.data() + number.size()) {
            i = ngx_webtorch_find_input(r.schema, name.data(), dot);
        }

        if (i < r.schema->ninputs && r.schema->inputs[i].ndim == 0) {
            i = r.schema->ninputs;
        }
    }

    if (i == r.schema->ninputs) {
        ngx_webtorch_error_unknown(r.err, name.data(), name.size(),
                                   r.schema->inputs, r.schema->ninputs);

        if (name.empty()) {
            ngx_webtorch_error_append(r.err, "; a column has no name: the "
                                      "index of a data frame, which "
                                      "to_csv(index=False) leaves out, or one "
                                      "after a comma at the end");

        } else if (name.find_first_of(";\t") != name.npos) {
            ngx_webtorch_error_append(r.err, "; columns are separated by "
                                      "commas");
        }

        return -1;
    }

    column->input = i;

    return 0;
}


int
wrong_count(const Reader &r, uint32_t i)
{
    const webtorch_spec_t &spec = r.schema->inputs[i];

    return ngx_webtorch_error(r.err, 422, "wrong_shape",
               "tensor \"%s\": found %" PRIu32 " of its %" PRIu64 " columns",
               spec.name, r.counts[i], ngx_webtorch_row_elements(&spec));
}


int
check_column(Reader &r, std::string_view name, const Column &column)
{
    char                    shape[NGX_WEBTORCH_SHAPE_LEN];
    const webtorch_spec_t  &spec = r.schema->inputs[column.input];

    for (int32_t i = 0; i < spec.ndim; i++) {
        if (spec.shape[i] < 0) {
            return ngx_webtorch_error(r.err, 415, "unsupported_media_type",
                       "tensor \"%s\" has the variable axis \"%s\", which CSV "
                       "does not carry: send application/json", spec.name,
                       r.schema->axes[-1 - spec.shape[i]]);
        }
    }

    if (column.element >= ngx_webtorch_row_elements(&spec)
        || (spec.ndim && name == spec.name))
    {
        return ngx_webtorch_error(r.err, 422, "wrong_shape",
                   "tensor \"%s\": expected %s, in the columns \"%s.0\" to "
                   "\"%s.%" PRIu64 "\"", spec.name,
                   ngx_webtorch_spec_shape(shape, &spec, r.schema),
                   spec.name, spec.name, ngx_webtorch_row_elements(&spec) - 1);
    }

    if (ngx_webtorch_row_elements(&spec) > r.body.size()) {
        return wrong_count(r, column.input);
    }

    if (r.given[r.first[column.input] + column.element]) {
        return ngx_webtorch_error_duplicate(r.err, &spec);
    }

    r.given[r.first[column.input] + column.element] = true;
    r.counts[column.input]++;

    return 0;
}


/* the header: sets the columns, and which inputs are absent */

int
read_header(Reader &r, Scanner *scanner)
{
    int               rc;
    char              text[2 * WEBTORCH_NAME_LEN];
    Field             field;
    Column            column;
    uint32_t          i, seen = 0;
    uint64_t          most = 0, elements;
    std::string_view  name;

    for (i = 0; i < r.schema->ninputs; i++) {
        const webtorch_spec_t &spec = r.schema->inputs[i];

        r.first[i] = most;
        elements = static_cast<uint64_t>(spec.row_size)
                   / ngx_webtorch_dtypes[spec.dtype].size;

        /* a column for each takes more bytes than the body has otherwise */
        most += elements <= r.body.size() ? elements : 1;
    }

    try {
        r.given.resize(most);

    } catch (const std::bad_alloc &) {
        return no_memory(r.err);
    }

    most = std::min<uint64_t>(most, r.body.size() + 1);

    r.columns.reset(new (std::nothrow) Column[most]);

    if (!r.columns) {
        return no_memory(r.err);
    }

    do {
        rc = scanner->next(&field);

        if (rc < 0) {
            return -1;
        }

        if (text_size(r.body, field) <= sizeof(text)) {
            name = std::string_view(text, static_cast<size_t>(
                                    copy_text(text, r.body, field) - text));

        } else {
            name = r.body.substr(field.at, field.len);
        }

        name = trim(name);

        if (find_column(r, name, &column) != 0
            || check_column(r, name, column) != 0)
        {
            return -1;
        }

        seen |= 1u << column.input;
        r.columns[r.ncolumns++] = column;

    } while (rc == 0);

    ngx_webtorch_unbind(r.schema, r.layout);

    for (i = 0; i < r.schema->ninputs; i++) {
        if ((seen & (1u << i))
            && r.counts[i] != ngx_webtorch_row_elements(&r.schema->inputs[i]))
        {
            return wrong_count(r, i);
        }
    }

    return ngx_webtorch_gaps_absent(r.schema, seen, r.layout, r.err);
}


int
ragged(const Reader &r, size_t at, uint32_t found)
{
    return ngx_webtorch_error(r.err, 400, "malformed_body",
               "invalid CSV: line %zu has %s%" PRIu32 " fields, the header has "
               "%" PRIu32, find_place(r.body, at).line,
               found > r.ncolumns ? "more than " : "",
               found > r.ncolumns ? r.ncolumns : found, r.ncolumns);
}


/* an empty line at the end is not a row */

bool
at_end(const Reader &r, const Scanner &scanner)
{
    size_t  at = scanner.at();

    return scanner.at_end()
           || (r.ncolumns > 1
               && r.body.find_first_not_of("\r\n", at) == r.body.npos);
}


/* finds the fields of all rows */

int
scan_rows(Reader &r, Scanner *scanner)
{
    int        rc;
    size_t     most, n = 0, at;
    uint32_t   k;
    uint64_t   lines = 1;

    for (at = scanner->at(); at < r.body.size(); at++, lines++) {
        at = r.body.find('\n', at);

        if (at == r.body.npos) {
            break;
        }
    }

    /* a field and its end have a byte at least, the last one may have none */

    most = std::min<uint64_t>(lines * r.ncolumns,
                              r.body.size() - scanner->at() + 1);

    r.fields.reset(new (std::nothrow) Field[most]);

    if (!r.fields) {
        return no_memory(r.err);
    }

    while (!at_end(r, *scanner)) {
        at = scanner->at();

        for (k = 0, rc = 0; rc == 0 && k < r.ncolumns; k++) {
            rc = scanner->next(&r.fields[n++]);
        }

        if (rc < 0) {
            return -1;
        }

        if (rc == 0 || k < r.ncolumns) {
            return ragged(r, at, rc ? k : k + 1);
        }
    }

    r.layout->rows = static_cast<uint32_t>(n / r.ncolumns);
    r.layout->single = !r.schema->batched;
    r.layout->named = 1;
    r.layout->records = 0;

    if (n == 0 || (!r.schema->batched && r.layout->rows != 1)) {
        return ngx_webtorch_error(r.err, 422, "wrong_shape",
                   "expected a header line and %s, found %" PRIu32 " rows",
                   r.schema->batched ? "rows" : "one row", r.layout->rows);
    }

    return 0;
}


int
wrong_value(const Reader &r, const Field &field, uint32_t column, bool range)
{
    Place                    place = find_place(r.body, field.at);
    const webtorch_spec_t   &spec = r.schema->inputs[r.columns[column].input];

    if (field.len == 0) {
        return ngx_webtorch_error(r.err, 422, "wrong_dtype",
                   "line %zu, column %" PRIu32 " (\"%s\"): the field is empty, "
                   "expected %s", place.line, column + 1, spec.name,
                   ngx_webtorch_dtypes[spec.dtype].name);
    }

    return ngx_webtorch_error(r.err, 422,
               range ? "out_of_range" : "wrong_dtype",
               "line %zu, column %" PRIu32 " (\"%s\"): \"%.*s\" is %s%s",
               place.line, column + 1, spec.name,
               static_cast<int>(field.len < kQuoted ? field.len : kQuoted),
               r.body.data() + field.at,
               range ? "out of range of " : "not ",
               ngx_webtorch_dtypes[spec.dtype].name);
}


template <typename T>
int
read_numbers(const Reader &r, uint32_t c, char *p, size_t stride)
{
    Parsed          rc;
    const Column   &column = r.columns[c];
    const Field    *field = r.fields.get() + c;

    for (uint32_t row = 0; row < r.layout->rows; row++) {
        T *v = reinterpret_cast<T *>(p);
        std::string_view  s = trim(r.body.substr(field->at, field->len));

        rc = s.empty() ? Parsed::kWrong : parse(s, v);

        if (rc != Parsed::kOk
            && (!s.empty()
                || ngx_webtorch_gaps_set(r.schema, r.sink, column.input, v)
                   != 0))
        {
            return wrong_value(r, *field, c, rc == Parsed::kRange);
        }

        field += r.ncolumns;
        p += stride;
    }

    return 0;
}


int
read_strings(const Reader &r, uint32_t c, char *p, size_t stride)
{
    char             *last;
    webtorch_text_t   text;
    const Column     &column = r.columns[c];
    const Field      *field = r.fields.get() + c;

    for (uint32_t row = 0; row < r.layout->rows; row++) {
        last = copy_text(r.sink->text, r.body, *field);

        text.at = r.sink->at;
        text.len = static_cast<uint64_t>(last - r.sink->text);
        std::memcpy(p, &text, sizeof(text));

        r.sink->at += text.len;
        r.sink->text = last;

        /* "" in quotes is an empty string, nothing is a missing one */

        if (field->len == 0 && !field->quoted) {
            (void) ngx_webtorch_gaps_set(r.schema, r.sink, column.input, p);
        }

        field += r.ncolumns;
        p += stride;
    }

    return 0;
}


int
read_column(const Reader &r, uint32_t c)
{
    char                   *p;
    const Column           &column = r.columns[c];
    const webtorch_spec_t  &spec = r.schema->inputs[column.input];

    p = static_cast<char *>(r.sink->data[column.input])
        + column.element * ngx_webtorch_dtypes[spec.dtype].size;

    if (ngx_webtorch_is_string(spec.dtype)) {
        return read_strings(r, c, p, static_cast<size_t>(spec.row_size));
    }

    return webtorch::visit(spec.dtype, [&](auto t) {
        return read_numbers<typename decltype(t)::type>(r, c, p,
                   static_cast<size_t>(spec.row_size));
    });
}


size_t
count_strings(const Reader &r)
{
    size_t        n = 0;
    const Field  *field;

    for (uint32_t c = 0; c < r.ncolumns; c++) {
        if (!ngx_webtorch_is_string(
                r.schema->inputs[r.columns[c].input].dtype))
        {
            continue;
        }

        field = r.fields.get() + c;

        for (uint32_t row = 0; row < r.layout->rows; row++) {
            n += text_size(r.body, *field);
            field += r.ncolumns;
        }
    }

    return n;
}


int
decode(const char *body, size_t len, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    size_t  at;
    Reader  r = { schema, std::string_view(body, len), sink, layout, err, 0,
                  { 0 }, { 0 }, {}, nullptr, nullptr };

    if (len >= kMaxSize) {
        return ngx_webtorch_error(err, 413, "too_large",
                                  "the CSV has 1 GiB or more");
    }

    if (check_encoding(r, &at) != 0) {
        return -1;
    }

    Scanner  scanner(r.body, at, err);

    layout->text = 0;

    if (read_header(r, &scanner) != 0 || scan_rows(r, &scanner) != 0) {
        return -1;
    }

    if (schema->input_strings) {
        layout->text = count_strings(r);
    }

    if (ngx_webtorch_gaps_reserve(schema, sink, layout, err) != 0) {
        return -1;
    }

    for (uint32_t c = 0; c < r.ncolumns; c++) {
        if (read_column(r, c) != 0) {
            return -1;
        }
    }

    return 0;
}

} /* namespace */


const ngx_webtorch_codec_t  ngx_webtorch_codec_csv = {
    "csv",
    { "text/csv" },
    1,
    0,
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
