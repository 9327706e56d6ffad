
/*
 * The Open Inference Protocol: JSON,
 *
 *     {"id": "a", "inputs": [{"name": "x", "shape": [1, 2],
 *                             "datatype": "FP32", "data": [0.5, 0.5]}]}
 *
 * where a tensor has data, nested or not, or "parameters" with its
 * "binary_data_size", and follows after the JSON then.
 */

#include "ngx_webtorch_json.hpp"
#include "ngx_webtorch_oip.h"

#include <cinttypes>
#include <cstring>
#include <string_view>

namespace {

using namespace webtorch::json;

/* an output without its name and elements: words, and numbers of 20 digits */
constexpr size_t kOutputLen = 128 + 21 * (NGX_WEBTORCH_ARRAY_DIMS + 1);

/* the rest of an answer */
constexpr size_t kAnswerLen = 128;

/* of ngx_webtorch_dtypes[] */
constexpr const char *kDatatypes[NGX_WEBTORCH_NTYPES] = {
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64",
    "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
    "BYTES", "BYTES"
};

/* the length in front of each string of a tensor as bytes */
constexpr size_t kLengthLen = 4;


/* what a request's document says of the inputs */

struct Found {
    ngx_webtorch_array_t  arrays[WEBTORCH_MAX_TENSORS];
    element               data[WEBTORCH_MAX_TENSORS];   /* in JSON */
    std::string_view      strings[WEBTORCH_MAX_TENSORS];   /* as bytes */
    uint32_t              seen;
    std::string_view      rest;           /* of the body after the JSON */
};


int
malformed(const Decoder &d, const char *what)
{
    return ngx_webtorch_error(d.err, 400, "malformed_body",
                              "invalid inference request: %s", what);
}


int
malformed_tensor(const Decoder &d, const char *name, const char *what)
{
    return ngx_webtorch_error(d.err, 400, "malformed_body",
                              "tensor \"%s\": %s", name, what);
}


/* null stands for nothing, as some clients write all that they know of */

bool
find(const object &o, const char *name, element *e)
{
    return o[name].get(*e) == simdjson::SUCCESS && !e->is_null();
}


/* 1: there is none */

int
read_parameters(const Decoder &d, const object &o, object *parameters)
{
    element  e;

    if (!find(o, "parameters", &e)) {
        return 1;
    }

    if (e.get(*parameters) != simdjson::SUCCESS) {
        return malformed(d, "\"parameters\" is no object");
    }

    return 0;
}


/* leaves the flag as it is where there is none */

int
read_flag(const Decoder &d, const object &parameters, const char *name,
    bool *flag)
{
    element  e;

    if (find(parameters, name, &e) && e.get(*flag) != simdjson::SUCCESS) {
        return ngx_webtorch_error(d.err, 400, "malformed_body",
                   "invalid inference request: \"%s\" is neither true nor "
                   "false", name);
    }

    return 0;
}


/* extensions that are not there must not be silently left out */

int
refuse_parameter(const Decoder &d, const object &parameters, const char *name)
{
    element  e;

    if (!find(parameters, name, &e)) {
        return 0;
    }

    return ngx_webtorch_error(d.err, 400, "malformed_body",
               "invalid inference request: the parameter \"%s\" is not "
               "supported", name);
}


int
read_datatype(const Decoder &d, const webtorch_spec_t &spec,
    const object &tensor, ngx_webtorch_array_t *found)
{
    char              text[32], shape[NGX_WEBTORCH_SHAPE_LEN];
    size_t            len;
    std::string_view  name;

    if (tensor["datatype"].get(name) != simdjson::SUCCESS) {
        return malformed_tensor(d, spec.name, "it has no datatype");
    }

    if (name == kDatatypes[spec.dtype]) {
        found->dtype = spec.dtype;
        return 0;
    }

    for (int32_t i = 0; i < NGX_WEBTORCH_NDTYPES; i++) {
        if (name == kDatatypes[i]) {
            found->dtype = i;
            return 0;
        }
    }

    len = name.copy(text, sizeof(text) - 1);
    text[len] = '\0';

    return ngx_webtorch_error_mismatch(d.err, "wrong_dtype", d.schema, &spec,
                   text, ngx_webtorch_shape(shape, found->shape, found->ndim));
}


/* takes a string that has its length in front off the rest */

bool
take_string(std::string_view *rest, std::string_view *string)
{
    uint32_t  len;

    if (rest->size() < kLengthLen) {
        return false;
    }

    std::memcpy(&len, rest->data(), kLengthLen);
    rest->remove_prefix(kLengthLen);

    if (len > rest->size()) {
        return false;
    }

    *string = rest->substr(0, len);
    rest->remove_prefix(len);

    return true;
}


/* counts the strings of a tensor; they are as long as they are many */

int
read_strings(const Decoder &d, const webtorch_spec_t &spec,
    std::string_view strings, ngx_webtorch_array_t *found)
{
    size_t            n = 0;
    std::string_view  string;

    while (!strings.empty()) {
        if (!take_string(&strings, &string)) {
            return malformed_tensor(d, spec.name,
                                    "a string leads beyond its data");
        }

        if (spec.dtype == WEBTORCH_STR
            && !string.empty()
            && !simdjson::validate_utf8(string.data(), string.size()))
        {
            return ngx_webtorch_error(d.err, 422, "wrong_dtype",
                       "tensor \"%s\": a string is not UTF-8", spec.name);
        }

        d.layout->text += string.size();
        n++;
    }

    found->data = nullptr;
    found->len = n * sizeof(webtorch_text_t);

    return 0;
}


int
read_binary(const Decoder &d, const webtorch_spec_t &spec, const element &size,
    ngx_webtorch_array_t *found, std::string_view *rest)
{
    uint64_t  len;

    if (size.get(len) != simdjson::SUCCESS || len > rest->size()) {
        return malformed_tensor(d, spec.name,
                                "its binary_data_size leads beyond the body");
    }

    found->data = rest->data();
    found->len = len;

    rest->remove_prefix(len);

    return 0;
}


size_t
count(const array &a)
{
    size_t  n = a.size();

    if (n < kMaxCounted) {
        return n;
    }

    n = 0;

    for (element e : a) {
        (void) e;
        n++;
    }

    return n;
}


/*
 * The elements along the first ones, which all are as many, or the array is
 * ragged and refused when it is read.  Nothing is allocated on a promise.
 */

int
count_elements(const Decoder &d, const webtorch_spec_t &spec, element e,
    ngx_webtorch_array_t *found)
{
    array     a;
    size_t    n = 1;
    uint64_t  expected = 1;

    while (e.get(a) == simdjson::SUCCESS) {
        n *= count(a);

        if (n == 0 || n > d.len) {
            break;
        }

        e = *a.begin();
    }

    for (uint32_t i = 0; i < found->ndim; i++) {
        if (__builtin_mul_overflow(expected,
                                   static_cast<uint64_t>(found->shape[i]),
                                   &expected))
        {
            expected = UINT64_MAX;
            break;
        }
    }

    if (n != expected || n > most_elements(d, spec.dtype)) {
        return malformed_tensor(d, spec.name,
                                "its shape is not that of its data");
    }

    found->data = nullptr;
    found->len = n * ngx_webtorch_dtypes[found->dtype].size;

    return 0;
}


int
read_data(const Decoder &d, const webtorch_spec_t &spec, const object &tensor,
    Found *found, uint32_t i)
{
    int                    rc;
    bool                   binary, text;
    object                 parameters;
    element                size;
    ngx_webtorch_array_t  *a = &found->arrays[i];

    binary = false;
    text = find(tensor, "data", &found->data[i]);

    rc = read_parameters(d, tensor, &parameters);

    if (rc == -1) {
        return -1;
    }

    if (rc == 0) {
        if (refuse_parameter(d, parameters, "shared_memory_region") != 0) {
            return -1;
        }

        binary = find(parameters, "binary_data_size", &size);
    }

    if (binary == text) {
        return malformed_tensor(d, spec.name,
                                binary ? "it has both data and "
                                         "binary_data_size"
                                       : "it has neither data nor "
                                         "binary_data_size");
    }

    if (!binary) {
        if (ngx_webtorch_is_string(spec.dtype)) {
            d.layout->text += count_text(found->data[i]);
        }

        return count_elements(d, spec, found->data[i], a);
    }

    if (read_binary(d, spec, size, a, &found->rest) != 0) {
        return -1;
    }

    if (!ngx_webtorch_is_string(spec.dtype) || a->dtype != spec.dtype) {
        return 0;
    }

    found->strings[i] = std::string_view(a->data, a->len);

    return read_strings(d, spec, found->strings[i], a);
}


int
read_input(const Decoder &d, const element &e, Found *found)
{
    object            tensor;
    uint32_t          i;
    std::string_view  name;

    if (e.get(tensor) != simdjson::SUCCESS
        || tensor["name"].get(name) != simdjson::SUCCESS)
    {
        return malformed(d, "an input has no name");
    }

    i = ngx_webtorch_find_input(d.schema, name.data(), name.size());

    if (i == d.schema->ninputs) {
        return ngx_webtorch_error_unknown(d.err, name.data(), name.size());
    }

    const webtorch_spec_t &spec = d.schema->inputs[i];

    if (found->seen & (1u << i)) {
        return ngx_webtorch_error_duplicate(d.err, &spec);
    }

    found->seen |= 1u << i;

    if (read_shape(tensor, spec, &found->arrays[i], d.err) != 0
        || read_datatype(d, spec, tensor, &found->arrays[i]) != 0)
    {
        return -1;
    }

    return read_data(d, spec, tensor, found, i);
}


int
read_inputs(const Decoder &d, const object &root, Found *found)
{
    array     inputs;
    uint32_t  i;

    if (root["inputs"].get(inputs) != simdjson::SUCCESS) {
        return malformed(d, "it has no \"inputs\"");
    }

    found->seen = 0;

    for (element e : inputs) {
        if (read_input(d, e, found) != 0) {
            return -1;
        }
    }

    for (i = 0; i < d.schema->ninputs; i++) {
        if (!(found->seen & (1u << i))) {
            return ngx_webtorch_error_missing(d.err, &d.schema->inputs[i]);
        }
    }

    if (!found->rest.empty()) {
        return malformed(d, "the tensors are not all of the body");
    }

    return 0;
}


int
read_id(const Decoder &d, const object &root, ngx_webtorch_oip_t *oip)
{
    element           e;
    std::string_view  id;

    oip->id_len = 0;

    if (!find(root, "id", &e)) {
        return 0;
    }

    if (e.get(id) != simdjson::SUCCESS || id.size() > NGX_WEBTORCH_OIP_ID_LEN) {
        return malformed(d, "\"id\" is no string of 256 bytes at most");
    }

    oip->id_len = id.copy(oip->id, NGX_WEBTORCH_OIP_ID_LEN);

    return 0;
}


uint32_t
find_output(const webtorch_schema_t *schema, std::string_view name)
{
    uint32_t  i;

    for (i = 0; i < schema->noutputs; i++) {
        if (name == schema->outputs[i].name) {
            break;
        }
    }

    return i;
}


int
read_output(const Decoder &d, const element &e, bool binary, uint32_t *seen,
    ngx_webtorch_oip_t *oip)
{
    int               rc;
    object            tensor, parameters;
    uint32_t          i;
    std::string_view  name;

    if (e.get(tensor) != simdjson::SUCCESS
        || tensor["name"].get(name) != simdjson::SUCCESS)
    {
        return malformed(d, "an output has no name");
    }

    i = find_output(d.schema, name);

    if (i == d.schema->noutputs) {
        return ngx_webtorch_error_unknown(d.err, name.data(), name.size());
    }

    if (*seen & (1u << i)) {
        return ngx_webtorch_error_duplicate(d.err, &d.schema->outputs[i]);
    }

    *seen |= 1u << i;

    rc = read_parameters(d, tensor, &parameters);

    if (rc == -1
        || (rc == 0
            && (refuse_parameter(d, parameters, "shared_memory_region") != 0
                || refuse_parameter(d, parameters, "classification") != 0
                || read_flag(d, parameters, "binary_data", &binary) != 0)))
    {
        return -1;
    }

    if (binary) {
        oip->binary |= 1u << oip->noutputs;
    }

    oip->outputs[oip->noutputs++] = i;

    return 0;
}


void
all_outputs(const webtorch_schema_t *schema, bool binary,
    ngx_webtorch_oip_t *oip)
{
    oip->noutputs = schema->noutputs;
    oip->binary = binary ? (1u << schema->noutputs) - 1 : 0;

    for (uint32_t i = 0; i < schema->noutputs; i++) {
        oip->outputs[i] = i;
    }
}


int
read_outputs(const Decoder &d, const object &root, ngx_webtorch_oip_t *oip)
{
    int       rc;
    bool      binary = false;
    array     outputs;
    object    parameters;
    element   e;
    uint32_t  seen = 0;

    oip->noutputs = 0;
    oip->binary = 0;

    rc = read_parameters(d, root, &parameters);

    if (rc == -1
        || (rc == 0
            && read_flag(d, parameters, "binary_data_output", &binary) != 0))
    {
        return -1;
    }

    if (find(root, "outputs", &e)) {
        if (e.get(outputs) != simdjson::SUCCESS) {
            return malformed(d, "\"outputs\" is no array");
        }

        for (element output : outputs) {
            if (read_output(d, output, binary, &seen, oip) != 0) {
                return -1;
            }
        }
    }

    if (oip->noutputs == 0) {
        all_outputs(d.schema, binary, oip);
    }

    return 0;
}


/* elements one after the other; as many as there is room for, see above */

template <typename T>
bool
store_flat(const Decoder &d, const element &value, T *p, element *wrong)
{
    array  a;

    *wrong = value;

    if (value.get(a) != simdjson::SUCCESS) {
        return store(d, value, p);
    }

    for (element e : a) {
        if (!store(d, e, p++)) {
            *wrong = e;
            return false;
        }
    }

    return true;
}


template <typename T>
int
read_flat(const Decoder &d, const webtorch_spec_t &spec, const element &value,
    T *p)
{
    element  wrong;

    if (store_flat(d, value, p, &wrong)) {
        return 0;
    }

    d.err->status = 0;

    wrong_element(d, spec, wrong);

    return d.err->status ? -1 : mismatch(d, spec, value);
}


int
read_text(const Decoder &d, const webtorch_spec_t &spec, const element &value,
    bool single, void *data)
{
    array  a;
    bool   nested;

    nested = value.get(a) == simdjson::SUCCESS
             && (*a.begin()).type() == element_type::ARRAY;

    return visit(spec.dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        return nested ? read_rows(d, spec, value, single,
                                  static_cast<T *>(data))
                      : read_flat(d, spec, value, static_cast<T *>(data));
    });
}


void
store_strings(const Decoder &d, std::string_view strings, void *data)
{
    webtorch_text_t  *p = static_cast<webtorch_text_t *>(data);
    std::string_view  string;

    while (take_string(&strings, &string)) {
        store(d, string, p++);
    }
}


int
read_tensors(const Decoder &d, const Found &found)
{
    uint32_t              i;
    ngx_webtorch_sink_t  *sink = d.sink;

    for (i = 0; i < d.schema->ninputs; i++) {
        const ngx_webtorch_array_t &a = found.arrays[i];

        if (a.data != nullptr) {
            std::memcpy(sink->data[i], a.data, a.len);

        } else if (!found.strings[i].empty()) {
            store_strings(d, found.strings[i], sink->data[i]);

        } else if (read_text(d, d.schema->inputs[i], found.data[i],
                             d.layout->single, sink->data[i])
                   != 0)
        {
            return -1;
        }
    }

    return 0;
}


char *
write_text(char *p, std::string_view text)
{
    return static_cast<char *>(std::memcpy(p, text.data(), text.size()))
           + text.size();
}


char *
write_elements(char *p, const webtorch_spec_t &spec, const void *data,
    uint32_t rows)
{
    uint64_t  n = rows * ngx_webtorch_row_elements(&spec);

    return visit(spec.dtype, [&](auto t) {
        using T = typename decltype(t)::type;

        const T *v = static_cast<const T *>(data);

        for (uint64_t i = 0; i < n; i++) {
            if (i) {
                *p++ = ',';
            }

            p = write_number(p, v[i]);
        }

        return p;
    });
}


char *
write_output(char *p, const webtorch_spec_t &spec, const void *data,
    bool binary, const ngx_webtorch_layout_t *layout)
{
    int64_t   shape[NGX_WEBTORCH_ARRAY_DIMS];
    uint32_t  n = ngx_webtorch_array_shape(shape, &spec, layout);

    /* names are Python identifiers: nothing in them to escape */

    p = write_text(p, "{\"name\":\"");
    p = write_text(p, spec.name);
    p = write_text(p, "\",\"datatype\":\"");
    p = write_text(p, kDatatypes[spec.dtype]);
    p = write_text(p, "\",\"shape\":[");

    for (uint32_t i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        p = write_number(p, shape[i]);
    }

    if (binary) {
        p = write_text(p, "],\"parameters\":{\"binary_data_size\":");
        p = write_number(p, ngx_webtorch_oip_size(&spec, data, layout->rows));

        return write_text(p, "}}");
    }

    p = write_text(p, "],\"data\":[");
    p = write_elements(p, spec, data, layout->rows);

    return write_text(p, "]}");
}

} /* namespace */


size_t
ngx_webtorch_oip_size(const webtorch_spec_t *spec, const void *data,
    uint32_t rows)
{
    if (!ngx_webtorch_is_string(spec->dtype)) {
        return rows * static_cast<size_t>(spec->row_size);
    }

    return ngx_webtorch_text_size(spec, data, rows)
           + rows * ngx_webtorch_row_elements(spec) * kLengthLen;
}


char *
ngx_webtorch_oip_pack(char *p, const webtorch_spec_t *spec, const void *data,
    uint32_t rows)
{
    size_t                  n = rows * static_cast<size_t>(spec->row_size);
    uint32_t                len;
    const webtorch_text_t  *text = static_cast<const webtorch_text_t *>(data);

    if (!ngx_webtorch_is_string(spec->dtype)) {
        return static_cast<char *>(std::memcpy(p, data, n)) + n;
    }

    for (n /= sizeof(webtorch_text_t); n; n--, text++) {
        len = static_cast<uint32_t>(text->len);

        p = static_cast<char *>(std::memcpy(p, &len, kLengthLen)) + kLengthLen;

        if (len) {
            std::memcpy(p, reinterpret_cast<const char *>(text->at), len);
            p += len;
        }
    }

    return p;
}


const char *
ngx_webtorch_oip_datatype(int32_t dtype)
{
    return kDatatypes[dtype];
}


int
ngx_webtorch_oip_decode(const char *body, size_t len, size_t header_len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_oip_t *oip,
    ngx_webtorch_error_t *err)
{
    Found                  found;
    object                 root;
    element                e;
    webtorch::Document     document;
    simdjson::error_code   error;

    const Decoder  d = { schema, header_len, layout, sink, err };

    if (header_len > len) {
        return malformed(d, "Inference-Header-Content-Length leads beyond the "
                            "body");
    }

    /* what may be read after the JSON is tensors, or the body's padding */

    error = document.parse(body, header_len, &e);

    if (error != simdjson::SUCCESS) {
        return ngx_webtorch_error(err, 400, "malformed_body",
                                  "invalid JSON: %s",
                                  simdjson::error_message(error));
    }

    if (e.get(root) != simdjson::SUCCESS) {
        return malformed(d, "it is no object");
    }

    found.rest = std::string_view(body + header_len, len - header_len);
    layout->named = 1;
    layout->text = 0;

    if (read_id(d, root, oip) != 0
        || read_outputs(d, root, oip) != 0
        || read_inputs(d, root, &found) != 0
        || ngx_webtorch_arrays_check(found.arrays, schema, layout, err) != 0
        || sink->reserve(sink, layout, err) != 0)
    {
        return -1;
    }

    return read_tensors(d, found);
}


size_t
ngx_webtorch_oip_bound(const ngx_webtorch_oip_t *oip, size_t name_len,
    const webtorch_spec_t *specs, const ngx_webtorch_layout_t *layout)
{
    size_t    size = kAnswerLen + name_len
                     + kEscapedLen * (oip->id_len + layout->text);
    uint32_t  i;

    for (i = 0; i < oip->noutputs; i++) {
        const webtorch_spec_t &spec = specs[oip->outputs[i]];

        size += std::strlen(spec.name) + kOutputLen;

        if (!(oip->binary & (1u << i))) {
            size += layout->rows * ngx_webtorch_row_elements(&spec)
                    * kNumberLen;
        }
    }

    return size;
}


char *
ngx_webtorch_oip_encode(char *p, const ngx_webtorch_oip_t *oip,
    const char *name, size_t name_len, const webtorch_spec_t *specs,
    const void *const *data, const ngx_webtorch_layout_t *layout)
{
    uint32_t  i, k;

    p = write_text(p, "{\"model_name\":\"");
    p = write_text(p, std::string_view(name, name_len));
    p = write_text(p, "\",\"model_version\":\"1\"");

    if (oip->id_len) {
        p = write_text(p, ",\"id\":\"");
        p = write_escaped(p, std::string_view(oip->id, oip->id_len));
        *p++ = '"';
    }

    p = write_text(p, ",\"outputs\":[");

    for (i = 0; i < oip->noutputs; i++) {
        k = oip->outputs[i];

        if (i) {
            *p++ = ',';
        }

        p = write_output(p, specs[k], data[k], oip->binary & (1u << i),
                         layout);
    }

    return write_text(p, "]}");
}
