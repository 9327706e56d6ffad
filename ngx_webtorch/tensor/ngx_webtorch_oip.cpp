
/*
 * Requests of the Open Inference Protocol: JSON,
 *
 *     {"id": "a", "inputs": [{"name": "x", "shape": [1, 2],
 *                             "datatype": "FP32", "data": [0.5, 0.5]}]}
 *
 * and after it the binary tensors.
 */

#include "ngx_webtorch_oip.h"
#include "ngx_webtorch_gaps.h"
#include "ngx_webtorch_hint.h"
#include "ngx_webtorch_oip_input.hpp"

#include <string_view>

namespace {

using namespace webtorch::oip;


/* sets the flag, if there is such a parameter */

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
parse_output(const Decoder &d, const element &e, bool binary, uint32_t *seen,
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
        return ngx_webtorch_error_unknown(d.err, name.data(), name.size(),
                                          d.schema->outputs,
                                          d.schema->noutputs);
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
add_all_outputs(const webtorch_schema_t *schema, bool binary,
    ngx_webtorch_oip_t *oip)
{
    oip->noutputs = schema->noutputs;
    oip->binary = binary ? UINT32_MAX >> (32 - schema->noutputs) : 0;

    for (uint32_t i = 0; i < schema->noutputs; i++) {
        oip->outputs[i] = i;
    }
}


int
parse_outputs(const Decoder &d, const object &root, ngx_webtorch_oip_t *oip)
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
            return malformed(d, "\"outputs\" is not an array");
        }

        for (element output : outputs) {
            if (parse_output(d, output, binary, &seen, oip) != 0) {
                return -1;
            }
        }
    }

    if (oip->noutputs == 0) {
        add_all_outputs(d.schema, binary, oip);
    }

    return 0;
}

} /* namespace */


int
ngx_webtorch_oip_decode(const char *body, size_t len, size_t header_len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_oip_t *oip,
    ngx_webtorch_error_t *err)
{
    Inputs                 inputs;
    object                 root;
    element                e;
    webtorch::Document     document;
    simdjson::error_code   error;

    const Decoder  d = { schema, header_len, layout, sink, err };

    if (header_len > len) {
        return malformed(d, "Inference-Header-Content-Length exceeds the body");
    }

    /* the parser may read beyond the JSON: tensors or padding follow it */

    error = document.parse(body, header_len, &e);

    if (error != simdjson::SUCCESS) {
        return ngx_webtorch_error_json(err, "JSON", body, header_len,
                                       simdjson::error_message(error));
    }

    if (e.get(root) != simdjson::SUCCESS) {
        return malformed(d, "it is not an object");
    }

    inputs.rest = std::string_view(body + header_len, len - header_len);
    layout->named = 1;
    layout->text = 0;

    if (parse_id(d, root, oip) != 0
        || parse_outputs(d, root, oip) != 0
        || parse_inputs(d, root, &inputs) != 0
        || ngx_webtorch_arrays_check(inputs.arrays, inputs.seen, schema, layout,
                                     err)
           != 0
        || ngx_webtorch_gaps_reserve(schema, sink, layout, err) != 0)
    {
        return -1;
    }

    return read_inputs(d, inputs);
}
