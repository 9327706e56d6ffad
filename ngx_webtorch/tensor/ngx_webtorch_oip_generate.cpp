
/*
 * Requests of the generate extension:
 *
 *     {"id": "a", "text_input": "Once", "parameters": {"temperature": 0.5}}
 *
 * A tensor is a member of the object or of its parameters.
 */

#include "ngx_webtorch_oip_generate.h"
#include "ngx_webtorch_hint.h"
#include "ngx_webtorch_json_tensors.hpp"
#include "ngx_webtorch_oip_parts.hpp"

namespace {

using namespace webtorch::oip;
using webtorch::json::Found;


/* 1: no input has this name */

int
add_member(const Decoder &d, std::string_view name, const element &value,
    Found *found, uint32_t *seen)
{
    uint32_t  i;

    i = ngx_webtorch_find_input(d.schema, name.data(), name.size());

    return (i == d.schema->ninputs)
               ? 1 : webtorch::json::add_found(d, i, value, found, seen);
}


/*
 * A number, a string or a flag that is no input of the function is a parameter
 * of other servers, for example "stream".  A misspelt tensor may be one, too,
 * but arrays are not.
 */

int
find_members(const Decoder &d, const object &root, Found *found, uint32_t *seen)
{
    int  rc;

    for (auto field : root) {

        rc = add_member(d, field.key, field.value, found, seen);

        if (rc == -1) {
            return -1;
        }

        if (rc == 1
            && field.key != "parameters"
            && (field.value.type() == element_type::ARRAY
                || field.value.type() == element_type::OBJECT))
        {
            return ngx_webtorch_error_unknown(d.err, field.key.data(),
                                              field.key.size(),
                                              d.schema->inputs,
                                              d.schema->ninputs);
        }
    }

    return 0;
}


int
find_parameters(const Decoder &d, const object &root, Found *found,
    uint32_t *seen)
{
    int     rc;
    object  parameters;

    rc = read_parameters(d, root, &parameters);

    if (rc != 0) {
        return (rc == 1) ? 0 : -1;
    }

    for (auto field : parameters) {
        if (add_member(d, field.key, field.value, found, seen) == -1) {
            return -1;
        }
    }

    return 0;
}

} /* namespace */


int
ngx_webtorch_oip_generate_decode(const char *body, size_t len,
    const webtorch_schema_t *schema, ngx_webtorch_sink_t *sink,
    ngx_webtorch_layout_t *layout, ngx_webtorch_oip_t *oip,
    ngx_webtorch_error_t *err)
{
    Found                  found[WEBTORCH_MAX_TENSORS];
    object                 root;
    element                e;
    uint32_t               seen = 0;
    webtorch::Document     document;
    simdjson::error_code   error;

    const Decoder  d = { schema, len, layout, sink, err };

    error = document.parse(body, len, &e);

    if (error != simdjson::SUCCESS) {
        return ngx_webtorch_error_json(err, "JSON", body, len,
                                       simdjson::error_message(error));
    }

    if (e.get(root) != simdjson::SUCCESS) {
        return malformed(d, "it is not an object");
    }

    layout->named = 1;

    if (parse_id(d, root, oip) != 0
        || find_members(d, root, found, &seen) != 0
        || find_parameters(d, root, found, &seen) != 0)
    {
        return -1;
    }

    return webtorch::json::decode_tensors(d, found, seen);
}
