
/*
 * The inputs of a request of the Open Inference Protocol.  A tensor has "data"
 * in JSON, nested or not, or "binary_data_size" in its parameters: its bytes
 * follow the JSON then, in the order of the inputs.
 */

#include "ngx_webtorch_oip_input.hpp"

#include <cstring>


namespace webtorch::oip {

namespace {

using webtorch::json::count_text;
using webtorch::json::find_input;
using webtorch::json::kMaxCounted;
using webtorch::json::mismatch;
using webtorch::json::most_elements;
using webtorch::json::read_rows;
using webtorch::json::read_shape;
using webtorch::json::store;
using webtorch::json::store_missing;
using webtorch::json::wrong_element;


int
parse_datatype(const Decoder &d, const webtorch_spec_t &spec,
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


/* takes a string and the length in front of it off the rest */

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


/* counts the strings of a binary tensor, and their bytes */

int
parse_strings(const Decoder &d, const webtorch_spec_t &spec,
    std::string_view strings, ngx_webtorch_array_t *found)
{
    size_t            n = 0;
    std::string_view  string;

    while (!strings.empty()) {
        if (!take_string(&strings, &string)) {
            return malformed_tensor(d, spec.name,
                                    "a string exceeds its data");
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
parse_binary(const Decoder &d, const webtorch_spec_t &spec, const element &size,
    ngx_webtorch_array_t *found, std::string_view *rest)
{
    uint64_t  len;

    if (size.get(len) != simdjson::SUCCESS || len > rest->size()) {
        return malformed_tensor(d, spec.name,
                                "its binary_data_size exceeds the body");
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
 * Counts elements along the first elements; an array where others differ in
 * length is refused when it is read.  The count is bounded by the length of the
 * JSON, as memory is allocated for it.
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
                                "its data do not fit its shape");
    }

    found->data = nullptr;
    found->len = n * ngx_webtorch_dtypes[found->dtype].size;

    return 0;
}


int
parse_data(const Decoder &d, const webtorch_spec_t &spec, const object &tensor,
    Inputs *inputs, uint32_t i)
{
    int                    rc;
    bool                   binary, text;
    object                 parameters;
    element                size;
    ngx_webtorch_array_t  *a = &inputs->arrays[i];

    binary = false;
    text = find(tensor, "data", &inputs->json[i]);

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
            d.layout->text += count_text(inputs->json[i]);
        }

        return count_elements(d, spec, inputs->json[i], a);
    }

    if (parse_binary(d, spec, size, a, &inputs->rest) != 0) {
        return -1;
    }

    if (!ngx_webtorch_is_string(spec.dtype) || a->dtype != spec.dtype) {
        return 0;
    }

    inputs->strings[i] = std::string_view(a->data, a->len);

    return parse_strings(d, spec, inputs->strings[i], a);
}


int
parse_input(const Decoder &d, const element &e, Inputs *inputs)
{
    object            tensor;
    uint32_t          i;
    std::string_view  name;

    if (e.get(tensor) != simdjson::SUCCESS
        || tensor["name"].get(name) != simdjson::SUCCESS)
    {
        return malformed(d, "an input has no name");
    }

    if (find_input(d, name, &i) != 0) {
        return -1;
    }

    const webtorch_spec_t &spec = d.schema->inputs[i];

    if (inputs->seen & (1u << i)) {
        return ngx_webtorch_error_duplicate(d.err, &spec);
    }

    inputs->seen |= 1u << i;

    if (read_shape(tensor, spec, &inputs->arrays[i], d.err) != 0
        || parse_datatype(d, spec, tensor, &inputs->arrays[i]) != 0)
    {
        return -1;
    }

    return parse_data(d, spec, tensor, inputs, i);
}


/*
 * Stores the elements of a flat array: count_elements() has checked that there
 * are as many as there is room for.
 */

template <typename T>
bool
store_flat(const Decoder &d, const webtorch_spec_t &spec, const element &value,
    T *p, element *wrong)
{
    array  a;

    *wrong = value;

    if (value.get(a) != simdjson::SUCCESS) {
        return store(d, value, p) || store_missing(d, spec, value, p);
    }

    for (element e : a) {
        if (!store(d, e, p) && !store_missing(d, spec, e, p)) {
            *wrong = e;
            return false;
        }

        p++;
    }

    return true;
}


template <typename T>
int
read_flat(const Decoder &d, const webtorch_spec_t &spec, const element &value,
    T *p)
{
    element  wrong;

    if (store_flat(d, spec, value, p, &wrong)) {
        return 0;
    }

    d.err->status = 0;

    wrong_element(d, spec, wrong);

    return d.err->status ? -1 : mismatch(d, spec, value);
}


int
read_json(const Decoder &d, const webtorch_spec_t &spec, const element &value,
    bool single, void *data)
{
    array  a;
    bool   nested;

    nested = value.get(a) == simdjson::SUCCESS
             && (*a.begin()).type() == element_type::ARRAY;

    return webtorch::visit_all(spec.dtype, [&](auto t) {
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

} /* namespace */


int
parse_inputs(const Decoder &d, const object &root, Inputs *inputs)
{
    array  a;

    if (root["inputs"].get(a) != simdjson::SUCCESS) {
        return malformed(d, "it has no \"inputs\"");
    }

    inputs->seen = 0;

    for (element e : a) {
        if (parse_input(d, e, inputs) != 0) {
            return -1;
        }
    }

    if (!inputs->rest.empty()) {
        return malformed(d, "the tensors do not fill the body");
    }

    return 0;
}


int
read_inputs(const Decoder &d, const Inputs &inputs)
{
    uint32_t              i;
    ngx_webtorch_sink_t  *sink = d.sink;

    for (i = 0; i < d.schema->ninputs; i++) {
        const ngx_webtorch_array_t &a = inputs.arrays[i];

        if (d.layout->absent & (1u << i)) {
            continue;
        }

        if (a.data != nullptr) {
            if (ngx_webtorch_array_copy(&a, &d.schema->inputs[i],
                                        sink->data[i], d.err)
                != 0)
            {
                return -1;
            }

        } else if (!inputs.strings[i].empty()) {
            store_strings(d, inputs.strings[i], sink->data[i]);

        } else if (read_json(d, d.schema->inputs[i], inputs.json[i],
                             d.layout->single, sink->data[i])
                   != 0)
        {
            return -1;
        }
    }

    return 0;
}


} /* namespace webtorch::oip */
