
/*
 * safetensors: the length of the header in 8 bytes, the header in JSON,
 *
 *     {"x": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
 *
 * then the elements of all tensors without a gap.  simdjson parses the header.
 */

#include "ngx_webtorch_hint.h"
#include "ngx_webtorch_json_read.hpp"
#include "ngx_webtorch_json_write.hpp"

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstring>
#include <string_view>

namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;
using webtorch::json::write_text;

constexpr size_t kLengthLen = 8;

/* the alignment of the elements, the same as in the format's own library */
constexpr size_t kAlignment = 8;

/* a tensor in the header without its name: words, and numbers of 20 digits */
constexpr size_t kEntryLen = 64 + 21 * (NGX_WEBTORCH_ARRAY_DIMS + 2);

/* names by dtype */
constexpr std::string_view kDtypes[NGX_WEBTORCH_NDTYPES] = {
    "BOOL", "U8", "U16", "U32", "U64", "I8", "I16", "I32", "I64",
    "F16", "BF16", "F32", "F64"
};


struct Decoder {
    const webtorch_schema_t  *schema;
    std::string_view          data;       /* the elements of all tensors */
    ngx_webtorch_error_t     *err;
};


int
malformed(ngx_webtorch_error_t *err, const char *what)
{
    return ngx_webtorch_error(err, 400, "malformed_body",
                              "invalid safetensors: %s", what);
}


int
read_dtype(const Decoder &d, const webtorch_spec_t &spec, const object &entry,
    ngx_webtorch_array_t *found)
{
    std::string_view  name;

    if (entry["dtype"].get(name) != simdjson::SUCCESS) {
        return malformed(d.err, "a tensor has no dtype");
    }

    for (int32_t i = 0; i < NGX_WEBTORCH_NDTYPES; i++) {
        if (kDtypes[i] == name) {
            found->dtype = i;
            return 0;
        }
    }

    return ngx_webtorch_error(d.err, 422, "wrong_dtype",
               "tensor \"%s\": expected %s, found the dtype \"%.*s\", which "
               "is not converted",
               spec.name, ngx_webtorch_dtypes[spec.dtype].name,
               static_cast<int>(name.size() < 64 ? name.size() : 64),
               name.data());
}


int
read_data(const Decoder &d, const object &entry, ngx_webtorch_array_t *found)
{
    array     offsets;
    uint64_t  begin = 0, end = 0;

    if (entry["data_offsets"].get(offsets) != simdjson::SUCCESS
        || offsets.size() != 2
        || offsets.at(0).get(begin) != simdjson::SUCCESS
        || offsets.at(1).get(end) != simdjson::SUCCESS)
    {
        return malformed(d.err, "a tensor has no data_offsets");
    }

    if (begin > end || end > d.data.size()) {
        return malformed(d.err, "data_offsets exceed the body");
    }

    found->data = d.data.data() + begin;
    found->len = end - begin;

    return 0;
}


int
read_entry(const Decoder &d, std::string_view name, const element &value,
    ngx_webtorch_array_t *arrays, uint32_t *seen)
{
    object    entry;
    uint32_t  i;

    i = ngx_webtorch_find_input(d.schema, name.data(), name.size());

    if (i == d.schema->ninputs) {
        return ngx_webtorch_error_unknown(d.err, name.data(), name.size(),
                                          d.schema->inputs,
                                          d.schema->ninputs);
    }

    const webtorch_spec_t &spec = d.schema->inputs[i];

    if (*seen & (1u << i)) {
        return ngx_webtorch_error_duplicate(d.err, &spec);
    }

    *seen |= 1u << i;

    if (value.get(entry) != simdjson::SUCCESS) {
        return malformed(d.err, "a tensor is not an object");
    }

    if (read_dtype(d, spec, entry, &arrays[i]) != 0
        || webtorch::json::read_shape(entry, spec, &arrays[i], d.err) != 0
        || read_data(d, entry, &arrays[i]) != 0)
    {
        return -1;
    }

    return 0;
}


int
read_header(const Decoder &d, const object &header,
    ngx_webtorch_array_t *arrays, uint32_t *seen)
{
    size_t    size = 0;
    uint32_t  i;

    *seen = 0;

    for (auto field : header) {
        if (field.key != "__metadata__"
            && read_entry(d, field.key, field.value, arrays, seen) != 0)
        {
            return -1;
        }
    }

    for (i = 0; i < d.schema->ninputs; i++) {
        if (*seen & (1u << i)) {
            size += arrays[i].len;
        }
    }

    if (size != d.data.size()) {
        return malformed(d.err, "the tensors do not fill the data");
    }

    return 0;
}


int
decode(const char *body, size_t len, const webtorch_schema_t *schema,
    ngx_webtorch_sink_t *sink, ngx_webtorch_layout_t *layout,
    ngx_webtorch_error_t *err)
{
    element                root;
    object                 header;
    uint32_t               seen;
    uint64_t               size;
    webtorch::Document     document;
    ngx_webtorch_array_t   arrays[WEBTORCH_MAX_TENSORS];
    simdjson::error_code   error;

    if (len < kLengthLen) {
        return malformed(err, "the header's length is missing");
    }

    std::memcpy(&size, body, kLengthLen);

    if (size > len - kLengthLen) {
        return malformed(err, "the header is cut off");
    }

    /* the parser may read beyond the header: data or padding follow it */

    error = document.parse(body + kLengthLen, size, &root);

    if (error != simdjson::SUCCESS) {
        return ngx_webtorch_error_json(err, "safetensors",
                                       body + kLengthLen, size,
                                       simdjson::error_message(error));
    }

    if (root.get(header) != simdjson::SUCCESS) {
        return malformed(err, "the header is not an object");
    }

    layout->named = 1;

    Decoder  d = { schema, std::string_view(body + kLengthLen + size,
                                            len - kLengthLen - size), err };

    if (read_header(d, header, arrays, &seen) != 0) {
        return -1;
    }

    return ngx_webtorch_arrays_read(arrays, seen, schema, sink, layout, err);
}


/* the header is text */

size_t
text(const char *body, size_t len)
{
    uint64_t  size;

    if (len < kLengthLen) {
        return 0;
    }

    std::memcpy(&size, body, kLengthLen);

    return std::min<uint64_t>(size, len);
}


size_t
bound(const webtorch_spec_t *specs, uint32_t n, const ngx_webtorch_layout_t *)
{
    size_t  size = kLengthLen + kAlignment + sizeof("{}");

    for (uint32_t i = 0; i < n; i++) {
        size += std::strlen(specs[i].name) + kEntryLen;
    }

    return size;
}


char *
write_numbers(char *p, const int64_t *v, uint32_t n)
{
    *p++ = '[';

    for (uint32_t i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        p = std::to_chars(p, p + 20, v[i]).ptr;
    }

    *p++ = ']';

    return p;
}


char *
write_entry(char *p, const webtorch_spec_t &spec, int64_t begin, int64_t end,
    const ngx_webtorch_layout_t *layout)
{
    int64_t   shape[NGX_WEBTORCH_ARRAY_DIMS];
    int64_t   offsets[] = { begin, end };
    uint32_t  ndim = ngx_webtorch_array_shape(shape, &spec, layout);

    p = write_text(p, "\"");
    p = write_text(p, spec.name);
    p = write_text(p, "\":{\"dtype\":\"");
    p = write_text(p, kDtypes[spec.dtype]);
    p = write_text(p, "\",\"shape\":");
    p = write_numbers(p, shape, ndim);
    p = write_text(p, ",\"data_offsets\":");
    p = write_numbers(p, offsets, 2);

    return write_text(p, "}");
}


/* the header is in front of the first tensor, nothing between the others */

char *
frame(char *p, const webtorch_spec_t *specs, uint32_t n, uint32_t i,
    const void *const *, const ngx_webtorch_layout_t *layout)
{
    char      *start = p + kLengthLen;
    int64_t    begin = 0, end;
    uint64_t   size;

    if (i != 0) {
        return p;
    }

    p = write_text(start, "{");

    for (uint32_t k = 0; k < n; k++) {
        if (k) {
            *p++ = ',';
        }

        end = begin + static_cast<int64_t>(layout->rows) * specs[k].row_size;
        p = write_entry(p, specs[k], begin, end, layout);
        begin = end;
    }

    *p++ = '}';

    while ((p - start) % kAlignment) {
        *p++ = ' ';
    }

    size = static_cast<uint64_t>(p - start);
    std::memcpy(start - kLengthLen, &size, kLengthLen);

    return p;
}

} /* namespace */


const ngx_webtorch_codec_t  ngx_webtorch_codec_safetensors = {
    "safetensors",
    { "application/vnd.safetensors", "application/x-safetensors",
      "application/safetensors" },
    1,
    1,
    0,
    0,
    decode,
    bound,
    nullptr,
    frame,
    nullptr,
    nullptr,
    text,
    0,
    0
};
